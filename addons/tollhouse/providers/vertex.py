"""Google Vertex AI: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest."""

import re

from tollhouse.families import vertex as family
from tollhouse.providers.exchange_terms import (
    JWT,
    TOKEN_EXCHANGE,
    ExchangeStep,
    ExchangeTerms,
    Parameter,
    Refusal,
)
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

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_POOL = "//iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{pool}/providers/{pool_provider}"
_NAME = re.compile(r"[a-z0-9-]{4,32}")
# https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token and
# .../iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken.
_EXCHANGE = ExchangeTerms(
    steps=(
        ExchangeStep(
            "https://sts.googleapis.com/v1/token",
            (
                ("grant_type", TOKEN_EXCHANGE),
                ("audience", _POOL),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("subject_token", "{subject_token}"),
                ("subject_token_type", JWT),
                ("scope", _SCOPE),
            ),
            "form",
        ),
        ExchangeStep(
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken",
            (("scope", (_SCOPE,)), ("lifetime", "{lifetime_s}s")),
            "json",
            "camel",
            headers=(("authorization", "Bearer {access_token}"),),
            when="service_account",
        ),
    ),
    hosts=(
        "aiplatform.googleapis.com",
        "*-aiplatform.googleapis.com",
        "aiplatform.*.rep.googleapis.com",
    ),
    parameters={
        "project_number": Parameter(re.compile(r"[0-9]{1,20}")),
        "pool": Parameter(_NAME),
        "pool_provider": Parameter(_NAME),
        # Without it Vertex is called with the federated token itself.
        "service_account": Parameter(
            re.compile(r"[a-z0-9-]{1,63}@[a-z0-9.-]{1,200}\.gserviceaccount\.com"), ""
        ),
        "lifetime_s": Parameter(re.compile(r"[1-9][0-9]{2,4}"), "3600"),
    },
    audience="https:" + _POOL,
    refusals=(
        Refusal(
            "invalid_grant",
            "subject",
            "The pool's provider does not take the token: issuer, audience, attribute condition or time.",
        ),
        Refusal(
            "invalid_target",
            "audience",
            "There is no such pool or provider, or it is switched off.",
        ),
        Refusal("invalid_request", "rule", "The request is not one that the pool takes."),
        Refusal(
            "unauthorized_client",
            "rule",
            "The attribute condition of the pool's provider refuses the subject.",
        ),
        Refusal(
            "PERMISSION_DENIED",
            "rule",
            "The principal may not impersonate the service account (roles/iam.workloadIdentityUser).",
        ),
        Refusal("NOT_FOUND", "rule", "There is no such service account."),
    ),
)

VERTEX = Provider(
    name="vertex",
    company="Google Cloud",
    service="Vertex AI",
    genai_name="gcp.vertex_ai",
    family=family.VERTEX,
    exchange=_EXCHANGE,
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
