"""The way to the providers: one attempt at a time over one shared aiohttp session.

The key is put on here (by `sign`) and nowhere else. These defaults of aiohttp are switched off,
because each would change a request that was judged, or mix callers: cookies, redirects, proxies of
the environment, decompression, requoting, headers of its own. Its silent replay of idempotent
requests on a dropped connection is switched off too: nobody would count that attempt.

Foreign exceptions end here. None is kept as a cause or a context: those of aiohttp carry the
request's headers, and so the key.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, cast

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver
from yarl import URL

from tollhouse.credential.lease import Lease
from tollhouse.credential.secret import Secret
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.guard import refused_address
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.resolve import AddressRefused, GuardedResolver
from tollhouse.dispatch.sign import TokenSource, credential_headers, tell_of_clock
from tollhouse.dispatch.transport import (
    WRITE_SLICE,
    Connection,
    SlicedBody,
    as_answer,
    leaving,
    translated,
    without_named,
)
from tollhouse.headers import AWS_SIGNATURE, HOP_BY_HOP, THIS_MESSAGE
from tollhouse.providers import CREDENTIAL_HEADERS, Catalog, Provider

__all__ = ["Answer", "AnswerCut", "Upstream", "UpstreamError"]

log = logging.getLogger(__name__)

_KEEPALIVE_S: Final = 50.0
"""Below the 60 s after which AWS's load balancers close an idle connection."""
_READ_BUFFER: Final = 65_536
"""If the client does not read, twice as many bytes of the answer are kept. Then the provider has to
wait."""

# Headers that only this hop writes or signs.
_OURS: Final = THIS_MESSAGE | AWS_SIGNATURE | {"authorization", "cookie", "proxy-authorization"}


@dataclass(frozen=True, slots=True)
class _Route:
    """The part that all calls to one host of one provider share."""

    origin: str
    tls: ssl.SSLContext | bool
    timeout: aiohttp.ClientTimeout
    head_s: float
    where: str
    authority: str
    """The Host header that aiohttp makes of the origin."""


