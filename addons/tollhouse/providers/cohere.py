"""Cohere: https://docs.cohere.com/reference. Known by name and host; no endpoint is open yet."""

from tollhouse.providers.base import CredentialSlot, Provider

COHERE = Provider(
    name="cohere",
    family="cohere",
    hosts=("api.cohere.com", "api.cohere.ai"),
    slot=CredentialSlot("authorization", "Bearer "),
    key_variables=("COHERE_API_KEY", "CO_API_KEY"),
)
