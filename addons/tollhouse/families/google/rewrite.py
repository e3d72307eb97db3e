"""The one place in which a request is changed: its output cap is lowered, in whichever spelling it
stands. No other byte changes."""

from __future__ import annotations

import json
from typing import Final

from tollhouse.families.base import Asked
from tollhouse.families.formats.jsonscan import MemberPlace, places

_CONFIG: Final = ("generationConfig", "generation_config")
_CAP: Final = ("maxOutputTokens", "max_output_tokens")


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from."""
    return body if asked.lowered_to is None else _lowered(body, asked.lowered_to, 0)


def rewrite_interaction(body: bytes, asked: Asked) -> bytes:
    """The same of an interaction, whose fields have one spelling."""
    return body if asked.lowered_to is None else _lowered(body, asked.lowered_to, 1)


def _lowered(body: bytes, cap: int, spelling: int) -> bytes:
    number = b"%d" % cap
    added = b'"%b":%b' % (_CAP[spelling].encode(), number)
    config = _place(body, 0, _CONFIG)
    if config is None:
        key = _CONFIG[spelling].encode()
        return _insert(body, body.index(b"{") + 1, b'"%b":{%b}' % (key, added))
    if body[config.value_at] != 0x7B:
        return body[: config.value_at] + b"{" + added + b"}" + body[config.value_end :]
    found = _place(body, config.value_at, _CAP)
    if found is None:
        return _insert(body, config.value_at + 1, added)
    value = json.loads(body[found.value_at : found.value_end])
    if value is not None and 0 < value <= cap:
        return body
    return body[: found.value_at] + number + body[found.value_end :]


def _place(body: bytes, start: int, keys: tuple[str, ...]) -> MemberPlace | None:
    return next((place for place in places(body, start) if place.key in keys), None)


def _insert(body: bytes, at: int, text: bytes) -> bytes:
    """As the first member of the object that begins before ``at``."""
    comma = b"" if body[at:].lstrip()[:1] == b"}" else b","
    view = memoryview(body)
    return b"".join((view[:at], text, comma, view[at:]))
