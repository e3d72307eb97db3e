"""Google Vertex AI: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest."""

from tollhouse.families import vertex as family
from tollhouse.providers.gemini import OUTPUT_LIMITS
from tollhouse.providers.provider import CredentialSlot, Provider

# https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations
_REGIONS = (
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west4",
    "northamerica-northeast1",
    "southamerica-east1",
    "europe-central2",
    "europe-north1",
    "europe-southwest1",
    "europe-west1",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast3",
    "asia-south1",
    "asia-southeast1",
    "australia-southeast1",
    "me-central1",
    "me-central2",
    "me-west1",
)

VERTEX = Provider(
    name="vertex",
    family=family.VERTEX,
    hosts=(
        "aiplatform.googleapis.com",
        *(f"{region}-aiplatform.googleapis.com" for region in _REGIONS),
        # https://cloud.google.com/vertex-ai/docs/reference/rest#rest_endpoints: of several regions.
        "aiplatform.us.rep.googleapis.com",
        "aiplatform.eu.rep.googleapis.com",
    ),
    # Of express mode; a service account's token goes into Authorization.
    slot=CredentialSlot("x-goog-api-key"),
    free_call="/v1beta1/publishers/google/models?pageSize=1",
    accepts=frozenset({"key", "google"}),
    # Express mode's: google-genai `_api_client.py`. GOOGLE_APPLICATION_CREDENTIALS is a file's name, not a key.
    key_variables=("GOOGLE_API_KEY",),
    who_pays=frozenset({"x-goog-user-project"}),
    prices_from="google",
    longest_context=2_000_000,
    output_limits=OUTPUT_LIMITS,
)
