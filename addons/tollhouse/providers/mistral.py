"""Mistral: https://docs.mistral.ai/api. Known by name and host; no endpoint is open yet."""

from tollhouse.providers.base import CredentialSlot, Provider

MISTRAL = Provider(
    name="mistral",
    family="mistral",
    hosts=("api.mistral.ai", "api.eu.mistral.ai", "api.us.mistral.ai"),
    slot=CredentialSlot("authorization", "Bearer "),
    key_variables=("MISTRAL_API_KEY",),
)
