"""Together: https://docs.together.ai. It speaks OpenAI's API."""

from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

TOGETHER = Provider(
    name="together",
    company="Together AI",
    service="Together API",
    family=variants.TOGETHER,
    # us-api and ca-api.together.ai cost a quarter more, and the price table does not know them.
    hosts=("api.together.ai", "api.together.xyz"),
    openai_path="/v1",
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/v1/models",
    key_variables=("TOGETHER_API_KEY",),
)
