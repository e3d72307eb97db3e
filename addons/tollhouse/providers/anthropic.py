"""Anthropic: https://platform.claude.com/docs/en/api."""

import re

from tollhouse.families import anthropic as family
from tollhouse.families.asked import Dialect
from tollhouse.providers.exchange_terms import ID, ExchangeStep, ExchangeTerms, Parameter, Refusal
from tollhouse.providers.provider import CredentialSlot, Login, Provider

# anthropic-python `lib/credentials/`. The second beta is for the exchange alone.
_BETA = "oauth-2025-04-20"
_EXCHANGE = ExchangeTerms(
    steps=(
        ExchangeStep(
            "https://api.anthropic.com/v1/oauth/token",
            (
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("assertion", "{subject_token}"),
                ("federation_rule_id", "{federation_rule_id}"),
                ("organization_id", "{organization_id}"),
                ("service_account_id", "{service_account_id}"),
                ("workspace_id", "{workspace_id}"),
            ),
            "json",
            headers=(("anthropic-beta", f"{_BETA},oidc-federation-2026-04-01"),),
        ),
    ),
    hosts=("api.anthropic.com",),
    parameters={
        "federation_rule_id": Parameter(re.compile(r"fdrl_[A-Za-z0-9_-]{1,100}")),
        "organization_id": Parameter(re.compile(r"[0-9a-fA-F-]{36}")),
        "service_account_id": Parameter(re.compile(r"svac_[A-Za-z0-9_-]{1,100}")),
        "workspace_id": Parameter(ID, ""),
    },
    audience="https://api.anthropic.com",
    refusals=(
        Refusal(
            "authentication_error",
            "rule",
            "It does not say what of rule, workspace, audience or replay it was: its console's authentication events do.",
        ),
        Refusal(
            "invalid_request_error",
            "rule",
            "One of the ids of rule, organization, service account or workspace is badly formed.",
        ),
    ),
    single_use=True,
    call_headers=(("anthropic-beta", _BETA),),
)

ANTHROPIC = Provider(
    name="anthropic",
    company="Anthropic",
    service="Claude API",
    genai_name="anthropic",
    family=family.ANTHROPIC,
    exchange=_EXCHANGE,
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
