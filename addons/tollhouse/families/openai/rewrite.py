"""The two places in which a request is changed: it asks for its usage, and its output cap is lowered. No other byte changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.base import Asked
from tollhouse.families.formats.jsonscan import Member, members

CAPS: Final = ("max_completion_tokens", "max_tokens")


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from, a valid object without duplicate keys that has a model."""
    if asked.asks_for_usage:
        body = _ask_for_usage(body, asked.document)
    if asked.lowered_to is not None:
        body = _lower_cap(body, asked.lowered_to)
    return body


def _lower_cap(body: bytes, cap: int) -> bytes:
    """An output cap of at most ``cap`` tokens for each choice. A request with none gets ``max_completion_tokens``."""
    text = body.decode("latin-1")
    found = [member for member in members(text, 0, whole=False) if member.key in CAPS]
    if all(member.value is None for member in found):
        if not found:
            return _insert(body, body.index(b"{") + 1, b'"max_completion_tokens":%d,' % cap)
        found = [member._replace(value=cap + 1) for member in found[:1]]
    for member in reversed(found):
        if member.value is not None and (member.value > cap or member.value == 0):
            body = body[: member.value_at] + b"%d" % cap + body[member.value_end :]
    return body


def _ask_for_usage(body: bytes, document: Mapping[str, Any]) -> bytes:
    """``include_usage`` becomes true."""
    asked = b'"include_usage":true'
    if "stream_options" not in document:
        return _insert(body, body.index(b"{") + 1, b'"stream_options":{' + asked + b"},")
    text = body.decode("latin-1")
    place = _member(text, 0, "stream_options")
    options = place.value
    if options is None:  # null
        return body[: place.value_at] + b"{" + asked + b"}" + body[place.value_end :]
    if "include_usage" in options:
        inner = _member(text, place.value_at, "include_usage")
        return body[: inner.value_at] + b"true" + body[inner.value_end :]
    return _insert(body, place.value_at + 1, asked + (b"," if options else b""))


def _member(text: str, start: int, key: str) -> Member:
    return next(member for member in members(text, start, whole=False) if member.key == key)


def _insert(body: bytes, at: int, text: bytes) -> bytes:
    view = memoryview(body)
    return b"".join((view[:at], text, view[at:]))
