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
    # Claude takes the key from x-api-key: anthropic-python `lib/foundry.py`. With api-key alone it was 401:
    # https://github.com/anthropics/anthropic-sdk-python/issues/1661.
    slots_below=(("/anthropic/", CredentialSlot("x-api-key")),),
    # Azure API Management's, https://learn.microsoft.com/azure/api-management/api-management-subscriptions.
    other_slots=("ocp-apim-subscription-key",),
    # Another deployment answers then, at its own price:
    # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/spillover-traffic-management.
    who_pays=frozenset({"x-ms-spillover-deployment"}),
    free_call="/openai/v1/models",
    key_variables=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "ANTHROPIC_FOUNDRY_API_KEY"),
    dialect=Dialect(usage_in_stream="on_request"),
    longest_context=2_000_000,
)
