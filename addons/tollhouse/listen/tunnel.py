"""The addon that judges CONNECT and TLS handshakes: which host a tunnel may be for, and who it is answered as."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, Protocol

from OpenSSL import SSL

from tollhouse.admit.authority import admit_connect, admit_sni
from tollhouse.book import Book, Concluded
from tollhouse.call import Arrival, ListenerKind, RequestHead
from tollhouse.denial import Denial, Refused
from tollhouse.listen.mitm import ConnectRequest, Handshake
from tollhouse.providers import Catalog

log = logging.getLogger(__name__)


class Leaves(Protocol):
    """TLS contexts by host. Raises `ValueError` for a host that the CA does not cover."""

    def context(self, host: str) -> SSL.Context: ...


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
        listener_tls: Mapping[ListenerKind, SSL.Context],
    ) -> None:
        self._catalog = catalog
        self._leaves = leaves
        self._book = book
        self._proxy_auth = proxy_auth
        self._listener_tls = listener_tls

    def tollhouse_connect(self, data: ConnectRequest) -> None:
        """Sets ``data.host``, or ``data.denial``."""
        head = RequestHead(
            listener="proxy",
            http_version="1.1",
            method="CONNECT",
            target="",
            scheme="",
            absolute_authority=data.target[:256],
            authority=None,
            headers=data.headers,
            client_ip=data.client_ip,
        )
        try:
            for name in ("host", "proxy-authorization"):
                if len(head.get_all(name)) > 1:
                    raise Refused("bad_request", f"The CONNECT has more than one {name} header.")
            host = admit_connect(data.target, self._catalog)
            if self._proxy_auth == "required" and head.get("proxy-authorization") is None:
                data.denial = Denial(
                    "identity_missing",
                    "This listener wants Proxy-Authorization.",
                    (("proxy-authenticate", 'Basic realm="tollhouse"'),),
                    status_override=407,
                )
            else:
                data.host = host
        except Refused as refusal:
            data.denial = refusal.denial
        if data.denial is not None:
            data.call_id = self._record(head, data.denial, ascii(data.target[:256])[1:-1])

    def tollhouse_handshake(self, data: Handshake) -> None:
        """Sets ``data.connection`` if the SNI may be answered."""
        if data.connect is None and data.listener != "transparent":
            context = self._listener_tls.get(data.listener)
        else:
            host = admit_sni(data.sni, data.connect.host if data.connect else None, self._catalog)
            context = self._leaf(host) if host is not None else None
        if context is not None:
            connection = SSL.Connection(context)
            connection.set_accept_state()
            data.connection = connection

    def _leaf(self, host: str) -> SSL.Context | None:
        try:
            return self._leaves.context(host)
        except ValueError as error:
            log.error("a handshake is refused: %s", error)
            return None

    def tollhouse_tls_refused(self, head: RequestHead) -> None:
        """Writes the line of a handshake that was refused, or that failed (the client does not trust our CA)."""
        self._record(
            head, Denial("tls_refused"), ascii((head.sni or head.connect_host or "")[:256])[1:-1]
        )

    def _record(self, head: RequestHead, denial: Denial, host: str) -> str:
        arrival = Arrival.begin(head)
        refused = Concluded(arrival, denial.status, denial, "tunnel", host=host)
        self._book.write(self._book.record(refused))
        return arrival.id
