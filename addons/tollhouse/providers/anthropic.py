"""Anthropic: https://docs.anthropic.com/en/api. Known by name and host; no endpoint is open yet."""

from tollhouse.providers.base import CredentialSlot, Provider

ANTHROPIC = Provider(
    name="anthropic",
    family="anthropic",
    hosts=("api.anthropic.com",),
    slot=CredentialSlot("x-api-key"),
    key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    who_pays=frozenset({"anthropic-workspace-id"}),
)
