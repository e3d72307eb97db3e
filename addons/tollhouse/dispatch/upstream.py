"""The way to the providers: one attempt at a time over one shared pool of connections.

The key is put on here (by `sign`) and nowhere else. The request is written as it was judged: no
cookies, redirects, proxies of the environment, decompression, requoting or headers of aiohttp's.
Nothing is sent again on a dropped connection: nobody would count that attempt.

Foreign exceptions end here. None is kept as a cause or a context: their frames carry the request's
head, and so the key.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver

from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.secret import Secret
from tollhouse.dispatch.answer import Answer, AnswerCut, Sent, UpstreamError
from tollhouse.dispatch.guard import refused_address
from tollhouse.dispatch.http_client import RoundTrip, is_target, request_head
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.pool import DialTarget, Pool, PoolBounds, connect
from tollhouse.dispatch.proxied import StoreSecrets
from tollhouse.dispatch.proxy import ProxyFailed, Via, authorization
from tollhouse.dispatch.resolve import AddressRefused, GuardedResolver, is_address
from tollhouse.dispatch.sign import TokenSource, credential_headers, tell_of_clock
from tollhouse.dispatch.socket_handshake import SocketHandshake
from tollhouse.dispatch.transport import as_answer, translated, without_named
from tollhouse.dispatch.upstream_tls import tls_contexts, with_certificate
from tollhouse.headers import AWS_SIGNATURE, HOP_BY_HOP, THIS_MESSAGE
from tollhouse.providers import CREDENTIAL_HEADERS, Catalog, Provider
from tollhouse.time_limit import TimeLimit

__all__ = ["Answer", "AnswerCut", "Upstream", "UpstreamError"]

log = logging.getLogger(__name__)

# Headers that only this hop writes or signs.
_OURS: Final = THIS_MESSAGE | AWS_SIGNATURE | {"authorization", "cookie", "proxy-authorization"}


_BOUNDS: Final = PoolBounds()


@dataclass(frozen=True, slots=True)
class _Route:
    """The part that all calls to one host of one provider share."""

    target: DialTarget
    """As it is without secrets of the store."""
    timeout: aiohttp.ClientTimeout
    limit: TimeLimit
    """Of an attempt, up to the answer's head."""
    where: str
    authority: str
    """The Host header."""


