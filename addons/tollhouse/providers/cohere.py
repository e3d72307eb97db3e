"""Cohere: https://docs.cohere.com/reference."""

from tollhouse.families import cohere as family
from tollhouse.providers.provider import CredentialSlot, Provider

COHERE = Provider(
    name="cohere",
    company="Cohere",
    service="Cohere API",
    genai_name="cohere",
    family=family.COHERE,
    hosts=("api.cohere.com", "api.cohere.ai"),
    # https://docs.cohere.com/docs/compatibility-api
    openai_path="/compatibility/v1",
    model_globs=("command-*",),
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/v1/models",
    key_variables=("COHERE_API_KEY", "CO_API_KEY"),
)
