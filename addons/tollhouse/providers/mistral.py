"""Mistral: https://docs.mistral.ai/api. The list of models is open."""

from tollhouse.providers.base import CredentialSlot, Provider, model_list

MISTRAL = Provider(
    name="mistral",
    family="mistral",
    hosts=("api.mistral.ai", "api.eu.mistral.ai", "api.us.mistral.ai"),
    slot=CredentialSlot("authorization", "Bearer "),
    endpoints=model_list("/v1/models"),
    free_call="/v1/models",
    key_variables=("MISTRAL_API_KEY",),
)
