"""OpenRouter: https://openrouter.ai/docs. It speaks OpenAI's API below ``/api/v1``, and says what
each call costs."""

from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

OPENROUTER = Provider(
    name="openrouter",
    company="OpenRouter",
    service="OpenRouter API",
    family=variants.OPENROUTER,
    hosts=("openrouter.ai",),
    openai_path="/api/v1",
    slot=CredentialSlot("authorization", "Bearer "),
    # Its list of models needs no key.
    free_call="/api/v1/key",
    key_variables=("OPENROUTER_API_KEY",),
    longest_context=2_000_000,
)
