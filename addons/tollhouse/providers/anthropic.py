"""Anthropic: https://docs.anthropic.com/en/api. The list of models is open."""

from tollhouse.families import anthropic as family
from tollhouse.providers.provider import CredentialSlot, Provider

ANTHROPIC = Provider(
    name="anthropic",
    family=family.ANTHROPIC,
    hosts=("api.anthropic.com",),
    # Claude Code 2.1.332 of November 2026: settings, telemetry, organizations.
    aside=("/api/*",),
    base_paths=("/v1/messages",),
    # https://docs.anthropic.com/en/api/openai-sdk
    openai_path="/v1",
    model_globs=("claude-*",),
    slot=CredentialSlot("x-api-key"),
    # The version is required: https://docs.anthropic.com/en/api/versioning
    free_call="/v1/models",
    free_call_headers=(("anthropic-version", "2023-06-01"),),
    key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    who_pays=frozenset({"anthropic-workspace-id"}),
)