class Upstream:
    """All connections to providers. They are shared and kept alive. TLS is verified for the
    provider's host, whatever address is dialled.

    ``resolver_factory`` makes the resolver that the guard asks; the default is the system's
    getaddrinfo in a thread. ``tokens`` mints access tokens; without it there are none.
    ``wall_clock`` gives seconds since the epoch, for signatures. ``read_head`` makes the answer of a
    head that has come, and of what is connected to.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
        tokens: TokenSource | None = None,
        wall_clock: Callable[[], float] = time.time,
        read_head: Callable[[aiohttp.ClientResponse, str], Answer] = as_answer,
    ) -> None:
        self.read_head = read_head
        self._catalog = catalog
        self._tokens = tokens
        self._wall_clock = wall_clock
        self._resolver_factory = resolver_factory or aiohttp.ThreadedResolver
        self._routes: dict[tuple[str, str], _Route] = {}
        self._tls: dict[str | None, ssl.SSLContext] = {}
        self._resolver: GuardedResolver | None = None
        self._session: aiohttp.ClientSession | None = None
        slots = {*CREDENTIAL_HEADERS, *(provider.slot.header for provider in catalog.providers)}
        account = {
            header for provider in catalog.providers for header in provider.account_headers.values()
        }
        self._dropped = HOP_BY_HOP | _OURS | slots | account

    async def start(self) -> None:
        """Reads the roots and opens the session on the running loop. Raises ValueError for a ca_file that can't be
        used."""
        self._tls = await asyncio.to_thread(_tls_contexts, self._catalog)
        self._resolver = GuardedResolver(self._catalog, self._resolver_factory())
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            limit=0,
            ttl_dns_cache=10,
            keepalive_timeout=_KEEPALIVE_S,
        )
        # aiohttp has no public way to bring one's own protocol; the tests show that it is the one used.
        connector._factory = cast(
            Any, functools.partial(Connection, loop=asyncio.get_running_loop())
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            requote_redirect_url=False,
            raise_for_status=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_READ_BUFFER,
            max_field_size=32_768,
        )
        # Without this aiohttp sends a GET a second time by itself when a kept connection turns out to be closed.
        self._session._retry_connection = False

    async def close(self) -> None:
        """Closes every connection; attempts under way end with an error."""
        if self._session is not None:
            await self._session.close()
            self._session = None
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
    ) -> Answer:
        """Makes one attempt: at most one request on the wire. Gives the answer when its head is
        there.

        Connecting takes at most ``budget_s``, and at most the provider's ``connect_timeout_s``. The
        head may then take ``answer_timeout_s``. ``on_leaving`` is called when there is a
        connection, just before the request's first byte. If it was not called, the request never
        left. ``minted`` gets each secret that is put on beside the lease's own.

        Raises UpstreamError. Raises CredentialUnavailable for a lease with which nothing can be
        sent, and ValueError for a request that can't be sent as it is; nothing was sent then.
        """
        if self._session is None:
            raise UpstreamError("upstream_unreachable", "The gateway is stopping.", "no")
        provider, lease = outgoing.provider, outgoing.lease
        path_and_query, body = outgoing.path_and_query, outgoing.body
        route = self._routes.get((provider.name, outgoing.host)) or self._route(
            provider, outgoing.host
        )
        url = URL(route.origin + path_and_query, encoded=True)
        if path_and_query[:1] != "/" or url.raw_path_qs != path_and_query:
            raise ValueError("the path cannot be sent byte for byte")
        out = self._headers(outgoing.headers)
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        put_on = await credential_headers(
            outgoing, out, route.authority, now=now, tokens=self._tokens, minted=minted
        )
        if lease.kind != "key":
            names = {name for name, _ in put_on}
            out = [pair for pair in out if pair[0].lower() not in names]
        out += put_on
        timeout, head_s = route.timeout, route.head_s
        if budget_s < provider.connect_timeout_s:
            timeout = _timeout(max(budget_s, 0.001), provider.answer_timeout_s)
            head_s = provider.answer_timeout_s + max(budget_s, 0.0)
        data: bytes | SlicedBody | None = body
        if body is not None and len(body) > WRITE_SLICE:
            data = SlicedBody(body)
        elif not body and outgoing.method in ("GET", "HEAD"):
            data = None
        failure: Exception
        to_tell = [] if on_leaving is None else [on_leaving]
        token = leaving.set(to_tell)
        try:
            async with asyncio.timeout(head_s):
                response = await self._session.request(
                    outgoing.method,
                    url,
                    headers=out,
                    data=data,
                    ssl=route.tls,
                    timeout=timeout,
                    allow_redirects=False,
                )
            # It holds the request's headers. Without this line it would hold them until the
            # answer's end.
            response._request_info = cast(Any, None)
            answer = self.read_head(response, route.where)
            if lease.kind == "aws" and answer.status in (400, 403):
                tell_of_clock(answer, route.where, now)
            return answer
        except UpstreamError:
            raise
        except (aiohttp.ClientError, AddressRefused, OSError) as error:
            failure = translated(error, route.where)
        except ValueError:
            failure = ValueError("the request's head cannot be sent as it is")
        except Exception as error:
            # The log gets neither the frames' variables nor the text, which may repeat a header.
            name, where = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            log.error("an attempt failed in the gateway itself (%s):\n%s", name, where)
            failure = RuntimeError(f"an attempt failed in the gateway itself ({name})")
        finally:
            leaving.reset(token)
            to_tell.clear()
            # An exception's traceback keeps this frame.
            out.clear()
            put_on.clear()
        raise failure

    def token_refused(self, lease: Lease, token: Secret) -> bool:
        """Called when the provider has refused an access token of ``lease``. Says whether the next
        attempt gets another one."""
        return self._tokens is not None and self._tokens.refused(lease.secret, token)

    def _headers(self, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        out = []
        named = ""
        for pair in headers:
            name = pair[0].lower()
            if name not in self._dropped:
                out.append(pair)
            elif name == "connection":
                named += pair[1] + ","
        out = without_named(out, named)
        # `HeadWriter` can write bytes of the request that are no UTF-8. It can write no other
        # surrogates.
        if not (text := "".join(chain.from_iterable(out))).isascii() and not _spelled(text):
            raise ValueError("the request's head cannot be sent as it is")
        out.append(("accept-encoding", "identity"))
        return out

    def _route(self, provider: Provider, host: str) -> _Route:
        # The resolver finds the provider by the host's name. If that were another provider, the
        # guard would judge by the wrong rules.
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
        route = _Route(
            origin=f"{scheme}://{literal}:{provider.port}",
            tls=True if provider.unsafe_plaintext else self._tls[provider.ca_file],
            timeout=_timeout(provider.connect_timeout_s, provider.answer_timeout_s),
            head_s=provider.connect_timeout_s + provider.answer_timeout_s,
            where=f"{host}:{provider.port}",
            authority=literal
            if provider.port == (80 if provider.unsafe_plaintext else 443)
            else f"{literal}:{provider.port}",
        )
        if URL(route.origin, encoded=True).raw_host != host:
            raise ValueError("the host cannot be sent as it is")
        if len(self._routes) >= 4096:
            self._routes.clear()
        self._routes[provider.name, host] = route
        return route


def _timeout(connect_s: float, answer_s: float) -> aiohttp.ClientTimeout:
    # `connect` spans looking up, dialling every address and TLS; no `total`: a stream may take hours.
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=answer_s)


def _tls_contexts(catalog: Catalog) -> dict[str | None, ssl.SSLContext]:
    """One context for each ca_file, because making one takes 20 ms. Raises ValueError."""
    contexts: dict[str | None, ssl.SSLContext] = {}
    for provider in catalog.providers:
        if provider.ca_file in contexts or provider.unsafe_plaintext:
            continue
        try:
            contexts[provider.ca_file] = _tls_context(provider.ca_file or certifi.where())
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"providers.{provider.name}: ca_file {provider.ca_file} cannot be used ({error}); "
                "it must be a readable PEM file of CA certificates"
            ) from None
    return contexts


def _tls_context(ca_file: str) -> ssl.SSLContext:
    # ssl.create_default_context is not used: it reads SSL_CERT_FILE, and writes keys to
    # SSLKEYLOGFILE if the environment says so.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    context.load_verify_locations(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _spelled(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
