"""Access tokens of Google service accounts: minted with google-auth, kept, and minted anew before they end.

https://developers.google.com/identity/protocols/oauth2/service-account. The account's key signs an assertion here; what
leaves is that assertion, to `TOKEN_URI` and nowhere else, and what comes back is the token that calls carry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tollhouse.credential.entry import NEGATIVE_S, RETRY_S, Timer
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.credential.workers import Workers, later

_log = logging.getLogger("tollhouse.credential")

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_UNIVERSE: Final = "googleapis.com"
_EMAIL: Final = re.compile(r"[!-?A-~]+@[!-?A-~]+")
_LONGEST_KEY: Final = 3_500
"""Characters of PEM: 4096 bits have 3,272, Google makes 2048. Whoever may write one place of the store could otherwise hold up
every call: a key of 8192 bits is checked for 12 s, the interpreter's lock held."""

MAX_TOKENS: Final = 1000
"""Kept at once; the one that was not asked for for the longest makes room."""
_BOUND_S: Final = 10.0
"""One minting, the wait for a thread included."""
_THREADS: Final = 4
_MARGIN_S: Final = 10.0
"""A token that ends within it, or within a quarter of its life, is not given out: it might end on its way."""
_RENEW_AT: Final = 0.75
"""Of a token's life, which is an hour."""
_REFUSED_AGAIN_S: Final = 10.0
_FORGET_S: Final = 60.0
"""After a failure, unless it is asked for again."""


@dataclass(frozen=True, slots=True)
class Minted:
    token: Secret
    life_s: float


class Endpoint(Protocol):
    """Who makes a token of an account. Blocks, in a thread."""

    def mint(self, account: Secret) -> Minted:
        """Raises `CredentialUnavailable` for an account that is refused, and `StoreAway` when nobody can tell."""


