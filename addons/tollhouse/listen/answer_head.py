"""The head of an answer in HTTP/1, and whether its connection ends behind it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from tollhouse.denial import Denial, error_headers
from tollhouse.families import DEFAULT
from tollhouse.listen.request_head import Http1Head

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_BODILESS: Final = frozenset({204, 304})
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class WrittenHead(NamedTuple):
    raw: bytes
    chunked: bool
    closes: bool
    """The connection ends behind the answer."""


def answer_head(
    asked: Http1Head,
    status: int,
    headers: Sequence[tuple[str, str]],
    *,
    has_body: bool,
    closes: bool,
) -> WrittenHead:
    """Of the answer to ``asked``. ``closes``: its connection ends in any case."""
    sized = chunked = False
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
    for name, value in headers:
        if name == "content-length":
            sized = True
        elif name == "connection":
            closes = closes or "close" in _tokens(value)
            continue
        lines.append(f"{name}: {value}")
    if not sized and status not in _BODILESS and asked.method != "HEAD":
        if asked.version == "1.1" and has_body:
            chunked = True
            lines.append("transfer-encoding: chunked")
        else:
            closes = True
    if closes:
        lines.append("connection: close")
    return WrittenHead(_bytes(lines), chunked, closes)


def switching_head(headers: Sequence[tuple[str, str]]) -> bytes:
    return _bytes(["HTTP/1.1 101 Switching Protocols", *(f"{k}: {v}" for k, v in headers)])


def _bytes(lines: list[str]) -> bytes:
    lines += ("", "")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def keeps_alive(asked: Http1Head) -> bool:
    """RFC 9112 9.3."""
    kept = asked.version == "1.1"
    for name, value in asked.headers:
        if name == "connection":
            tokens = _tokens(value)
            if "close" in tokens:
                return False
            kept = kept or "keep-alive" in tokens
    return kept


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def raw_refusal(denial: Denial, call_id: str) -> bytes:
    """A refusal in HTTP/1, whole and closing, where there is no exchange to answer: of a CONNECT, of a connection."""
    body = DEFAULT.error_body(denial, call_id)
    lines = [f"HTTP/1.1 {denial.status} {_REASONS.get(denial.status, '')}"]
    lines += [f"{k}: {v}" for k, v in error_headers(denial, call_id)]
    lines += [f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body