class Upstream:
    """All connections to providers. They are shared and kept alive. TLS is verified for the
    provider's host, whatever address is dialled.

    ``resolver_factory`` makes the resolver that the guard asks; the default is the system's
    getaddrinfo in a thread. ``tokens`` mints access tokens; without it there are none. ``secrets``
    gives client certificates and the passwords of proxies; without it there are none.
    ``wall_clock`` gives seconds since the epoch, for signatures. ``read_head`` makes the answer of a
    head that has come, and of what is connected to.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
        tokens: TokenSource | None = None,
        secrets: StoreSecrets | None = None,
        bounds: PoolBounds = _BOUNDS,
        wall_clock: Callable[[], float] = time.time,
        read_head: Callable[[RoundTrip, str], Answer] = as_answer,
    ) -> None:
        self.read_head = read_head
        self._catalog = catalog
        self._tokens = tokens
        self._wall_clock = wall_clock
        self._resolver_factory = resolver_factory or aiohttp.ThreadedResolver
        self._routes: dict[tuple[str, str], _Route] = {}
        self._tls: dict[str | None, ssl.SSLContext] = {}
        self._secrets = secrets
        self._bounds = bounds
        self._shown: dict[str, tuple[tuple[Secret, ...], ssl.SSLContext]] = {}
        """By provider: a client certificate with its key, and the context that shows it."""
        self._targets: dict[tuple[str, str], tuple[object, DialTarget]] = {}
        """By provider and host: what was read from the store, and the target that it makes."""
        self._resolver: GuardedResolver | None = None
        self._pool: Pool | None = None
        slots = {*CREDENTIAL_HEADERS, *(provider.slot.header for provider in catalog.providers)}
        account = {
            header for provider in catalog.providers for header in provider.account_headers.values()
        }
        self._dropped = HOP_BY_HOP | _OURS | slots | account

    async def start(self) -> None:
        """Reads the roots and opens the pool on the running loop. Raises ValueError for a ca_file that can't be
        used."""
        self._tls = await asyncio.to_thread(tls_contexts, self._catalog)
        self._resolver = GuardedResolver(self._catalog, self._resolver_factory())
        self._pool = Pool(self._resolver, self._bounds)

    async def close(self) -> None:
        """Closes every connection; attempts under way end with an error."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    async def send(
        self,
        outgoing: Outgoing,
        *,
        budget_s: float,
        on_leaving: Callable[[], None] | None = None,
        minted: Callable[[Secret], None] | None = None,
        upgrade: SocketHandshake | None = None,
        fresh: bool = False,
        creates: bool = False,
    ) -> Answer:
        """Makes one attempt: at most one request on the wire. Gives the answer when its head is
        there.

        Connecting takes at most ``budget_s``, and at most the provider's ``connect_timeout_s``. The
        head may then take ``answer_timeout_s``. ``on_leaving`` is called when there is a
        connection, just before the request's first byte. If it was not called, the request never
        left. ``minted`` gets each secret that is put on beside the lease's own. With ``upgrade`` a
        WebSocket is asked for, and a 101 that fits it is an answer. With ``fresh`` the connection is a
        new one. ``creates`` is `Requested.creates`: then it is worth the cost to find out whether a request
        that was lost was read.

        Raises UpstreamError. Raises CredentialUnavailable for a lease with which nothing can be
        sent, and ValueError for a request that can't be sent as it is; nothing was sent then.
        """
        pool = self._pool
        if pool is None:
            raise UpstreamError("upstream_unreachable", "The gateway is stopping.", "no")
        provider, lease = outgoing.provider, outgoing.lease
        path_and_query, body = outgoing.path_and_query, outgoing.body
        route = self._routes.get((provider.name, outgoing.host)) or self._route(
            provider, outgoing.host
        )
        if not is_target(path_and_query):
            raise ValueError("the path cannot be sent byte for byte")
        out = [*_headers_sent(tuple(outgoing.headers), self._dropped)]
        if upgrade is not None:
            out += upgrade.headers
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        put_on = await credential_headers(
            outgoing, out, route.authority, now=now, tokens=self._tokens, minted=minted
        )
        if lease.kind != "key":
            names = {name for name, _ in put_on}
            out = [pair for pair in out if pair[0].lower() not in names]
        out += put_on
        target = route.target
        if provider.client_certificate or (target.via is not None and target.via.proxy.secret):
            target = await self._with_secrets(provider, outgoing.host, target)
        timeout = route.timeout
        bound: asyncio.Timeout | None = None
        if budget_s < provider.connect_timeout_s:
            timeout = _timeout(max(budget_s, 0.001), provider.answer_timeout_s)
            bound = asyncio.timeout(provider.answer_timeout_s + max(budget_s, 0.0))
        if not body and outgoing.method in ("GET", "HEAD"):
            body = None
        # An upload takes its time: each wait within it is bounded, and the answer's head behind it.
        upload = None
        if body is not None and not isinstance(body, bytes):
            upload, body = body, None
            length = upload.length
            bound = asyncio.timeout(None)
        else:
            length = None if body is None else len(body)
        failure: Exception
        headed = False
        head = b""
        round_trip: RoundTrip | None = None
        try:
            head = request_head(
                outgoing.method,
                path_and_query,
                route.authority,
                out,
                length,
                chunked=upload is not None and length is None,
            )
            async with bound or route.limit.block():
                round_trip = RoundTrip(
                    await connect(pool, target, timeout, fresh=fresh, creates=creates)
                )
                if on_leaving is not None:
                    on_leaving()
                if upload is not None:
                    loop = asyncio.get_running_loop()
                    round_trip.send_upload(
                        head,
                        upload.pieces(),
                        chunked=length is None,
                        silence_s=timeout.sock_read,
                        on_written=lambda: (
                            None
                            if headed or bound is None
                            else bound.reschedule(loop.time() + provider.answer_timeout_s)
                        ),
                    )
                else:
                    round_trip.send(
                        head,
                        body,
                        is_head=outgoing.method.upper() == "HEAD",
                        silence_s=timeout.sock_read,
                    )
                head = b""
                await round_trip.read_head()
                headed = True
                if provider.silence_timeout_s is not None and upgrade is None:
                    round_trip.bound_silence(provider.silence_timeout_s)
            if upgrade is not None and round_trip.status < 300:
                answer = upgrade.accepted(round_trip, route.where)
            else:
                answer = self.read_head(round_trip, route.where)
            if lease.kind == "aws" and answer.status in (400, 403):
                tell_of_clock(answer, route.where, now)
            round_trip = None
            return answer
        except UpstreamError:
            raise
        except (aiohttp.ClientError, AddressRefused, ProxyFailed, OSError) as error:
            failure = translated(error, route.where)
            if round_trip is not None and round_trip.refusal is not None:
                failure = round_trip.refusal
            elif round_trip is not None and failure.code == "upstream_unreachable":
                failure.sent = _sent(round_trip)
        except ValueError:
            failure = ValueError("the request's head cannot be sent as it is")
        except Exception as error:
            # The log gets neither the frames' variables nor the text, which may repeat a header.
            name, where = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            log.error("an attempt failed in the gateway itself (%s):\n%s", name, where)
            failure = RuntimeError(f"an attempt failed in the gateway itself ({name})")
        finally:
            if round_trip is not None:
                round_trip.close()
            # An exception's traceback keeps this frame.
            head = b""
            out.clear()
            put_on.clear()
        raise failure

    def token_refused(self, lease: Lease, token: Secret) -> bool:
        """Called when the provider has refused an access token of ``lease``. Says whether the next
        attempt gets another one."""
        return self._tokens is not None and self._tokens.refused(lease.secret, token)

    def _route(self, provider: Provider, host: str) -> _Route:
        # The resolver finds the provider by the host's name. Of another provider the guard would judge by the wrong rules.
        if self._catalog.by_host(host) != provider:
            raise ValueError("the host is not this provider's")
        if ":" in host or host.replace(".", "").isdigit():
            # aiohttp does not ask the resolver about what looks like an address.
            rule = refused_address(host, allow_private=provider.allow_private)
            if rule is not None:
                raise UpstreamError("upstream_address_refused", f"{host} is {rule}.", "no")
            if provider.connect_to is not None:
                raise ValueError("connect_to does not go with a host that is an address")
        scheme = "http" if provider.unsafe_plaintext else "https"
        literal = f"[{host}]" if ":" in host else host
        target = DialTarget(
            f"{scheme}://{literal}:{provider.port}",
            None if provider.unsafe_plaintext else self._tls[provider.ca_file],
            self._via(provider, host),
        )
        if target.host != host:
            raise ValueError("the host cannot be sent as it is")
        route = _Route(
            target=target,
            timeout=_timeout(provider.connect_timeout_s, provider.answer_timeout_s),
            limit=TimeLimit(provider.connect_timeout_s + provider.answer_timeout_s),
            where=f"{host}:{provider.port}",
            authority=literal
            if provider.port == (80 if provider.unsafe_plaintext else 443)
            else f"{literal}:{provider.port}",
        )
        if len(self._routes) >= 4096:
            self._routes.clear()
        self._routes[provider.name, host] = route
        return route

    def _via(self, provider: Provider, host: str) -> Via | None:
        proxy = provider.upstream_proxy
        if proxy is None:
            return None
        name, port = provider.connect_to or (host, provider.port)
        rule = (
            refused_address(name, allow_private=provider.allow_private)
            if is_address(name)
            else None
        )
        if rule is not None:
            raise UpstreamError("upstream_address_refused", f"{name} is {rule}.", "no")
        return Via(proxy, self._tls[proxy.ca_file] if proxy.tls else None, name, port)

    async def _with_secrets(self, provider: Provider, host: str, target: DialTarget) -> DialTarget:
        """``target`` with the client certificate and the proxy's password that the store has now. Raises
        `CredentialUnavailable`."""
        if self._secrets is None:
            raise CredentialUnavailable(
                "This gateway has no store for client certificates and proxies' passwords."
            )
        read: list[tuple[Secret, ...]] = []
        via, tls = target.via, target.ssl
        if provider.client_certificate:
            shown = await self._secrets.get(provider.client_certificate, "cert", "key")
            read.append(shown)
            tls = await self._shows(provider, provider.client_certificate, shown)
        if via is not None and via.proxy.secret:
            login = await self._secrets.get(via.proxy.secret, "username", "password")
            read.append(login)
            via = replace(via, authorization=authorization(*(one.reveal() for one in login)))
        known = self._targets.get((provider.name, host))
        if known is not None and known[0] == read:
            return known[1]
        # Without TLS (unsafe_plaintext) there is no context.
        context = tls if isinstance(tls, ssl.SSLContext) else None
        made = DialTarget(str(target.url).rstrip("/"), context, via)
        if len(self._targets) >= 4096:
            self._targets.clear()
        self._targets[provider.name, host] = read, made
        return made

    async def _shows(
        self, provider: Provider, path: str, shown: tuple[Secret, ...]
    ) -> ssl.SSLContext:
        known = self._shown.get(provider.name)
        if known is not None and known[0] == shown:
            return known[1]
        # A certificate that was renewed is a new context, and so a new pool of connections.
        made = await asyncio.to_thread(with_certificate, provider.ca_file, path, *shown)
        known = self._shown.get(provider.name)
        if known is not None and known[0] == shown:
            return known[1]
        self._shown[provider.name] = shown, made
        return made


def _sent(round_trip: RoundTrip) -> Sent:
    """Of a request whose connection was lost."""
    if not round_trip.written:
        return "no"
    if round_trip.unread:
        return "unread"
    return "stale" if round_trip.stale else "maybe"


@lru_cache(maxsize=64)
def _headers_sent(
    headers: tuple[tuple[str, str], ...], dropped: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    """What is sent of a request's headers. A connection repeats them with each call. Raises ValueError for what can't be sent."""
    out = []
    named = ""
    for pair in headers:
        name = pair[0].lower()
        if name not in dropped:
            out.append(pair)
        elif name == "connection":
            named += pair[1] + ","
    out = without_named(out, named)
    # `request_head` can write bytes that are no UTF-8 and no other surrogates. An AWS signature is made before that.
    if not (text := "".join(chain.from_iterable(out))).isascii() and not _spelled(text):
        raise ValueError("the request's head cannot be sent as it is")
    return (*out, ("accept-encoding", "identity"))


def _timeout(connect_s: float, answer_s: float) -> aiohttp.ClientTimeout:
    # `connect` spans looking up, dialling every address and TLS; no `total`: a stream may take hours.
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=answer_s)


def _spelled(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
