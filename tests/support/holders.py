"""Who holds a secret in this process's memory. The secret is made by another process: what made it here would hold it."""

from __future__ import annotations

import _asyncio
import gc
from collections.abc import Sequence
from types import FrameType

from tollhouse.credential.secret import Secret


def holders(wanted: Sequence[str]) -> list[str]:
    """What holds text with one of ``wanted`` in it, by type; what a `Secret` keeps for itself left out."""
    gc.collect()
    everything = gc.get_objects()
    private = {id(thing) for thing in everything if isinstance(thing, Secret)} | {
        id(wanted),
        id(everything),
    }
    # Asked for its referents, this module breaks its list of freed objects before Python 3.12.6, and the next walk along
    # that list never ends: https://github.com/python/cpython/issues/122695
    private.add(id(_asyncio))
    waiting: list[object] = [thing for thing in everything if isinstance(thing, Secret)]
    while waiting:
        for inner in gc.get_referents(waiting.pop()):
            if id(inner) not in private and not isinstance(inner, type) and not callable(inner):
                private.add(id(inner))
                waiting.append(inner)
    found = []
    for thing in everything:
        if id(thing) in private or (
            isinstance(thing, FrameType) and thing.f_code is holders.__code__
        ):
            continue
        for inner in gc.get_referents(thing):
            text = inner if isinstance(inner, str) else ""
            if isinstance(inner, bytes | bytearray):
                text = bytes(inner).decode("latin-1")
            if any(needle in text for needle in wanted):
                names = [
                    type(one).__qualname__
                    for one in gc.get_referrers(thing)
                    if one is not everything
                ]
                found.append(f"{type(thing).__qualname__} in {names[:4]}")
    return found
