"""Azure OpenAI and Foundry: one host a resource. Known by name and host; no endpoint is open yet."""

from tollhouse.providers.base import CredentialSlot, Provider

AZURE = Provider(
    name="azure",
    family="openai",
    hosts=("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"),
    slot=CredentialSlot("api-key"),
    key_variables=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    usage_in_stream="on_request",
)
