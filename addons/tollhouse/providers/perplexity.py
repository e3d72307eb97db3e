"""Perplexity: https://docs.perplexity.ai. It speaks OpenAI's API, and says what each call costs."""

from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

PERPLEXITY = Provider(
    name="perplexity",
    company="Perplexity",
    service="Perplexity API",
    genai_name="perplexity",
    family=variants.PERPLEXITY,
    hosts=("api.perplexity.ai",),
    openai_path="",
    model_globs=("sonar*",),
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/v1/models",
    key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
)
