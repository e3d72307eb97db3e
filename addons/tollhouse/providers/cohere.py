"""Cohere: https://docs.cohere.com/reference. The list of models is open."""

from tollhouse.providers.base import CredentialSlot, Provider, model_list

COHERE = Provider(
    name="cohere",
    family="cohere",
    hosts=("api.cohere.com", "api.cohere.ai"),
    slot=CredentialSlot("authorization", "Bearer "),
    endpoints=model_list("/v1/models"),
    free_call="/v1/models",
    key_variables=("COHERE_API_KEY", "CO_API_KEY"),
)
