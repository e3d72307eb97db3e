"""Request heads of HTTP/1, parsed strictly: what two parsers could read in two ways is refused, not repaired."""

from __future__ import annotations

import re
from itertools import chain
from typing import Final, NamedTuple

from tollhouse.denial import Denial

_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])"
)
# A match begins at the start of a line alone, and gives nothing back. Else a long line that is no header would be read again
# from each of its characters: 64 KB took 13 s.
_FIELD: Final = re.compile(
    r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n", re.MULTILINE
)
LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,99}")
# RFC 9112 2.2 and 5.2: a bare CR or LF, a NUL, and line folding are refused, not repaired.
UNSAFE_HEAD: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|\x00|\r\n[ \t]")

MAX_HEADERS: Final = 200
"""Header lines of a head. SDKs send about 25; each costs work before it is known who asks."""


class Defect(Exception):
    """A head that can't be read. The ``denial`` is its only answer."""

    def __init__(self, denial: Denial) -> None:
        self.denial = denial


class Http1Head(NamedTuple):
    """A request's head. ``scheme`` and ``authority`` are those of an absolute-form target, else "". Of a CONNECT the target is
    the ``authority``, and ``target`` is "". ``size`` is the length of the body in bytes, None if it comes in chunks."""

    method: str
    target: str
    version: str
    scheme: str
    authority: str
    headers: tuple[tuple[str, str], ...]
    size: int | None


class HeadFinder:
    """Finds where the head at the beginning of a buffer ends. For the requests of one connection, one after the other."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._scanned = 0

    def end(self, data: bytearray) -> int:
        """Where the CRLF of its last line ends, behind which two bytes belong to it still; -1 while it is not complete. Only new
        bytes are searched: else a head that comes byte by byte would cost the square of its length. Raises `Defect`."""
        since = max(0, self._scanned - 3)
        end = data.find(b"\r\n\r\n", since, self._max_bytes + 4)
        if end < 0 and len(data) > self._max_bytes:
            raise Defect(Denial("headers_too_large", f"The limit is {self._max_bytes} bytes."))
        if (end < 0 or not _plain(data, end + 2)) and UNSAFE_HEAD.search(
            data, since if end < 0 else 0, len(data) if end < 0 else end + 2
        ):
            raise bad("The head has a bare CR or LF, a NUL or a folded line.")
        self._scanned = len(data) if end < 0 else 0
        return end + 2 if end >= 0 else -1


def _plain(data: bytearray, end: int) -> bool:
    """Whether `UNSAFE_HEAD` surely finds nothing in a whole head. The search itself takes 25 ns for each byte, this a fifth."""
    lines = data.count(b"\r\n", 0, end)
    return (
        lines > 0
        and lines == data.count(b"\n", 0, end) == data.count(b"\r", 0, end)
        and data.find(b"\0", 0, end) < 0
        and data.find(b"\n ", 0, end) < 0
        and data.find(b"\n\t", 0, end) < 0
    )


def bad(why: str) -> Defect:
    return Defect(Denial("bad_request", why))


def too_many_headers(count: int) -> Defect:
    return Defect(
        Denial("headers_too_large", f"It has {count} header lines, the limit is {MAX_HEADERS}.")
    )


def parse_head(head: bytes) -> Http1Head:
    """A request's head, every line of which ends with CRLF. Raises `Defect`."""
    count = head.count(b"\r\n") - 1
    if count > MAX_HEADERS:
        raise too_many_headers(count)
    end = head.find(b"\r\n")
    match = _LINE.fullmatch(head, 0, end)
    if match is None:
        raise bad("The request line is not `METHOD target HTTP/1.1`.")
    try:
        target = match[2].decode()
    except UnicodeDecodeError:
        raise bad("The request target is not UTF-8.") from None
    method, version = match[1].decode(), f"1.{match[3].decode()}"
    block = head[end + 2 :].decode("utf-8", "surrogateescape")
    found = _FIELD.findall(block)
    if len("".join(chain.from_iterable(found))) + 3 * len(found) != len(block):
        raise bad("A header line is malformed.")
    headers = tuple([(name.lower(), value.strip(" \t")) for name, value in found])
    size = _body_size(headers, version)
    scheme, authority = "", ""
    if method == "CONNECT":
        authority, target = target, ""
    elif target[0] != "/" and target != "*":
        scheme, authority, target = _absolute(target)
    return Http1Head(method, target, version, scheme, authority, headers, size)


def _body_size(headers: tuple[tuple[str, str], ...], version: str) -> int | None:
    """RFC 9112 6.3, without what a server may repair there."""
    codings: list[str] = []
    lengths: list[str] = []
    for name, value in headers:
        if name == "content-length":
            lengths.append(value)
        elif name == "transfer-encoding":
            codings.append(value)
    if codings:
        # U+212A is a "k" in lower case.
        if len(codings) > 1 or not codings[0].isascii() or codings[0].lower() != "chunked":
            raise bad("The only transfer coding taken is chunked.")
        if lengths:
            raise bad("The request has both content-length and transfer-encoding headers.")
        if version != "1.1":
            raise bad("HTTP/1.0 has no transfer codings.")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise bad("The request has more than one content-length header.")
    if not LENGTH.fullmatch(lengths[0]):
        raise bad("The content-length header is no length.")
    return int(lengths[0])


def _absolute(target: str) -> tuple[str, str, str]:
    scheme, separator, rest = target.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in ("http", "https"):
        raise bad("The request target is neither a path nor an http(s) URL.")
    cut = min((i for i in (rest.find(c) for c in "/?#") if i >= 0), default=len(rest))
    if not cut:
        raise bad("The request target has no host.")
    return scheme, rest[:cut], rest[cut:] or "/"
