"""The two places in which a request is changed: it asks for its usage, and its output cap is lowered. No other byte changes."""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Asked
from tollhouse.families.formats.document import Document
from tollhouse.families.formats.jsonscan import MemberPlace, places
from tollhouse.families.formats.lowered import lower_cap

CAPS: Final = ("max_completion_tokens", "max_tokens")


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from, a valid object without duplicate keys that has a model."""
    if asked.asks_for_usage:
        body = ask_for_usage(body, asked.document)
    if asked.lowered_to is not None:
        body = lower_cap(body, asked.lowered_to, *CAPS)
    return body


def ask_for_usage(body: bytes, document: Document) -> bytes:
    """``include_usage`` becomes true."""
    asked = b'"include_usage":true'
    if "stream_options" not in document.tree:
        return _insert(body, body.index(b"{") + 1, b'"stream_options":{' + asked + b"},")
    options = document.tree["stream_options"]
    place = _place(body, 0, "stream_options")
    if options is None:
        return body[: place.value_at] + b"{" + asked + b"}" + body[place.value_end :]
    if "include_usage" in options:
        inner = _place(body, place.value_at, "include_usage")
        return body[: inner.value_at] + b"true" + body[inner.value_end :]
    return _insert(body, place.value_at + 1, asked + (b"," if options else b""))


def _place(body: bytes, start: int, key: str) -> MemberPlace:
    return next(place for place in places(body, start) if place.key == key)


def _insert(body: bytes, at: int, text: bytes) -> bytes:
    view = memoryview(body)
    return b"".join((view[:at], text, view[at:]))
