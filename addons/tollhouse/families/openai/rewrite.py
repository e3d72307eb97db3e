"""The two places in which a request is changed: it asks for its usage, and its output cap is lowered. No other byte changes."""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.jsonscan import MemberPlace, places
from tollhouse.families.formats.lowered import lower_cap

CAPS: Final = ("max_completion_tokens", "max_tokens")


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from, a valid object without duplicate keys that has a model."""
    if asked.asks_for_usage:
        body = ask_for_usage(body)
    if asked.lowered_to is not None:
        body = lower_cap(body, asked.lowered_to, *CAPS)
    return body


def ask_for_usage(body: bytes) -> bytes:
    """``include_usage`` becomes true."""
    asked = b'"include_usage":true'
    # Most bodies need not be looked through. A key may be written in escapes.
    named = b"stream_options" in body or b"\\u" in body
    options = _place(body, 0, "stream_options") if named else None
    if options is None:
        return _insert(body, body.index(b"{") + 1, b'"stream_options":{' + asked + b"},")
    if body[options.value_at] != 0x7B:
        return body[: options.value_at] + b"{" + asked + b"}" + body[options.value_end :]
    inner = _place(body, options.value_at, "include_usage")
    if inner is not None:
        return body[: inner.value_at] + b"true" + body[inner.value_end :]
    first = body[options.value_at + 1 : options.value_end].lstrip()
    return _insert(body, options.value_at + 1, asked + (b"" if first == b"}" else b","))


def _place(body: bytes, start: int, key: str) -> MemberPlace | None:
    return next((place for place in places(body, start) if place.key == key), None)


def _insert(body: bytes, at: int, text: bytes) -> bytes:
    view = memoryview(body)
    return b"".join((view[:at], text, view[at:]))
