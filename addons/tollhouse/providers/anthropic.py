"""Anthropic: https://platform.claude.com/docs/en/api."""

import re

from tollhouse.families import anthropic as family
from tollhouse.families.base import Dialect
from tollhouse.providers.provider import CredentialSlot, Login, Provider

ANTHROPIC = Provider(
    name="anthropic",
    family=family.ANTHROPIC,
    hosts=("api.anthropic.com",),
    # SDKs send a key here or as a bearer token. Either is stripped from what a workload sends.
    # Claude Code 2.1.332 of November 2026: settings, telemetry, organizations.
    aside=("/api/*",),
    base_paths=("/v1/messages", "/v1/messages/*"),
    # https://docs.anthropic.com/en/api/openai-sdk
    openai_path="/v1",
    model_globs=("claude-*",),
    slot=CredentialSlot("x-api-key"),
    # The version is required: https://docs.anthropic.com/en/api/versioning
    free_call="/v1/models",
    free_call_headers=(("anthropic-version", "2023-06-01"),),
    key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    # Claude Code's, from `claude setup-token` or its own login. An API key is `sk-ant-api...`.
    login=Login(
        re.compile(r"sk-ant-oat[0-9A-Za-z_-]{20,1000}"),
        ("CLAUDE_CODE_OAUTH_TOKEN",),
        hidden_by=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    ),
    who_pays=frozenset({"anthropic-workspace-id", "anthropic-user-profile-id"}),
    dialect=Dialect(own_rules=True),
    longest_context=1_000_000,
)
