"""Request heads of HTTP/1 and HTTP/2, parsed strictly: what two parsers could read in two ways is refused, not repaired."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers

from tollhouse.denial import Denial
from tollhouse.headers import CONNECTION_SPECIFIC
from tollhouse.listen.mitm.message import ReceivedRequest

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])"
)
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9112 2.2 and 5.2: a bare CR or LF, a NUL, and line folding are refused, not repaired.
UNSAFE_HEAD = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|\x00|\r\n[ \t]")
_UNSAFE_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9113 8.2: lower case, no colon but the first of a pseudo-header, none of the connection's headers.
_H2_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_H2_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_H2_NEVER = frozenset(name.encode() for name in CONNECTION_SPECIFIC)


MAX_HEADERS = 200
"""Header lines of a head. SDKs send about 25; each costs work before it is known who asks."""


class Defect(Exception):
    def __init__(self, denial: Denial) -> None:
        self.denial = denial


def bad(why: str) -> Defect:
    return Defect(Denial("bad_request", why))


def too_many_headers(count: int) -> Defect:
    return Defect(
        Denial("headers_too_large", f"It has {count} header lines, the limit is {MAX_HEADERS}.")
    )


def parse_http1(head: bytes) -> ReceivedRequest:
    """An HTTP/1 request from its head, every line of which ends with CRLF. Raises `Defect` and ValueError."""
    count = head.count(b"\r\n") - 1
    if count > MAX_HEADERS:
        raise too_many_headers(count)
    first, *lines = head[:-2].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise bad("The request line is not `METHOD target HTTP/1.1`.")
    method, target, version = match.groups()
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name) or _UNSAFE_VALUE.search(value):
            raise bad("A header line is malformed.")
        if len(name) == 17 and name.lower() == b"transfer-encoding" and value.lower() != b"chunked":
            raise bad("The only transfer coding taken is chunked.")
        fields.append((name, value))
    scheme, authority, path = b"", b"", target
    if method == b"CONNECT":
        authority, path = target, b""
    elif not target.startswith(b"/") and target != b"*":
        scheme, separator, rest = target.partition(b"://")
        scheme = scheme.lower()
        if not separator or scheme not in (b"http", b"https"):
            raise bad("The request target is neither a path nor an http(s) URL.")
        cut = min((i for i in (rest.find(c) for c in b"/?#") if i >= 0), default=len(rest))
        authority, path = rest[:cut], rest[cut:] or b"/"
        if not authority:
            raise bad("The request target has no host.")
    request = ReceivedRequest(method, scheme, authority, path, version, http.Headers(fields))
    validate_headers(request)
    return request


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
