"""The login at an OpenID provider: authorization code with PKCE, state and nonce (RFC 9700, section 2.1.1).

State, nonce and the verifier of PKCE are in a cookie of the browser that began, for `LOGIN_S`. So no login that another
browser has begun ends in this one, and the listener keeps nothing of a login that does not come back.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from tollhouse.config.admin_tables import CALLBACK, OidcConfig
from tollhouse.control.refusal import OperationRefused
from tollhouse.site.access import PERSON_S, Access
from tollhouse.site.views import Perform

BEGIN: Final = "/oidc/login"
LOGIN_S: Final = 600.0
_COOKIE: Final = "tollhouse_login"
_LONGEST_CODE: Final = 2048
_NOT_BEGUN = (
    "This browser has begun no such login, or it took longer than 10 minutes. Log in again."
)
_GIVEN_UP = "The provider has let nobody in ({error}). Log in again, or use a token."
_OTHER = "The answer is of another provider than the one that was asked. Log in again."
Refuse = Callable[[str, int], web.StreamResponse]
"""The login page with a text, and its status."""


class OidcLogin:
    """``perform`` does an operation; ``refuse`` shows the login page."""

    def __init__(self, oidc: OidcConfig, perform: Perform, access: Access, refuse: Refuse) -> None:
        self._oidc = oidc
        self._perform = perform
        self._access = access
        self._refuse = refuse

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(BEGIN, self._begin, allow_head=False),
            web.get(CALLBACK, self._end, allow_head=False),
        ]

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        try:
            place = await self._perform("person_begin", {})
        except OperationRefused as refused:
            return self._refuse(str(refused), refused.status)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        asked = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": self._oidc.redirect_url,
            "scope": " ".join(self._oidc.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        separator = "&" if urlsplit(place).query else "?"
        answer = web.HTTPSeeOther(f"{place}{separator}{urlencode(asked)}")
        self._access.set_cookie(
            answer, request, _COOKIE, f"{state}.{nonce}.{verifier}", LOGIN_S, "Lax"
        )
        raise answer

    async def _end(self, request: web.Request) -> web.StreamResponse:
        try:
            answer = await self._ended(request)
        except OperationRefused as refused:
            answer = self._refuse(str(refused), 403 if refused.status == 409 else refused.status)
        self._access.end_cookie(answer, request, _COOKIE)
        return answer

    async def _ended(self, request: web.Request) -> web.StreamResponse:
        """Raises `OperationRefused`, and `TooManyLogins`."""
        self._access.judge_attempt(request)
        begun = self._access.cookie(request, _COOKIE).split(".")
        given = request.query.getall("state", [])
        if len(begun) != 3 or len(given) != 1 or not _same(begun[0], given[0]):
            raise OperationRefused(_NOT_BEGUN)
        # RFC 9207: `iss` tells the answer of one provider from that of another.
        if request.query.get("iss", self._oidc.issuer) != self._oidc.issuer:
            raise OperationRefused(_OTHER)
        code = request.query.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE:
            error = ascii(request.query.get("error", "it gives no code")[:40])
            raise OperationRefused(_GIVEN_UP.format(error=error))
        asked = {"code": code, "verifier": begun[2], "nonce": begun[1]}
        try:
            viewer = await self._perform("person_finish", asked)
        except OperationRefused as refused:
            # What was refused before asked nobody. If that counted, a page of another site could lead a browser here again and
            # again, until no login from its address is judged.
            if refused.status == 409:
                self._access.failed(request)
            raise
        # Nowhere else, whatever the request says.
        answer = web.Response(status=303, headers={"Location": "/"})
        session = self._access.begin_person(viewer, PERSON_S)
        self._access.set_session(answer, request, session, PERSON_S, "Lax")
        return answer


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode("utf-8", "replace"))


def _challenge(verifier: str) -> str:
    """RFC 7636, section 4.2: S256."""
    hashed = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
