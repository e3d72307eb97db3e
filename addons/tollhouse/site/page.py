"""The status page: who spends what, what is left, what was refused. Made on the server; it reads and changes nothing.

It works without JavaScript; with it, it is kept up to date by server-sent events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import Any, Final, Literal

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from tollhouse.accounts.token import is_jwt
from tollhouse.config.admin_tables import OidcConfig
from tollhouse.control.refusal import OperationRefused
from tollhouse.site import charts
from tollhouse.site.access import COOKIE, Access, Viewer
from tollhouse.site.oidc_login import BEGIN, OidcLogin
from tollhouse.site.totals import Families
from tollhouse.site.views import Perform, Views

log = logging.getLogger(__name__)

DAYS: Final = (1, 7, 30, 90)
"""What can be chosen."""
MOST_LIVE: Final = 50
"""Browsers that are kept up to date; others look again by themselves."""
MOST_LIVE_OF_ONE: Final = 5
"""Those of one token."""
EVERY_S: Final = 2.0
_FORM_S: Final = 10.0
"""For the login's form to come."""
_ANOTHER_SITE: Final = (
    "The token came from a page of another site, so nobody was logged in. Type it here."
)
_NO_FORM: Final = (
    "That is not the form of /login. Open /login in a browser, and type the token there; "
    "a program sends Authorization: Bearer."
)
_AMBER: Final = 85
"""Percent of a limit that are taken."""
# No script, style or image but our own files, no frame around it, and no form that goes elsewhere.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript"}


