"""Google's token endpoint. google-auth signs an assertion, which is posted there for an access
token.

google-auth's own way to post uses `requests`. A session of `requests` takes proxies from the
environment (perhaps this gateway), follows redirects, and raises exceptions that hold the request
with its assertion. `TokenHost` does none of that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from aiohttp.abc import AbstractResolver

from tollhouse.credential.cloud.google import (
    SCOPE,
    TOKEN_URI,
    Minted,
    account_of,
    as_minted,
    prepare,
)
from tollhouse.credential.cloud.token_host import Connector, HostAnswer, TokenHost
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.credential.workers import Workers

_CLOCK_OFF_S: Final = 300.0
_ASSERTION_S: Final = 3600
"""The longest life of an assertion that Google takes."""
_THREADS: Final = 4
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523 2.1."""

# The codes of RFC 6749 5.2, and those that Google adds:
# https://developers.google.com/identity/protocols/oauth2/service-account#error-codes. No other text
# of an answer is repeated.
_CODES: Final = frozenset(
    {
        "access_denied",
        "admin_policy_enforced",
        "deleted_client",
        "disabled_client",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "org_internal",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)


class TokenEndpoint:
    """``ca_file``, ``resolver_factory``, ``connector`` and ``bound_s`` are as in `TokenHost`. ``wall_clock`` gives
    seconds since the epoch. An assertion is valid from that moment, for an hour by Google's clock
    (RFC 7523 3)."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        resolver_factory: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        connector: Connector | None = None,
        bound_s: float = 8.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = TokenHost(
            TOKEN_URI,
            ca_file=ca_file,
            resolver_factory=resolver_factory,
            connector=connector,
            bound_s=bound_s,
        )
        self._wall_clock = wall_clock
        # Signing takes some milliseconds of CPU. For most of them the interpreter's lock is free.
        self._workers = Workers(_THREADS, bound_s, "Signing for Google")

    async def mint(self, account: Secret) -> Minted:
        """A token of ``account``. Raises `CredentialUnavailable`, and `StoreAway` if there was no
        answer. Neither holds anything that was sent or received."""
        outcome = await self._outcome(account)
        if isinstance(outcome, CredentialUnavailable):
            raise outcome
        return outcome

    async def close(self) -> None:
        await self._host.close()

    async def _outcome(self, account: Secret) -> Minted | CredentialUnavailable:
        try:
            body = await self._workers.run(lambda: _signed(account, int(self._wall_clock())))
            answer = await self._host.post(body, _FORM)
        except CredentialUnavailable as error:
            # The exception is made anew: the frames of the first one hold the assertion.
            return type(error)(error.why)
        return _judged(answer, self._host.host, self._wall_clock())


def _signed(account: Secret, now: int) -> bytes:
    """The body of a request for a token. It blocks and runs in a thread. Raises
    `CredentialUnavailable`."""
    prepare()
    info = account_of(account.reveal())
    if isinstance(info, str):
        raise CredentialUnavailable(f"The service account can't be used: {info}.")
    from google.auth import crypt, jwt

    # google-auth has no annotations.
    encode: Any = jwt.encode
    load: Any = crypt.RSASigner.from_service_account_info
    signer: Any = None
    try:
        signer = load(info)
    except Exception as error:
        # The text of the parser's exception may quote the account.
        problem = type(error).__name__
    if signer is None:
        raise CredentialUnavailable(f"The service account's private_key can't be used ({problem}).")
    claims = {
        "iss": info["client_email"],
        "scope": SCOPE,
        "aud": TOKEN_URI,
        "iat": now,
        "exp": now + _ASSERTION_S,
    }
    try:
        assertion: bytes = encode(signer, claims)
        return urlencode({"assertion": assertion.decode(), "grant_type": _GRANT}).encode()
    except Exception as error:
        problem = type(error).__name__
    raise CredentialUnavailable(
        f"Minting an access token failed in the gateway itself ({problem})."
    )


def _judged(answer: HostAnswer, host: str, now: float) -> Minted | CredentialUnavailable:
    try:
        document = json.loads(answer.data)
    except (ValueError, RecursionError):
        document = None
    if answer.status == 200:
        return as_minted(document) or StoreAway(f"What {host} answers is no access token.")
    if 300 <= answer.status < 400:
        return StoreAway(
            f"{host} answers with a redirect ({answer.status}); the assertion is sent nowhere else."
        )
    code = document.get("error") if isinstance(document, dict) else None
    if answer.status not in (400, 401, 403) or not isinstance(code, str):
        return StoreAway(f"{host} gives no token ({answer.status}).")
    shown = f"{answer.status}, {code}" if code in _CODES else str(answer.status)
    return CredentialUnavailable(
        f"Google refuses the service account ({shown}). {_hint(answer.headers, now)}"
    )


def _hint(headers: Mapping[str, str], now: float) -> str:
    """A hint for the log: the clock may be wrong. An assertion is valid for an hour by Google's
    clock, RFC 7523 3."""
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
        off_s = (datetime.fromtimestamp(now, UTC) - theirs).total_seconds()
    except (ValueError, TypeError):
        off_s = 0.0
    if abs(off_s) > _CLOCK_OFF_S:
        return f"The clock of this machine is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} Google's: set it."
    return "Its key may be deleted or disabled, or be another account's."
