"""Endpoints that are never open: they give a credential or a session with which calls would go
around the gateway, or administrate the account.

Most other companies have OpenAI's API only in part. Its closed endpoints are closed at them as well,
so that one that comes later is closed when it comes.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.operation import Operation, Route

MINTS: Final = Operation("sessions", "mints", reads_body=True)
ACCOUNT: Final = Operation("account", "account", reads_body=True)

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ONE: Final = "/[^/]{1,256}"
_MORE: Final = rf"(?:{_ONE}){{0,8}}"
"""The longest path of the administration has eight parts behind its first."""


def mints(pattern: str) -> tuple[Route, ...]:
    """A session is begun, steered or ended by all methods but GET."""
    path = re.compile(pattern)
    return tuple(Route(method, path, MINTS) for method in _METHODS[1:])


def administrates(pattern: str) -> tuple[Route, ...]:
    """``pattern`` and all below it, by each method: also what is only shown is the account's."""
    path = re.compile(pattern + _MORE)
    return tuple(Route(method, path, ACCOUNT) for method in _METHODS)


def never_open(prefix: str) -> tuple[Route, ...]:
    """The closed endpoints of OpenAI's API (openai-python `resources/`), with ``prefix`` instead of
    ``/v1``."""
    return (
        *mints(
            f"{prefix}/realtime/(?:calls|client_secrets|sessions|transcription_sessions"
            "|translations/client_secrets)"
        ),
        *mints(f"{prefix}/realtime/calls{_ONE}/(?:accept|hangup|refer|reject)"),
        *mints(f"{prefix}/(?:chatkit|live|agents)/sessions(?:{_ONE}){{0,2}}"),
        *mints(f"{prefix}/agents/automations(?:{_ONE}){{0,2}}"),
        *administrates(f"{prefix}/(?:organization|projects|vaults|webhook_endpoints)"),
        *administrates(f"{prefix}/fine_tuning/checkpoints{_ONE}/permissions"),
    )


_OF_COMPANIES: Final[dict[str, tuple[Route, ...]]] = {
    # https://api-docs.deepseek.com/api/get-user-balance
    "deepseek": administrates("/user"),
    # https://docs.x.ai/docs/api-reference#get-api-key-information
    "xai": administrates("/v1/api-key"),
    # https://openrouter.ai/docs/api-reference/api-keys/create-keys, .../oauth/exchange-authorization-code-for-api-key
    "openrouter": (
        *mints("/api/v1/(?:auth/keys(?:/[^/]{1,256})?|oauth/token)"),
        *administrates("/api/v1/(?:keys?|credits|activity)"),
    ),
    # https://docs.fireworks.ai/api-reference/create-api-key
    "fireworks": administrates(f"/v1/accounts{_ONE}/(?:users|secrets)"),
    # https://docs.perplexity.ai/api-reference/generate-auth-token-post
    "perplexity": mints("/(?:generate|revoke)_auth_token"),
}


def of_company(company: str) -> tuple[Route, ...]:
    """The endpoints that ``company`` has and OpenAI does not."""
    return _OF_COMPANIES.get(company, ())
