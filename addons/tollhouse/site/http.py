"""The admin listener: /livez and /readyz for probes, /metrics and the status page for who may look, and the admin API, where it
is switched on."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from tollhouse.control.refusal import OperationRefused
from tollhouse.site.access import Access, TooManyLogins, Viewer
from tollhouse.site.admin_api import AdminApi
from tollhouse.site.api_endpoints import PREFIX
from tollhouse.site.connections import Connections
from tollhouse.site.page import StatusPage
from tollhouse.site.problem import ApiProblem, told

log = logging.getLogger(__name__)


class HostPort(Protocol):
    """What a listener is bound to; `config.addresses.Address` is one."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


# RFC 9110 section 7.2: uri-host [":" port]; no userinfo.
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::[0-9]{1,5})?")


def host_named(header: str) -> str | None:
    """The host that a ``Host`` header names, lower case, without port, brackets and trailing dot; None if malformed."""
    match = _HOST.fullmatch(header)
    if match is None:
        return None
    return match["host"].lower().strip("[]").removesuffix(".")


def _same_host(left: str, right: str) -> bool:
    if left == right:
        return True
    try:
        return ipaddress.ip_address(left) == ipaddress.ip_address(right)
    except ValueError:
        return False


# aiohttp logs a traceback for each malformed request, and anybody who reaches the port can send those.
_silent = logging.Logger("tollhouse.site.http", logging.CRITICAL)


_UNENCRYPTED = (
    "A token would pass here in the clear. Reach this port over loopback (kubectl port-forward, ssh -L), give it a certificate "
    "([admin] tls), or write [admin] unsafe_plaintext = true."
)
_HOST_UNKNOWN = "The Host header names none of listen.base_url_hosts; add it there if it is yours."
_NO_METHOD = "This method is answered nowhere here. Send one that the header Allow names."
_NOTHING_HERE = "There is nothing at this path. The status page is at /, and the admin API, where it is on, at /api/v1."
_NO_ENDPOINT = "There is no such endpoint. /api/v1/openapi.json has all of them."
_NOT_THIS_METHOD = "The path does not take this method. Send one that the header Allow names."
_FAULT = "The gateway has failed at this, and its log says why. Try it again, and show the log to whoever runs the gateway."
_TOO_MANY = "Too many logins have failed, of this address or of all. Look at the token that is sent, and come again later."
_NOT_SHOWN = (
    "The metrics are shown to a token that sees all: make one by `tollhouse token create --view` and send it as "
    "Authorization: Bearer, or write [admin] unsafe_open_metrics = true."
)


Telling = Callable[..., web.Response]
"""Status, text and headers of a refusal."""


class Looks(NamedTuple):
    """What the listener shows to who may look. ``access`` None is nobody."""

    access: Access | None = None
    page: StatusPage | None = None
    api: AdminApi | None = None
    open_metrics: bool = False
    """They are shown to everybody."""
    unsafe_plaintext: bool = False
    """Tokens are taken without TLS from other hosts."""
    tls: ssl.SSLContext | None = None


