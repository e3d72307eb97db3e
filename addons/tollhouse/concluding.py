"""Lines of calls that are being settled, in memory that the supervisor has as well.

A call is settled first, and then its line is written. A worker that is killed between the two leaves a charge without a line.
What it was about to write stands here, and another worker writes it.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

SLOT: Final = 4_096
"""Bytes of a line that is kept. A longer one, which is rare, is not."""
SLOTS: Final = 1_024
_LENGTH: Final = struct.Struct("<I")


def memory() -> tuple[mmap.mmap, int]:
    """Memory that a child shares, and its descriptor, by which another program of this process finds it again; -1 where the
    system has no such files. Only what is used of it takes memory."""
    size = SLOT * SLOTS
    if not hasattr(os, "memfd_create"):
        return mmap.mmap(-1, size), -1
    descriptor = os.memfd_create("concluding", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return mmap.mmap(descriptor, size), descriptor


def left(shared: mmap.mmap) -> list[bytes]:
    """The lines that were not written."""
    found = []
    for at in range(0, SLOT * SLOTS, SLOT):
        (length,) = _LENGTH.unpack_from(shared, at)
        if 0 < length <= SLOT - _LENGTH.size:
            begin = at + _LENGTH.size
            found.append(bytes(shared[begin : begin + length]))
    return found


class Concluding:
    """One worker's side, for one thread. Without memory it keeps nothing."""

    def __init__(self, shared: mmap.mmap | None = None) -> None:
        self._shared = shared
        self._free = list(range((SLOTS - 1) * SLOT, -1, -SLOT)) if shared is not None else []

    def begin(self, line: bytes) -> int:
        """Keeps ``line``, and gives its place for `end`."""
        shared = self._shared
        if shared is None or not self._free or len(line) > SLOT - _LENGTH.size:
            return -1
        at = self._free.pop()
        begin = at + _LENGTH.size
        shared[begin : begin + len(line)] = line
        # The length makes it count, so it comes last.
        _LENGTH.pack_into(shared, at, len(line))
        return at

    def end(self, at: int) -> None:
        """The line is written."""
        if at >= 0 and self._shared is not None:
            _LENGTH.pack_into(self._shared, at, 0)
            self._free.append(at)
