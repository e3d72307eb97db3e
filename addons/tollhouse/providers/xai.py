"""xAI: https://docs.x.ai/docs/api-reference. It speaks OpenAI's API."""

from tollhouse.families.asked import Dialect
from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

XAI = Provider(
    name="xai",
    company="xAI",
    service="xAI API",
    genai_name="x_ai",
    family=variants.XAI,
    # us.api.x.ai costs a tenth more, and the price table does not know it.
    hosts=("api.x.ai",),
    openai_path="/v1",
    model_globs=("grok-*",),
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/v1/models",
    key_variables=("XAI_API_KEY", "XAI_MANAGEMENT_KEY"),
    prices_from="x-ai",
    dialect=Dialect(usage_in_stream="on_request"),
    longest_context=2_000_000,
)
