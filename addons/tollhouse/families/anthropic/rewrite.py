"""The one place in which a request is changed: its output cap is lowered. No other byte changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.jsonscan import MemberPlace, places

CAP: Final = "max_tokens"


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from. The caps of fallbacks are lowered as well. A
    request without a cap gets one."""
    cap = asked.lowered_to
    if cap is None:
        return body
    own = [place for place in places(body) if place.key == CAP]
    for place in sorted((*own, *_of_fallbacks(body)), key=lambda place: -place.value_at):
        value = json.loads(body[place.value_at : place.value_end])
        # null is no cap. A fallback without one has that of the request.
        if value > cap if value is not None else place in own:
            body = _put(body, place.value_at, place.value_end, b"%d" % cap)
    if not own:
        at = body.index(b"{") + 1
        body = _put(body, at, at, b'"%s":%d,' % (CAP.encode(), cap))
    return body


def _of_fallbacks(body: bytes) -> Iterator[MemberPlace]:
    for place in places(body):
        if place.key != "fallbacks" or body[place.value_at] != 0x5B:
            continue
        at = place.value_at
        while (start := body.find(b"{", at, place.value_end)) >= 0:
            at = start + 1
            for inner in places(body, start):
                if inner.key == CAP:
                    yield inner
                at = inner.value_end
            at = body.index(b"}", at)


def _put(body: bytes, start: int, end: int, text: bytes) -> bytes:
    view = memoryview(body)
    return b"".join((view[:start], text, view[end:]))