class StatusPage:
    """``perform`` does an operation (`control.operations`); ``families`` are the metrics of all processes; ``reasons`` say why
    the gateway is not ready, and ``warnings`` what is wrong all the same."""

    def __init__(
        self,
        perform: Perform,
        families: Callable[[], Awaitable[Families]],
        reasons: Callable[[], Sequence[str]],
        access: Access,
        *,
        oidc: OidcConfig | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._perform = perform
        self._families = families
        self._reasons = reasons
        self._access = access
        self._oidc = oidc and OidcLogin(oidc, perform, access, self._refused)
        self._every_s = every_s
        self._views = Views(perform, every_s)
        self._live: Counter[str] = Counter()
        """By the token's id."""
        self._stopping = asyncio.Event()
        self._static = {
            name: files("tollhouse.site").joinpath("static", name).read_bytes() for name in _STATIC
        }
        self._templates = Environment(
            loader=PackageLoader("tollhouse.site"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["usd"] = usd
        self._templates.filters["ago"] = ago
        self._templates.filters["moment"] = moment
        self._templates.filters["left"] = left

    def routes(self) -> list[web.RouteDef]:
        return [
            *(self._oidc.routes() if self._oidc else ()),
            web.get("/", self._page, allow_head=False),
            web.get("/login", self._login_form, allow_head=False),
            web.post("/login", self._login),
            web.post("/logout", self._logout),
            web.get("/live", self._events, allow_head=False),
            web.get("/static/{name}", self._file, allow_head=False),
        ]

    def stop(self) -> None:
        """Ends what is kept up to date."""
        self._stopping.set()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        viewer = await self._access.of(request)
        if viewer is None:
            return self._asked_to_log_in(request)
        days = _days(request)
        return self._html("page.html", await self._shown(viewer, days), chosen=days, choices=DAYS)

    async def _login_form(self, request: web.Request) -> web.StreamResponse:
        return self._login_page()

    def _login_page(
        self, status: int = 200, why: str = "", failed: Literal["", "token", "jwt"] = ""
    ) -> web.Response:
        """``why`` is why no login was judged, ``failed`` says what is not good."""
        shown = {"failed": failed, "why": why, "begin": BEGIN if self._oidc else ""}
        return self._html("login.html", shown, status=status)

    def _refused(self, why: str, status: int) -> web.StreamResponse:
        return self._login_page(status, why)

    def refusal(
        self, status: int, why: str, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        """For people, what `http` tells programs as JSON."""
        answer = self._html("refusal.html", {"why": why, "code": status}, status)
        answer.headers.update(headers or {})
        return answer

    async def _login(self, request: web.Request) -> web.StreamResponse:
        if not _same_site(request):
            return self._login_page(403, _ANOTHER_SITE)
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType(reason=_NO_FORM)
        if "Content-Encoding" in request.headers:
            raise web.HTTPUnsupportedMediaType(
                reason="The form is compressed, which is not read here. Send it plain."
            )
        try:
            async with asyncio.timeout(_FORM_S):
                form = await request.post()
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                reason=f"The form did not come within {_FORM_S:.0f} s. Send it again."
            ) from None
        except (ValueError, LookupError):
            raise web.HTTPBadRequest(reason=_NO_FORM) from None
        token = str(form.get("token", "")).strip()
        viewer = await self._access.of_token(token, request)
        if viewer is None:
            return self._login_page(401, failed="jwt" if is_jwt(token) else "token")
        answer = web.Response(status=303, headers={"Location": "/"})
        session, seconds = self._access.begin(token, viewer)
        self._access.set_session(answer, request, session, seconds, "Strict")
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        if _same_site(request):
            self._access.end(request)
        answer = web.Response(status=303, headers={"Location": "/login"})
        self._access.end_cookie(answer, request, COOKIE)
        return answer

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """The page's inner part, whenever it has changed. A session that has ended, and one browser too many, get 204: a browser
        does not come back then (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        viewer = await self._access.of(request)
        if viewer is None or self._live.total() >= MOST_LIVE:
            return web.Response(status=204)
        whose, days = viewer["id"], _days(request)
        if self._live[whose] >= MOST_LIVE_OF_ONE:
            return web.Response(status=204)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._live[whose] += 1
        try:
            await answer.prepare(request)
            last = ""
            while not self._stopping.is_set() and viewer is not None:
                text = self._render("main.html", await self._shown(viewer, days))
                # What only says how long ago something was need not be sent each time.
                if text != last:
                    last = text
                    lines = "".join(f"data: {line}\n" for line in text.splitlines())
                    await answer.write(f"{lines}\n".encode())
                try:
                    async with asyncio.timeout(self._every_s):
                        await self._stopping.wait()
                except TimeoutError:
                    viewer = await self._access.of(request)
            await answer.write(b"event: end\ndata: \n\n")
        except ConnectionError:
            pass
        except OperationRefused as error:
            # The browser comes again; until then the page says that it is not live.
            log.warning("the status page could not be kept up to date (%s)", error)
        except Exception:
            log.exception("the status page could not be kept up to date")
        finally:
            self._live[whose] -= 1
            self._live += Counter()
        return answer

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in _STATIC:
            raise web.HTTPNotFound
        return web.Response(body=self._static[name], content_type=_STATIC[name], charset="utf-8")

    def _asked_to_log_in(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            raise web.HTTPUnauthorized(
                reason="The token is not valid here, has expired, or was revoked. Make one by `tollhouse token create --view`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return web.Response(status=303, headers={"Location": "/login"})

    async def _shown(self, viewer: Viewer, days: int) -> dict[str, Any]:
        """What the templates name."""
        overview = await self._views.of(viewer, days)
        shown: dict[str, Any] = {
            **overview,
            "viewer": viewer,
            "whole": viewer["projects"] is None and not viewer["tenant"],
            "columns": charts.columns(overview["days"]),
            "bars": {
                name: charts.rows(overview[name]) for name in ("projects", "models", "sessions")
            },
            "amber": _AMBER,
            "size": (charts.WIDTH, charts.HEIGHT),
        }
        if shown["whole"]:
            keys, families = await asyncio.gather(
                self._perform("key_list", {}), self._families(), return_exceptions=True
            )
            shown["keys"] = [] if isinstance(keys, BaseException) else _there(keys)
            shown["process"] = [] if isinstance(families, BaseException) else process(families)
            shown["reasons"] = list(self._reasons())
        return shown

    def _render(self, name: str, shown: Mapping[str, Any], **more: object) -> str:
        return self._templates.get_template(name).render(**shown, **more)

    def _html(
        self, name: str, shown: Mapping[str, Any], status: int = 200, **more: object
    ) -> web.Response:
        text = self._render(name, shown, **more)
        return web.Response(
            status=status, text=text, content_type="text/html", charset="utf-8", headers=_HEADERS
        )


def usd(amount: Decimal | str) -> str:
    """Dollars to the cent, and less than a dollar to four digits: ``12.34``, ``0.0012``."""
    value = Decimal(amount)
    if value == 0:
        return "0"
    if abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value:.4f}" if abs(value) >= Decimal("0.0001") else "under 0.0001"


def left(amount: str, limit: str) -> str:
    """What is left of a limit, as `usd` has dollars: ``0.3542 usd``, ``18,630 tokens``, and ``8`` of ``8 concurrent``."""
    unit = limit.partition(" ")[2].partition("/")[0]
    if unit == "usd":
        return f"{usd(amount)} usd"
    counted = f"{Decimal(amount):,f}"
    return counted if unit == "concurrent" else f"{counted} {unit}"


def moment(timestamp: str | None) -> str:
    """An RFC 3339 time in UTC to the second, as people read it: ``2026-08-31 12:00:01``."""
    return (timestamp or "")[:19].replace("T", " ")


def ago(seconds: float | None) -> str:
    """A time span in its largest unit."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


_GAUGES: Final = {
    "tollhouse_calls_in_progress": "Calls under way",
    "tollhouse_holds": "Calls that hold money",
    "tollhouse_spooled_settles": "Charges that wait for Redis",
    "tollhouse_shared_breakers": "Breakers",
    "tollhouse_workers": "Workers",
}


def process(families: Families) -> list[tuple[str, int, bool]]:
    """What the page says of the processes: a name, a number, and whether it is trouble."""
    found = []
    for family in families:
        for name, labels, value in family["samples"]:
            if (shown := _GAUGES.get(name)) is None:
                continue
            state = labels.get("state", "").replace("_", " ")
            bad = bool(value) and state in ("open", "half open")
            found.append((f"{shown}, {state}" if state else shown, int(value), bad))
    return found


def _there(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the paths that have no key, as most have none of several: all of them where none has one."""
    return [row for row in keys if row["state"] != "missing"] or keys


def _days(request: web.Request) -> int:
    text = request.query.get("days", "")
    return next((days for days in DAYS if text == str(days)), 30)


def _same_site(request: web.Request) -> bool:
    """Whether a form of ours was sent, by what a browser says of itself
    (https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Fetch-Site). One that says nothing is no browser of today."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
