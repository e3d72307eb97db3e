"""Judges CONNECT and TLS handshakes: which host a tunnel may be for, and who it is answered as."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from tollhouse.admit.authority import admit_connect, admit_sni
from tollhouse.book import Book, Concluded
from tollhouse.call import Arrival, ListenerKind, RequestHead
from tollhouse.companions import Passable
from tollhouse.denial import Denial, Refused
from tollhouse.listen.doors import ConnectRequest
from tollhouse.providers import Catalog

log = logging.getLogger(__name__)

NOTHING_PASSES: Final = Passable()


class Leaves(Protocol):
    """TLS contexts by host. Raises `ValueError` for a host that the CA does not cover."""

    def context(self, host: str) -> ssl.SSLContext: ...


class Tunnel:
    """Judges tunnels. A host of no provider is refused at CONNECT: the CA can't sign for it, so
    that nothing inside the tunnel could be answered. For a provider's host every refusal is given
    inside the tunnel, where SDKs show the reason."""

    def __init__(
        self,
        catalog: Catalog,
        leaves: Leaves,
        book: Book,
        *,
        proxy_auth: Literal["optional", "required"],
        listener_tls: Mapping[ListenerKind, ssl.SSLContext],
        passable: Passable = NOTHING_PASSES,
        refuses_ech: bool = False,
    ) -> None:
        self._catalog = catalog
        self._leaves = leaves
        self._book = book
        self._proxy_auth = proxy_auth
        self._listener_tls = listener_tls
        self._passable = passable
        self.refuses_ech = refuses_ech

    def connect(self, data: ConnectRequest) -> None:
        """Sets ``data.host``, and ``data.passable`` for a host that is passed on; or ``data.denial``."""
        head = connect_head(data)
        try:
            for name in ("host", "proxy-authorization"):
                if len(head.get_all(name)) > 1:
                    raise Refused("bad_request", f"The CONNECT has more than one {name} header.")
            host, data.passable = admit_connect(data.target, self._catalog, self._passable)
            wanted = self._proxy_auth == "required" or data.passable is not None
            if wanted and not _says_who(head):
                data.denial = Denial(
                    "identity_missing",
                    "This listener wants Proxy-Authorization."
                    if data.passable is None
                    else f"A tunnel to {host} needs Proxy-Authorization.",
                    (("proxy-authenticate", 'Basic realm="tollhouse"'),),
                    status_override=407,
                )
            else:
                data.host = host
        except Refused as refusal:
            data.denial = refusal.denial
        if data.denial is not None:
            data.call_id = self._record(head, data.denial, ascii(data.target[:256])[1:-1])

    def context(
        self, listener: ListenerKind, connect: ConnectRequest | None, sni: str | None
    ) -> ssl.SSLContext | None:
        """None if the name may not be answered."""
        if connect is None and listener != "transparent":
            return self._listener_tls.get(listener)
        host = admit_sni(sni, connect.host if connect else None, self._catalog)
        return self._leaf(host) if host is not None else None

    def _leaf(self, host: str) -> ssl.SSLContext | None:
        try:
            return self._leaves.context(host)
        except ValueError as error:
            log.error("a handshake is refused: %s", error)
            return None

    def tls_refused(self, head: RequestHead, why: str) -> None:
        """Writes the line of a handshake that was refused, or that failed (the client does not trust our CA)."""
        self._record(
            head,
            Denial("tls_refused", why),
            ascii((head.sni or head.connect_host or "")[:256])[1:-1],
        )

    def _record(self, head: RequestHead, denial: Denial, host: str) -> str:
        arrival = Arrival.begin(head)
        refused = Concluded(arrival, denial.status, denial, "tunnel", host=host)
        self._book.write(self._book.record(refused), settled=False)
        return arrival.id


def connect_head(data: ConnectRequest) -> RequestHead:
    """A CONNECT as the head of a request, for its line."""
    return RequestHead(
        listener="proxy",
        http_version="1.1",
        method="CONNECT",
        target="",
        scheme="",
        absolute_authority=data.target[:256],
        authority=None,
        headers=data.headers,
        client_ip=data.client_ip,
        client_certificate=data.client_certificate,
    )


def _says_who(head: RequestHead) -> bool:
    return head.get("proxy-authorization") is not None or head.client_certificate is not None
