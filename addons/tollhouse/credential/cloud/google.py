"""Access tokens of Google service accounts: minted with google-auth, kept, and minted anew before they end.

https://developers.google.com/identity/protocols/oauth2/service-account. The account's key signs an
assertion here. The assertion goes to `TOKEN_URI` and nowhere else. The answer is the token that
calls carry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tollhouse.credential.entry import NEGATIVE_S, RETRY_S
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.refreshed import Ended, Fresh, NotRead, Refreshed, Timer, Times, later

_log = logging.getLogger("tollhouse.credential")

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_UNIVERSE: Final = "googleapis.com"
_EMAIL: Final = re.compile(r"[!-?A-~]+@[!-?A-~]+")
_LONGEST_KEY: Final = 3_500
"""The most characters of PEM. A key of 4096 bits has 3,272; Google makes keys of 2048 bits. To
check a key of 8192 bits takes 12 s with the interpreter's lock held, so somebody who may write one
path of the store could hold up every call."""

MAX_TOKENS: Final = 1000
"""The most tokens that are kept. The one that was unused for longest makes room."""
_BOUND_S: Final = 10.0
"""The longest that one minting may take, with the wait for a thread."""
_REFUSED_AGAIN_S: Final = 10.0
_TIMES: Final = Times(
    # The part of a token's life before whose end it is minted anew. The life is an hour.
    ahead_share=0.25,
    spread=0.1,
    # A token that ends within this time might end while a call with it is on its way.
    least_s=10.0,
    least_share=0.25,
    retry_s=RETRY_S,
    refused_s=NEGATIVE_S,
    # A token that no call asks for is forgotten after this time, or after ``idle_lives`` of its
    # life if that is longer. After a failure there is no life.
    idle_s=60.0,
    idle_lives=0.5,
)


@dataclass(frozen=True, slots=True)
class Minted:
    token: Secret
    life_s: float


class Endpoint(Protocol):
    """Makes the token of an account."""

    async def mint(self, account: Secret) -> Minted:
        """Raises `CredentialUnavailable` for an account that is refused, and `StoreAway` if there
        was no answer."""

    async def close(self) -> None:
        """Close its connections."""


def account_of(text: str) -> dict[str, str] | str:
    """The fields that signing needs, from the JSON that Google gives for a service account. If it
    can't be used, a sentence that says why.

    An account that names another token endpoint or universe is refused: a forged file would have
    the assertion sent to somebody else, or made for somebody else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("type") != "service_account":
        return "it is not the JSON file of a service account"
    if found.get("token_uri", TOKEN_URI) != TOKEN_URI:
        return f"its token_uri is not {TOKEN_URI}, and an assertion is sent nowhere else"
    if found.get("universe_domain", _UNIVERSE) != _UNIVERSE:
        return f"its universe_domain is not {_UNIVERSE}"
    email, key, key_id = (
        found.get("client_email"),
        found.get("private_key"),
        found.get("private_key_id", ""),
    )
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        return "its client_email is none"
    if not isinstance(key, str) or "PRIVATE KEY" not in key or not isinstance(key_id, str):
        return "it has no private_key in PEM, or a private_key_id that is none"
    if len(key) > _LONGEST_KEY:
        return "its private_key is longer than one of 4096 bits"
    return {
        "client_email": email,
        "private_key": key,
        "private_key_id": key_id,
        "token_uri": TOKEN_URI,
    }


def prepare() -> None:
    """Loads google-auth. The thread that reads the account calls it, so that no call waits for it.
    Raises `CredentialUnavailable` when it is not installed."""
    try:
        import google.auth.crypt
        import google.auth.jwt  # noqa: F401
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise CredentialUnavailable(
            "A Google service account needs google-auth, which is not installed: `pip install 'tollhouse[vertex]'`."
        )


def check(account: Secret, place: str) -> None:
    """Raises `CredentialUnavailable`, whose text names ``place``, if no token can be made of this
    account."""
    prepare()
    problem = account_of(account.reveal())
    if isinstance(problem, str):
        raise CredentialUnavailable(f"The service account at {place} can't be used: {problem}.")