def account_of(text: str) -> dict[str, str] | str:
    """What is signed with, of the JSON that Google gives for a service account; or a sentence that says why not.

    Only what is needed is taken: an account that names another token endpoint or universe is refused, for a forged one
    would have the assertion sent, or made, for somebody else.
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
    email, key, key_id = found.get("client_email"), found.get("private_key"), found.get("private_key_id", "")
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        return "its client_email is none"
    if not isinstance(key, str) or "PRIVATE KEY" not in key or not isinstance(key_id, str):
        return "it has no private_key in PEM, or a private_key_id that is none"
    if len(key) > _LONGEST_KEY:
        return "its private_key is longer than one of 4096 bits"
    return {"client_email": email, "private_key": key, "private_key_id": key_id, "token_uri": TOKEN_URI}


def prepare() -> None:
    """Load google-auth: in the thread that reads the account, not at the first call. Raises `CredentialUnavailable` when
    it is not installed."""
    try:
        import google.oauth2.service_account  # noqa: F401
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise CredentialUnavailable(
            "A Google service account needs google-auth, which is not installed: `pip install 'tollhouse[vertex]'`."
        )


def check(account: Secret, place: str) -> None:
    """Raises `CredentialUnavailable`, naming ``place``, if no token can ever be made of this account."""
    prepare()
    problem = account_of(account.reveal())
    if isinstance(problem, str):
        raise CredentialUnavailable(f"The service account at {place} can't be used: {problem}.")


@dataclass(slots=True, eq=False)
class _Entry:
    """One account's token, while there is one; times are the clock's."""

    token: Secret | None = None
    life_s: float = 0.0
    ends_at: float = 0.0
    """When it is not given out any more."""
    used_at: float = 0.0
    failure: CredentialUnavailable | None = None
    failures: int = 0
    retry_at: float = 0.0
    refused_until: float = 0.0
    """Until then a token that the provider refuses is not replaced for that."""
    task: asyncio.Task[None] | None = None
    timer: Timer | None = None

    def serves(self, now: float) -> Secret | None:
        return self.token if self.token is not None and now < self.ends_at else None


class AccessTokens:
    """The tokens of all accounts. One is minted once at a time however many calls wait, and again in the background at
    three quarters of its life for as long as calls use it.

    While the endpoint is away a token serves on to its end; when the account is refused it ends at once. A failure is
    remembered for some seconds, more each time. All methods belong to one event loop. ``clock`` is monotonic seconds,
    ``jitter`` gives 0 to 1.
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
        self._endpoint = endpoint
        self._clock = clock
        self._jitter = jitter
        self._call_later = call_later
        self._limit = limit
        self._workers = Workers(_THREADS, bound_s, "Google's token endpoint")
        # By the account itself: a fingerprint has 32 bits, and two tenants may share one.
        self._entries: OrderedDict[Secret, _Entry] = OrderedDict()
        self._closed = False

    def __repr__(self) -> str:
        return f"<AccessTokens of {len(self._entries)} accounts>"

    async def get(self, secret: Secret) -> Secret:
        """The token of the account in ``secret``. Raises `CredentialUnavailable` when there is none to be had."""
        if self._closed:
            raise CredentialUnavailable("The gateway is stopping.")
        entry = self._entry(secret)
        entry.used_at = now = self._clock()
        token = entry.serves(now)
        if token is None and (entry.failure is None or now >= entry.retry_at):
            await self._wait(secret, entry)
            token = entry.serves(self._clock())
        if token is None:
            # A new exception each time: one that is raised twice gathers the frames of both callers.
            failure = entry.failure or StoreAway("Google's token endpoint gave no token in time.")
            raise type(failure)(failure.why)
        return token

    def refused(self, secret: Secret, token: Secret) -> bool:
        """The provider refused ``token``: whether `get` gives another one from now on. Of a new one that is believed
        once in 10 s: of an account that lost its rights every token is refused."""
        entry = self._entries.get(secret)
        if entry is None or entry.token != token:
            return True
        now = self._clock()
        if now < entry.refused_until:
            return False
        entry.refused_until = now + _REFUSED_AGAIN_S
        entry.token = None
        return True

    async def close(self) -> None:
        """Forget every token, and stop what mints."""
        self._closed = True
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for secret in list(self._entries):
            self._forget(secret)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _entry(self, secret: Secret) -> _Entry:
        entry = self._entries.get(secret)
        if entry is None:
            entry = self._entries[secret] = _Entry()
            if len(self._entries) > self._limit:
                self._forget(next(iter(self._entries)))
        self._entries.move_to_end(secret)
        return entry

    def _forget(self, secret: Secret) -> None:
        entry = self._entries.pop(secret)
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.task is not None:
            entry.task.cancel()
        entry.token = None

    async def _wait(self, secret: Secret, entry: _Entry) -> None:
        """For the minting under way, or for a new one. A caller that gives up does not end it."""
        await asyncio.wait([entry.task or self._begin(secret, entry)])

    def _begin(self, secret: Secret, entry: _Entry) -> asyncio.Task[None]:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        name = f"mint {secret.fingerprint}"
        task = entry.task = asyncio.get_running_loop().create_task(self._mint(secret, entry), name=name)
        return task

    async def _mint(self, secret: Secret, entry: _Entry) -> None:
        account = secret.fingerprint
        try:
            minted = await self._workers.run(lambda: self._endpoint.mint(secret))
        except StoreAway as error:
            wait = RETRY_S[min(entry.failures, len(RETRY_S) - 1)] * (1 - 0.5 * self._jitter())
            if entry.failure is None:
                kept = "the one there is serves on" if entry.serves(self._clock()) else "there is none"
                _log.warning("no new access token for service account %s; %s. %s", account, kept, error.why)
            self._failed(secret, entry, StoreAway(error.why), wait)
        except CredentialUnavailable as error:
            if entry.failure is None or entry.failure.why != error.why:
                _log.error("there is no access token for service account %s. %s", account, error.why)
            entry.token = None
            wait = min(NEGATIVE_S * (entry.failures + 1), 30.0)
            self._failed(secret, entry, CredentialUnavailable(error.why), wait)
        else:
            if entry.failure is not None:
                _log.info("service account %s has an access token again", account)
            entry.token, entry.life_s = minted.token, minted.life_s
            entry.ends_at = self._clock() + minted.life_s - min(_MARGIN_S, minted.life_s / 4)
            entry.failure, entry.failures = None, 0
            self._schedule(secret, entry, minted.life_s * _RENEW_AT * (1 - 0.1 * self._jitter()))
        finally:
            entry.task = None

    def _failed(self, secret: Secret, entry: _Entry, failure: CredentialUnavailable, wait: float) -> None:
        entry.failure, entry.retry_at = failure, self._clock() + wait
        entry.failures += 1
        self._schedule(secret, entry, wait if entry.token is not None else _FORGET_S)

    def _schedule(self, secret: Secret, entry: _Entry, delay_s: float) -> None:
        if not self._closed and self._entries.get(secret) is entry:
            entry.timer = self._call_later(delay_s, lambda: self._on_time(secret, entry))

    def _on_time(self, secret: Secret, entry: _Entry) -> None:
        entry.timer = None
        if entry.task is not None or self._closed:
            return
        now = self._clock()
        if entry.serves(now) is None or now - entry.used_at > entry.life_s / 2:
            # Nobody asks for it any more; of an account that was replaced, nobody will.
            self._forget(secret)
        else:
            self._begin(secret, entry)


def as_minted(document: Any) -> Minted | None:
    """The token in the endpoint's answer (RFC 6749 5.1), or None if there is none that a header can carry."""
    if not isinstance(document, dict):
        return None
    token, kind, life_s = document.get("access_token"), document.get("token_type"), document.get("expires_in")
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]{1,16384}", token):
        return None
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return None
    if isinstance(life_s, bool) or not isinstance(life_s, int | float) or not 0 < life_s <= 86_400:
        return None
    return Minted(Secret(token), float(life_s))
