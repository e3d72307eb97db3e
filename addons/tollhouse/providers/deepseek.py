"""DeepSeek: https://api-docs.deepseek.com. It speaks OpenAI's API with and without ``/v1``."""

from tollhouse.families.asked import Dialect
from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

DEEPSEEK = Provider(
    name="deepseek",
    company="DeepSeek",
    service="DeepSeek API",
    genai_name="deepseek",
    family=variants.DEEPSEEK,
    hosts=("api.deepseek.com",),
    openai_path="",
    model_globs=("deepseek-*",),
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/models",
    key_variables=("DEEPSEEK_API_KEY",),
    dialect=Dialect(usage_in_stream="on_request"),
)
