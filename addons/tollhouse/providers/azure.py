"""Azure OpenAI and Foundry: a host for each resource, a key for each."""

import re

from tollhouse.families import azure as family
from tollhouse.families.asked import Dialect
from tollhouse.providers.exchange_terms import ExchangeStep, ExchangeTerms, Parameter, Refusal
from tollhouse.providers.provider import CredentialSlot, Provider

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, "federated credential".
_EXCHANGE = ExchangeTerms(
    steps=(
        ExchangeStep(
            "https://login.microsoftonline.com/{tenant_id}/oauth2/v2.0/token",
            (
                ("client_id", "{client_id}"),
                ("scope", "{scope}"),
                ("grant_type", "client_credentials"),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", "{subject_token}"),
            ),
            "form",
        ),
    ),
    hosts=("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"),
    parameters={
        "tenant_id": Parameter(_GUID),
        "client_id": Parameter(_GUID),
        # Foundry's v1 wants https://ai.azure.com/.default.
        "scope": Parameter(
            re.compile(r"https://(cognitiveservices|ai)\.azure\.com/\.default"),
            "https://cognitiveservices.azure.com/.default",
        ),
    },
    audience="api://AzureADTokenExchange",
    refusals=(
        Refusal(
            "700212", "audience", "No federated credential of the application has this audience."
        ),
        Refusal(
            "700213",
            "rule",
            "No federated credential of the application has this subject; a new one takes minutes to spread.",
        ),
        Refusal(
            "70021",
            "rule",
            "No federated credential of the application has this issuer and subject; a new one takes minutes to spread.",
        ),
        Refusal(
            "700024",
            "subject",
            "The subject token is not within its time; look at this machine's clock.",
        ),
        Refusal("700211", "rule", "No federated credential of the application has this issuer."),
        Refusal("700016", "rule", "The tenant has no application of this client_id."),
        Refusal("90002", "rule", "There is no such tenant_id."),
        Refusal("50196", "network", "It sees a loop of requests and limits the rate.", away=True),
        Refusal("invalid_client", "rule", "The application takes no such assertion."),
        Refusal("unauthorized_client", "rule", "The application may not do this."),
        Refusal("invalid_scope", "rule", "The scope is none."),
    ),
)

AZURE = Provider(
    name="azure",
    company="Microsoft",
    service="Azure OpenAI",
    genai_name="azure.ai.openai",
    family=family.AZURE,
    exchange=_EXCHANGE,
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
