"""Access to what is shown: a bearer token in the request, or the session of a browser that has shown one, or whose person has
logged in."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, NamedTuple

from aiohttp import web

from tollhouse.accounts.token import digest, is_jwt, well_formed
from tollhouse.site.login_attempts import LoginAttempts
from tollhouse.sources import source_of

Viewer = dict[str, Any]
"""`overview.Viewer.as_json`."""

COOKIE: Final = "tollhouse_session"
SESSION_S: Final = 12 * 3600.0
PERSON_S: Final = 3600.0
"""A session of a person. The provider has a session of its own, so that another one costs a click."""
MOST_SESSIONS: Final = 1_000
"""The oldest is ended for a new one."""
MOST_OF_ONE: Final = 20
"""Sessions of one token, or of one person."""
STALE_S: Final = 600.0
"""For so long a token that was good stays so for the metrics while nobody can say: an outage is when they are needed."""
SameSite = Literal["Strict", "Lax"]


class TooManyLogins(Exception):
    """Too many logins have failed. ``wait_s`` is how long no other one is judged."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = wait_s


class _Session(NamedTuple):
    whose: str
    """The digest of a token, or the id of a person."""
    ends: float
    person: Viewer | None = None
    """None: what the token shows is asked at each request."""


async def _nobody(_told: str) -> None:
    return None


async def _stays(_person: str) -> bool:
    return True


class Access:
    """A session holds the digest of its token, or a person, and either is judged at each request: what is revoked sees nothing
    more within 5 s. Sessions are this process's own, so that a restart ends them.

    ``judge`` gives whom the token with a digest shows the page, ``judge_jwt`` the same of a JWT, or None. ``stays`` says whether a
    person was not revoked. ``https_host`` is the host of a URL at which browsers reach the listener by TLS that ends before it.
    ``clock`` is monotonic.
    """

    def __init__(
        self,
        judge: Callable[[str], Awaitable[Viewer | None]],
        clock: Callable[[], float] = time.monotonic,
        *,
        judge_jwt: Callable[[str], Awaitable[Viewer | None]] = _nobody,
        stays: Callable[[str], Awaitable[bool]] = _stays,
        https_host: str = "",
    ) -> None:
        self._judge = judge
        self._judge_jwt = judge_jwt
        self._stays = stays
        self._https_host = _without_port(https_host)
        self._clock = clock
        self._attempts = LoginAttempts(clock)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        """By the digest of their ids."""
        self._good: OrderedDict[str, tuple[Viewer, float]] = OrderedDict()
        """Digest of a token -> whom it was found to show last, and when."""

    async def of(self, request: web.Request) -> Viewer | None:
        """The viewer who asks; None for anybody who may not look. A bearer token that is wrong is not made good by a session."""
        given = request.headers.getall("Authorization", [])
        if given:
            scheme, _, token = given[0].partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer":
                return None
            return await self.of_token(token.strip(), request)
        held = self._sessions.get(digest(self.cookie(request, COOKIE)))
        if held is None or held.ends <= self._clock():
            return None
        if held.person is not None:
            return held.person if await self._stays(held.whose) else None
        return await self._judged(held.whose)

    async def of_token(self, token: str, request: web.Request) -> Viewer | None:
        """Whom ``token`` shows the page. Raises `TooManyLogins`."""
        # Somebody who guesses, behind the same address, keeps nobody out whose token was good a moment ago.
        if self._was_good(token) is None:
            self.judge_attempt(request)
        viewer = None
        if well_formed(token):
            viewer = await self._judged(digest(token))
        elif is_jwt(token):
            viewer = await self._noted(digest(token), self._judge_jwt(token))
        if viewer is None:
            self.failed(request)
        return viewer

    def judge_attempt(self, request: web.Request) -> None:
        """Raises `TooManyLogins`."""
        if (wait_s := self._attempts.wait_s(source_of(request.remote or ""))) > 0:
            raise TooManyLogins(wait_s)

    def failed(self, request: web.Request) -> None:
        """A login of its source has failed."""
        self._attempts.failed(source_of(request.remote or ""))

    def known(self, request: web.Request) -> Viewer | None:
        """The viewer who asks, as `of` found it before: for a time in which Redis can't be asked."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self._was_good(token.strip()) if scheme.lower() == "bearer" else None

    def _was_good(self, token: str) -> Viewer | None:
        found = self._good.get(digest(token))
        return found[0] if found is not None and self._clock() - found[1] < STALE_S else None

    async def _judged(self, key: str) -> Viewer | None:
        return await self._noted(key, self._judge(key))

    async def _noted(self, key: str, judging: Awaitable[Viewer | None]) -> Viewer | None:
        viewer = await judging
        self._good.pop(key, None)
        if viewer is not None:
            self._good[key] = viewer, self._clock()
            if len(self._good) > MOST_SESSIONS:
                self._good.popitem(last=False)
        return viewer

    def begin(self, token: str, viewer: Viewer) -> tuple[str, float]:
        """The id of a new session of ``token``, which `of_token` has found good for ``viewer``, and its seconds. That of a JWT is
        its person's, and ends with it."""
        if is_jwt(token):
            person = {name: value for name, value in viewer.items() if name != "ends_s"}
            seconds = min(PERSON_S, viewer["ends_s"])
            return self.begin_person(person, seconds), seconds
        return self._begun(_Session(digest(token), self._clock() + SESSION_S)), SESSION_S

    def begin_person(self, person: Viewer, seconds: float) -> str:
        """The same of somebody who has logged in."""
        return self._begun(_Session(person["id"], self._clock() + seconds, person))

    def _begun(self, new: _Session) -> str:
        session = secrets.token_urlsafe(32)
        own = [key for key, one in self._sessions.items() if one.whose == new.whose]
        for key in own[: max(0, len(own) - MOST_OF_ONE + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)
        self._sessions[digest(session)] = new
        return session

    def end(self, request: web.Request) -> None:
        self._sessions.pop(digest(self.cookie(request, COOKIE)), None)

    # Cookies

    def set_session(
        self,
        answer: web.StreamResponse,
        request: web.Request,
        session: str,
        seconds: float,
        same_site: SameSite,
    ) -> None:
        self.set_cookie(answer, request, COOKIE, session, seconds, same_site)

    def set_cookie(
        self,
        answer: web.StreamResponse,
        request: web.Request,
        name: str,
        value: str,
        seconds: float,
        same_site: SameSite,
    ) -> None:
        """``Lax`` is for what has to be there when another site leads back here."""
        secure = self._secure(request)
        answer.set_cookie(
            _named(name, secure),
            value,
            max_age=int(seconds),
            httponly=True,
            samesite=same_site,
            secure=secure,
            path="/",
        )

    def cookie(self, request: web.Request, name: str) -> str:
        return request.cookies.get(_named(name, self._secure(request)), "")

    def end_cookie(self, answer: web.StreamResponse, request: web.Request, name: str) -> None:
        secure = self._secure(request)
        answer.del_cookie(_named(name, secure), path="/", secure=secure)

    def _secure(self, request: web.Request) -> bool:
        """Whether the browser speaks TLS: with us, or with what stands before us at that host."""
        named = bool(self._https_host) and _without_port(request.host) == self._https_host
        return request.secure or named


def _without_port(host: str) -> str:
    """As two texts of one host are the same: browsers leave out 443, and may write a name as they like (RFC 9110, section
    4.2.3)."""
    return host.lower().removesuffix(":443")


def _named(name: str, secure: bool) -> str:
    """A cookie of ``__Host-`` was set over TLS by this very host (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-{name}" if secure else name