class AdminSite:
    """``GET /livez`` is 200 for as long as the loop answers; ``GET /readyz`` is 200 when ``status()`` names no reason
    against it, else 503 with ``{"ready": false, "reasons": [...]}``; ``GET /metrics`` is what ``metrics()`` gives, its
    content type and its bytes. What ``warnings()`` names stands beside ``"ready": true``. All else takes a token (`Looks`).

    A ``Host`` that is not one of ``allowed_hosts``, the address bound to, or the address on which the connection
    arrived is answered 421: a page that a browser was led to by DNS rebinding names a host of its own, never these.
    """

    def __init__(
        self,
        address: HostPort,
        allowed_hosts: Collection[str],
        status: Callable[[], Sequence[str]],
        metrics: Callable[[], Awaitable[tuple[str, bytes]]],
        warnings: Callable[[], Sequence[str]] = tuple,
        listening: socket.socket | None = None,
        looks: Looks | None = None,
    ) -> None:
        """``listening`` is a bound socket in place of one of its own."""
        self._host, self._port = address.host, address.port
        names = {name.lower().strip("[]").removesuffix(".") for name in allowed_hosts}
        self._allowed = frozenset(names | {self._host.lower().strip("[]")})
        self._status = status
        self._warnings = warnings
        self._metrics_of = metrics
        self._listening = listening
        self._looks = looks or Looks()
        self._runner: web.AppRunner | None = None
        self._connections = Connections()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Bind and serve; the host and port really bound (port 0 takes a free one). Raises `OSError`."""
        app = web.Application(middlewares=[self._guard], client_max_size=4096)
        app.router.add_get("/livez", self._livez, allow_head=False)
        app.router.add_get("/readyz", self._readyz, allow_head=False)
        app.router.add_get("/metrics", self._metrics, allow_head=False)
        if self._looks.page is not None:
            app.add_routes(self._looks.page.routes())
        if self._looks.api is not None:
            app.add_routes(self._looks.api.routes())
        app.on_response_prepare.append(_plain_headers)
        # 60 KB of a compressed body can hold the loop for a second, and aiohttp would inflate it before anybody is asked for a
        # token.
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_silent,
            handle_signals=False,
            shutdown_timeout=1.0,
            auto_decompress=False,
        )
        await runner.setup()
        try:
            if self._listening is not None:
                await web.SockSite(runner, self._listening, ssl_context=self._looks.tls).start()
            else:
                host = self._host.strip("[]")
                await web.TCPSite(runner, host, self._port, ssl_context=self._looks.tls).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        if runner.server is not None:
            self._watching = asyncio.create_task(self._connections.watch(runner.server))
        bound = runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if self._watching is not None:
            self._watching.cancel()
        if self._looks.page is not None:
            self._looks.page.stop()
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with self._connections.busy(request):
            return await self._judged(request, handler)

    async def _judged(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        of_api = self._looks.api is not None and request.path.startswith(f"{PREFIX}/")
        refused = _problem if of_api else self._telling(request)
        if not self._host_allowed(request):
            return refused(421, _HOST_UNKNOWN)
        methods = ("GET", "PUT", "POST", "DELETE") if of_api else ("GET", "POST")
        if request.method not in methods:
            return refused(405, _NO_METHOD, {"Allow": ", ".join(methods) if of_api else "GET"})
        open_path = request.path in ("/livez", "/readyz") or (
            request.path == "/metrics" and self._looks.open_metrics
        )
        if not open_path and not self._keeps_secrets(request):
            return refused(403, _UNENCRYPTED)
        try:
            return await handler(request)
        except ApiProblem as problem:
            return problem.answer()
        except TooManyLogins as error:
            return refused(429, _TOO_MANY, {"Retry-After": str(ceil(error.wait_s))})
        except web.HTTPException as error:
            if error.status < 400:
                raise
            texts = {404: _NO_ENDPOINT if of_api else _NOTHING_HERE, 405: _NOT_THIS_METHOD}
            why = texts.get(error.status, error.reason)
            return refused(error.status, why, _passed_on(error))
        except OperationRefused as error:
            # Arguments that have the right form, and can't be what they are for.
            status = 422 if of_api and error.status == 400 else error.status
            return refused(status, str(error))
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s could not be answered", request.path)
            return refused(500, _FAULT)

    def _telling(self, request: web.Request) -> Telling:
        """How a refusal is told: a page to a browser, and JSON to a program."""
        browser = "text/html" in request.headers.get("Accept", "")
        page = self._looks.page
        return page.refusal if browser and page is not None else _refused

    def _keeps_secrets(self, request: web.Request) -> bool:
        """Whether nobody between here and the client can read what it sends."""
        if request.secure or self._looks.unsafe_plaintext:
            return True
        peer: Any = request.transport and request.transport.get_extra_info("peername")
        try:
            return bool(peer) and ipaddress.ip_address(str(peer[0]).split("%")[0]).is_loopback
        except ValueError:
            return False

    def _host_allowed(self, request: web.Request) -> bool:
        headers = request.headers.getall("Host", [])
        host = host_named(headers[0]) if len(headers) == 1 else None
        if host is None or request.transport is None:
            return False
        arrived_at = request.transport.get_extra_info("sockname")
        names = (*self._allowed, str(arrived_at[0])) if arrived_at else tuple(self._allowed)
        return any(_same_host(host, name) for name in names)

    async def _livez(self, _request: web.Request) -> web.Response:
        return _answer(200, {"live": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        try:
            reasons, warnings = list(self._status()), list(self._warnings())
        except Exception as error:  # fail closed: a status that can't be told is "not ready"
            reasons, warnings = [f"status unknown: {type(error).__name__}"], []
        if reasons:
            return _answer(503, {"ready": False, "reasons": reasons})
        return _answer(200, {"ready": True, **({"warnings": warnings} if warnings else {})})

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._looks.open_metrics:
            viewer = await self._viewer(request)
            if viewer is None:
                return _answer(401, {"error": _NOT_SHOWN}, {"WWW-Authenticate": "Bearer"})
            if viewer["tenant"] or viewer["projects"] is not None:
                return _answer(403, {"error": _NOT_SHOWN})
        try:
            content_type, body = await self._metrics_of()
        except Exception:
            # Neither the exception's text nor a traceback in the answer: what is counted has the names of paths.
            log.exception("the metrics could not be told")
            return _answer(
                500, {"error": "The metrics could not be told; the gateway's log says why."}
            )
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _viewer(self, request: web.Request) -> Viewer | None:
        access = self._looks.access
        if access is None:
            return None
        try:
            return await access.of(request)
        except OperationRefused:
            if (viewer := access.known(request)) is not None:
                return viewer
            raise


def _passed_on(error: web.HTTPException) -> dict[str, str]:
    """Headers that belong to the error."""
    return {
        name: error.headers[name] for name in ("Allow", "WWW-Authenticate") if name in error.headers
    }


def _refused(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return _answer(status, {"error": text}, headers)


def _problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return told(status, text, headers).answer()


def _answer(
    status: int, body: dict[str, object], headers: Mapping[str, str] | None = None
) -> web.Response:
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


async def _plain_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "tollhouse"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
