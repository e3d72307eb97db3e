"""Groq: https://console.groq.com/docs/openai. It speaks OpenAI's API below ``/openai/v1``."""

from tollhouse.families.asked import Dialect
from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Provider

GROQ = Provider(
    name="groq",
    company="Groq",
    service="GroqCloud",
    genai_name="groq",
    family=variants.GROQ,
    hosts=("api.groq.com",),
    openai_path="/openai/v1",
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/openai/v1/models",
    key_variables=("GROQ_API_KEY",),
    # The last chunk of a stream has x_groq.usage always. 10 seconds of sound at least are charged:
    # https://console.groq.com/docs/speech-to-text.
    dialect=Dialect(usage_in_stream="always", least_seconds=10),
)
