"""Azure OpenAI and Foundry: a host for each resource, a key for each."""

from tollhouse.families import azure as family
from tollhouse.families.base import Dialect
from tollhouse.providers.provider import CredentialSlot, Provider

AZURE = Provider(
    name="azure",
    family=family.AZURE,
    # Anybody may have a resource under openai.azure.com, cognitiveservices.azure.com or services.ai.azure.com, and would
    # be sent our key: only the configuration knows which are ours.
    hosts=(),
    host_example="NAME.openai.azure.com",
    openai_path="/openai/v1",
    slot=CredentialSlot("api-key"),
    # Azure API Management's, https://learn.microsoft.com/azure/api-management/api-management-subscriptions.
    other_slots=("ocp-apim-subscription-key",),
    # Another deployment answers then, at its own price:
    # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/spillover-traffic-management.
    who_pays=frozenset({"x-ms-spillover-deployment"}),
    free_call="/openai/v1/models",
    key_variables=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    dialect=Dialect(usage_in_stream="on_request"),
    longest_context=2_000_000,
)