class AccessTokens:
    """The tokens of all accounts. However many calls wait, one token is minted for an account at a
    time. As long as calls use it, it is minted anew in the background at three quarters of its
    life.

    While the endpoint is away, a token serves on until its end. When Google refuses the account,
    its token ends at once. A failure is remembered for some seconds, and for longer each time. All
    methods belong to one event loop. ``clock`` is monotonic seconds, ``jitter`` gives 0 to 1.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Callable[[], float] = time.monotonic,
        *,
        jitter: Callable[[], float] = random.random,
        call_later: Callable[[float, Callable[[], None]], Timer] = later,
        bound_s: float = _BOUND_S,
        limit: int = MAX_TOKENS,
    ) -> None:
        self.endpoint = endpoint
        """The endpoint for the next minting."""
        self._bound_s = bound_s
        # The key is the account itself: a fingerprint has 32 bits, and those of two tenants may be
        # equal.
        self._tokens: Refreshed[Secret, Secret] = Refreshed(
            self._mint,
            _TIMES,
            away=(StoreAway,),
            clock=clock,
            jitter=jitter,
            call_later=call_later,
            limit=limit,
            on_read=_tell,
        )
        self._closed = False

    def __repr__(self) -> str:
        return f"<AccessTokens of {len(self._tokens)} accounts>"

    async def get(self, secret: Secret) -> Secret:
        """The access token for the service account in ``secret``. Raises `CredentialUnavailable`."""
        if self._closed:
            raise CredentialUnavailable("The gateway is stopping.")
        try:
            token = await self._tokens.get(secret)
        except NotRead:
            token = None
        if token is None:
            raise StoreAway("Google's token endpoint gave no token in time.")
        return token

    def refused(self, secret: Secret, token: Secret) -> bool:
        """Called when the provider has refused ``token``. Says whether `get` will give another one.
        A new token is minted for this at most once in 10 s: if an account has lost its rights, each
        of its tokens is refused."""
        return self._tokens.drop(secret, token, _REFUSED_AGAIN_S)

    def forget(self) -> None:
        """Forgets every token."""
        self._tokens.clear()

    async def close(self) -> None:
        """Forgets every token and stops the mintings under way."""
        self._closed = True
        await self._tokens.close()
        await self.endpoint.close()

    async def _mint(self, account: Secret, _: Secret | None) -> Fresh[Secret]:
        try:
            async with asyncio.timeout(self._bound_s):
                minted = await self.endpoint.mint(account)
        except TimeoutError:
            pass
        else:
            return Fresh(minted.token, minted.life_s)
        raise StoreAway(f"Google's token endpoint gave no whole answer within {self._bound_s:g} s.")


def _tell(secret: Secret, read: Ended[Secret]) -> None:
    """Writes to the log what is new about an account."""
    account, error, before = secret.fingerprint, read.error, read.error_before
    if error is None:
        if before is not None:
            _log.info("service account %s has an access token again", account)
        return
    why = error.why if isinstance(error, CredentialUnavailable) else type(error).__name__
    if isinstance(error, StoreAway):
        if before is None:
            serves = read.before is not None and read.ended_at < read.before.ends_at
            kept = "the one there is serves on" if serves else "there is none"
            _log.warning("no new access token for service account %s; %s. %s", account, kept, why)
    elif not isinstance(before, CredentialUnavailable) or before.why != why:
        _log.error("there is no access token for service account %s. %s", account, why)


def as_minted(document: Any) -> Minted | None:
    """The token in the endpoint's answer (RFC 6749 5.1). None if there is no token, or one that
    can't stand in a header."""
    if not isinstance(document, dict):
        return None
    token, kind, life_s = (
        document.get("access_token"),
        document.get("token_type"),
        document.get("expires_in"),
    )
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]{1,16384}", token):
        return None
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return None
    if isinstance(life_s, bool) or not isinstance(life_s, int | float) or not 0 < life_s <= 86_400:
        return None
    return Minted(Secret(token), float(life_s))
