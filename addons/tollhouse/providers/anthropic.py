"""Anthropic: https://docs.anthropic.com/en/api. The list of models is open."""

from tollhouse.providers.base import CredentialSlot, Provider, model_list

ANTHROPIC = Provider(
    name="anthropic",
    family="anthropic",
    hosts=("api.anthropic.com",),
    slot=CredentialSlot("x-api-key"),
    # https://docs.anthropic.com/en/api/models-list; the version is required: https://docs.anthropic.com/en/api/versioning
    endpoints=model_list("/v1/models"),
    free_call="/v1/models",
    free_call_headers=(("anthropic-version", "2023-06-01"),),
    key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    who_pays=frozenset({"anthropic-workspace-id"}),
)
