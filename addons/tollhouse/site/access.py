"""Who may look: a bearer token in the request, or the session of a browser that has shown one."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from tollhouse.accounts.token import digest, well_formed
from tollhouse.site.login_attempts import LoginAttempts
from tollhouse.sources import source_of

Viewer = dict[str, Any]
"""`overview.Viewer.as_json`."""

COOKIE: Final = "tollhouse_session"
SESSION_S: Final = 12 * 3600.0
MOST_SESSIONS: Final = 1_000
"""The oldest is ended for a new one."""
MOST_OF_ONE: Final = 20
"""Sessions of one token."""
STALE_S: Final = 600.0
"""For so long a token that was good stays so for the metrics while nobody can say: an outage is when they are needed."""


class TooManyLogins(Exception):
    """Too many logins have failed. ``wait_s`` is how long no other one is judged."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = wait_s


class Access:
    """A session holds the digest of its token, and the token is judged at each request: what is revoked sees nothing more within
    5 s. Sessions are this process's own, so that a restart ends them.

    ``judge`` gives whom the token with a digest shows the page, or None. ``clock`` is monotonic.
    """

    def __init__(
        self,
        judge: Callable[[str], Awaitable[Viewer | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._clock = clock
        self._attempts = LoginAttempts(clock)
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Digest of the session's id -> digest of its token, and its end."""
        self._good: OrderedDict[str, tuple[Viewer, float]] = OrderedDict()
        """Digest of a token -> whom it was found to show last, and when."""

    async def of(self, request: web.Request) -> Viewer | None:
        """Who asks; None for nobody who may look. A bearer token that is wrong is not made good by a session."""
        given = request.headers.getall("Authorization", [])
        if given:
            scheme, _, token = given[0].partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer":
                return None
            return await self.of_token(token.strip(), request)
        held = self._sessions.get(digest(request.cookies.get(COOKIE, "")))
        if held is None or held[1] <= self._clock():
            return None
        return await self._judged(held[0])

    async def of_token(self, token: str, request: web.Request) -> Viewer | None:
        """Whom ``token`` shows the page. Raises `TooManyLogins`."""
        source = source_of(request.remote or "")
        wait_s = self._attempts.wait_s(source)
        # Somebody who guesses, behind the same address, keeps nobody out whose token was good a moment ago.
        if wait_s > 0 and not self._was_good(token):
            raise TooManyLogins(wait_s)
        viewer = await self._judged(digest(token)) if well_formed(token) else None
        if viewer is None:
            self._attempts.failed(source)
        return viewer

    def known(self, request: web.Request) -> Viewer | None:
        """Who asks, as `of` found it before: for a time in which nobody can say."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self._was_good(token.strip()) if scheme.lower() == "bearer" else None

    def _was_good(self, token: str) -> Viewer | None:
        found = self._good.get(digest(token))
        return found[0] if found is not None and self._clock() - found[1] < STALE_S else None

    async def _judged(self, key: str) -> Viewer | None:
        viewer = await self._judge(key)
        self._good.pop(key, None)
        if viewer is not None:
            self._good[key] = viewer, self._clock()
            if len(self._good) > MOST_SESSIONS:
                self._good.popitem(last=False)
        return viewer

    def begin(self, token: str) -> str:
        """The id of a new session of ``token``, which `of_token` has found good."""
        session, held = secrets.token_urlsafe(32), digest(token)
        own = [key for key, (of, _) in self._sessions.items() if of == held]
        for key in own[: max(0, len(own) - MOST_OF_ONE + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)
        self._sessions[digest(session)] = held, self._clock() + SESSION_S
        return session

    def end(self, request: web.Request) -> None:
        self._sessions.pop(digest(request.cookies.get(COOKIE, "")), None)
