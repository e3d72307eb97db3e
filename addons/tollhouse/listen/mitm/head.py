"""Request heads as mitmproxy's messages, parsed strictly: what two parsers could read in two ways is refused, not repaired."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mitmproxy import http

from tollhouse.denial import Denial
from tollhouse.headers import CONNECTION_SPECIFIC
from tollhouse.listen.mitm.message import ReceivedRequest
from tollhouse.listen.request_head import MAX_HEADERS, Defect, bad, parse_head, too_many_headers

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_UNSAFE_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9113 8.2: lower case, no colon but the first of a pseudo-header, none of the connection's headers.
_H2_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_H2_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_H2_NEVER = frozenset(name.encode() for name in CONNECTION_SPECIFIC)


def parse_http1(head: bytes) -> tuple[ReceivedRequest, int | None]:
    """An HTTP/1 request from its head, every line of which ends with CRLF, and the length of its body (None: chunks). Raises
    `Defect`."""
    parsed = parse_head(head)
    fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in parsed.headers]
    request = ReceivedRequest(
        parsed.method.encode(),
        parsed.scheme.encode(),
        parsed.authority.encode(),
        parsed.target.encode(),
        f"HTTP/{parsed.version}".encode(),
        http.Headers(fields),
    )
    return request, parsed.size


def parse_http2(fields: Sequence[tuple[bytes, bytes]]) -> ReceivedRequest:
    """An HTTP/2 request from its header block (RFC 9113 8.2, 8.3). Raises `Defect`."""
    if len(fields) > MAX_HEADERS:
        raise too_many_headers(len(fields))
    pseudo: dict[bytes, bytes] = {}
    headers: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if _UNSAFE_VALUE.search(value) or value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
            raise bad("A header value has a control character, or a space around it.")
        if name.startswith(b":"):
            if name == b":protocol" and pseudo.get(b":method") == b"CONNECT":
                why = (
                    "It asks for a WebSocket over HTTP/2 (RFC 8441). They are passed over HTTP/1.1."
                )
                raise Defect(Denial("upgrade_required", why))
            if headers or name in pseudo or name not in _H2_PSEUDO or not value:
                raise bad("A pseudo-header is unknown, empty, given twice or out of place.")
            pseudo[name] = value
        elif (
            not _H2_NAME.fullmatch(name)
            or name in _H2_NEVER
            or (name == b"te" and value.lower() != b"trailers")
        ):
            raise bad("A header is malformed, or is one that HTTP/2 does not have.")
        else:
            headers.append((name, value))
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method):
        raise bad("The method is malformed.")
    if method != b"CONNECT" and (b":scheme" not in pseudo or not _TARGET.fullmatch(path)):
        raise bad("The scheme or the path is missing or malformed.")
    if sum(name == b"content-length" for name, _ in headers) > 1:
        raise bad("The request has more than one content-length header.")
    scheme, authority = pseudo.get(b":scheme", b""), pseudo.get(b":authority", b"")
    return ReceivedRequest(method, scheme, authority, path, b"HTTP/2.0", http.Headers(headers))


def empty_request(version: bytes = b"HTTP/1.1") -> ReceivedRequest:
    return ReceivedRequest(b"", b"", b"", b"", version, http.Headers())
