"""What gives a credential or administrates the account, at OpenAI and at those who speak its API."""

from __future__ import annotations

import pytest

from tollhouse.families.base import Family
from tollhouse.families.opened import opened, parse_opening
from tollhouse.providers import BUILT_IN

FAMILIES = {provider.name: provider.family for provider in BUILT_IN}
CLOSED = [
    ("openai", "POST", "/v1/realtime/client_secrets", "mints"),
    ("openai", "POST", "/v1/realtime/calls/c_1/accept", "mints"),
    ("openai", "POST", "/v1/agents/sessions/s_1", "mints"),
    ("openai", "DELETE", "/v1/agents/sessions/s_1", "mints"),
    ("openai", "POST", "/v1/agents/sessions/s_1/events", "mints"),
    ("openai", "POST", "/v1/agents/automations/a_1/invocations", "mints"),
    ("openai", "POST", "/v1/chatkit/sessions/s_1/cancel", "mints"),
    ("openai", "POST", "/v1/live/sessions/s_1/fork", "mints"),
    ("openai", "GET", "/v1/webhook_endpoints", "account"),
    ("openai", "POST", "/v1/webhook_endpoints/w_1/rotate_secret", "account"),
    ("openai", "POST", "/v1/fine_tuning/checkpoints/ft:m:o::c/permissions", "account"),
    ("openai", "DELETE", "/v1/fine_tuning/checkpoints/ft:m:o::c/permissions/p_1", "account"),
    ("openai", "PATCH", "/v1/organization/projects/p_1", "account"),
    ("openai", "PUT", "/v1/projects/p_1/users/u_1", "account"),
    ("openai", "GET", "/v1/vaults/v_1", "account"),
    ("azure", "POST", "/openai/realtimeapi/sessions", "mints"),
    ("azure", "POST", "/openai/v1/realtime/client_secrets", "mints"),
    ("azure", "PATCH", "/openai/v1/webhook_endpoints/w_1", "account"),
    ("xai", "POST", "/v1/realtime/client_secrets", "mints"),
    ("xai", "GET", "/v1/api-key", "account"),
    ("groq", "POST", "/openai/v1/realtime/sessions", "mints"),
    ("together", "POST", "/v1/realtime/sessions", "mints"),
    ("deepseek", "GET", "/user/balance", "account"),
    ("openrouter", "POST", "/api/v1/keys", "account"),
    ("openrouter", "PATCH", "/api/v1/keys/k_1", "account"),
    ("openrouter", "GET", "/api/v1/key", "account"),
    ("openrouter", "POST", "/api/v1/auth/keys", "mints"),
    ("openrouter", "POST", "/api/v1/auth/keys/code", "mints"),
    ("openrouter", "GET", "/api/v1/credits", "account"),
    ("openrouter", "POST", "/api/v1/credits/coinbase", "account"),
    ("perplexity", "POST", "/generate_auth_token", "mints"),
    ("perplexity", "POST", "/revoke_auth_token", "mints"),
    ("fireworks", "POST", "/v1/accounts/a/users/u/apiKeys", "account"),
    ("fireworks", "POST", "/v1/accounts/a/users/u/apiKeys:delete", "account"),
    ("fireworks", "GET", "/v1/accounts/a/users", "account"),
]


def _with_stars(family: Family, method: str, path: str) -> Family:
    """``family`` with the path opened, in full and by stars."""
    stars = "/*" * path.count("/")
    texts = [f"{method} {stars}"] if ":" in path else [f"{method} {stars}", f"{method} {path}"]
    return opened(family, map(parse_opening, texts), ())


@pytest.mark.parametrize(("company", "method", "path", "cost"), CLOSED)
def test_what_is_never_open(company: str, method: str, path: str, cost: str) -> None:
    """Whatever an operator opens, and however the path is spelled."""
    family = FAMILIES[company]
    for one in (family, _with_stars(family, method, path)):
        found = one.operation(method, path)
        assert found is not None
        assert found.cost == cost
    respelled = _with_stars(family, method, path).operation(method, path.upper())
    assert respelled is not None
    assert respelled.cost == cost


def test_what_only_looks_alike() -> None:
    """To look at a session is no session, and accounts have more than users."""
    for company, method, path in (
        ("openai", "GET", "/v1/agents/sessions/s_1"),
        ("fireworks", "GET", "/v1/accounts/a/models"),
        ("openrouter", "GET", "/api/v1/generation"),
    ):
        assert FAMILIES[company].operation(method, path) is None
