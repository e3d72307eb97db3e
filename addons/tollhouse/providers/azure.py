"""Azure OpenAI and Foundry: a host for each resource, a key for each. The list of models is open."""

from tollhouse.providers.base import CredentialSlot, Provider, model_list

AZURE = Provider(
    name="azure",
    family="openai",
    # Anybody may have a resource under openai.azure.com, cognitiveservices.azure.com or services.ai.azure.com, and would
    # be sent our key: only the configuration knows which are ours.
    hosts=(),
    slot=CredentialSlot("api-key"),
    # https://learn.microsoft.com/rest/api/microsoft-foundry/azureopenai/models: /v1 needs no api-version, the other does.
    endpoints=(*model_list("/openai/v1/models"), *model_list("/openai/models")),
    free_call="/openai/v1/models",
    key_variables=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    usage_in_stream="on_request",
    longest_context=2_000_000,
)
