"""Mistral: https://docs.mistral.ai/api."""

from tollhouse.families import mistral as family
from tollhouse.providers.provider import CredentialSlot, Provider

MISTRAL = Provider(
    name="mistral",
    company="Mistral AI",
    service="Mistral API",
    genai_name="mistral_ai",
    family=family.MISTRAL,
    hosts=("api.mistral.ai", "api.eu.mistral.ai", "api.us.mistral.ai"),
    openai_path="/v1",
    # https://docs.mistral.ai/getting-started/models
    model_globs=(
        *("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*"),
        *("pixtral-*", "voxtral-*"),
    ),
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/v1/models",
    key_variables=("MISTRAL_API_KEY",),
)
