"""A lower output cap in the bytes of a body. No other byte changes."""

from __future__ import annotations

import json

from tollhouse.families.formats.jsonscan import places


def lower_cap(body: bytes, cap: int, key: str, inside: str = "") -> bytes:
    """``key`` is at most ``cap``, and is there. It is a member of the body's object or, if there is an ``inside``, of the
    object of that name. ``body`` is a valid object without duplicate keys. A 0 is no cap."""
    if not inside:
        return _lower(body, body.index(b"{"), cap, key)
    for place in places(body):
        if place.key == inside:
            if body[place.value_at] == 0x7B:
                return _lower(body, place.value_at, cap, key)
            return (
                body[: place.value_at]
                + b'{"%s":%d}' % (key.encode(), cap)
                + body[place.value_end :]
            )
    return _put(body, body.index(b"{"), b'"%s":{"%s":%d}' % (inside.encode(), key.encode(), cap))


def _lower(body: bytes, start: int, cap: int, key: str) -> bytes:
    for place in places(body, start):
        if place.key == key:
            value = json.loads(body[place.value_at : place.value_end])
            if value is not None and 0 < value <= cap:
                return body
            return body[: place.value_at] + b"%d" % cap + body[place.value_end :]
    return _put(body, start, b'"%s":%d' % (key.encode(), cap))


def _put(body: bytes, start: int, member: bytes) -> bytes:
    """``member`` becomes the first of the object at ``start``."""
    only = body[start + 1 :].lstrip(b" \t\r\n").startswith(b"}")
    view = memoryview(body)
    return b"".join((view[: start + 1], member, b"" if only else b",", view[start + 1 :]))
