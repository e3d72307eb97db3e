"""Fireworks: https://docs.fireworks.ai. It speaks OpenAI's API below ``/inference/v1``."""

from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

FIREWORKS = Provider(
    name="fireworks",
    company="Fireworks AI",
    service="Fireworks API",
    family=variants.FIREWORKS,
    hosts=("api.fireworks.ai",),
    openai_path="/inference/v1",
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/inference/v1/models",
    key_variables=("FIREWORKS_API_KEY",),
)
