"""A lower output cap in the bytes of a body. No other byte changes."""

from __future__ import annotations

import json
import re
from typing import Final

from tollhouse.families.formats.jsonscan import places

_EMPTY: Final = re.compile(rb"\{[ \t\r\n]*+\}")


def lower_cap(body: bytes, cap: int, *keys: str, inside: str = "") -> bytes:
    """Each of ``keys`` that is there is at most ``cap``, and one of them is there: the first, where a
    request has none. They are members of the body's object or, if there is an ``inside``, of the object
    of that name. ``body`` is a valid object without duplicate keys. A 0 is no cap, and a text ("inf") is none."""
    start = body.index(b"{")
    if inside:
        made = b'{"%b":%d}' % (keys[0].encode(), cap)
        place = next((place for place in places(body) if place.key == inside), None)
        if place is None:
            return _first(body, start, b'"%b":%b' % (inside.encode(), made))
        if body[place.value_at] != 0x7B:
            return _put(body, place.value_at, made, place.value_end)
        start = place.value_at
    found = [
        (place, json.loads(body[place.value_at : place.value_end]))
        for place in places(body, start)
        if place.key in keys
    ]
    if not found:
        return _first(body, start, b'"%b":%d' % (keys[0].encode(), cap))
    if all(value is None for _, value in found):
        found = [(found[0][0], cap + 1)]
    for place, value in reversed(found):
        if value is not None and (isinstance(value, str) or value > cap or value == 0):
            body = _put(body, place.value_at, b"%d" % cap, place.value_end)
    return body


def _first(body: bytes, at: int, member: bytes) -> bytes:
    """``member`` becomes the first of the object at ``at``."""
    comma = b"" if _EMPTY.match(body, at) else b","
    return _put(body, at + 1, member + comma, at + 1)


def _put(body: bytes, at: int, text: bytes, end: int) -> bytes:
    view = memoryview(body)
    return b"".join((view[:at], text, view[end:]))
