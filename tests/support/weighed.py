"""Bodies that are larger than a test may keep: made while they are sent, and counted and hashed where they arrive."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiohttp import web

from tests.families.samples.forms import form
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received

_BLOCK: Final = os.urandom(256 << 10)


class Weight(NamedTuple):
    """The length of a body in bytes, and its SHA-256."""

    size: int
    digest: bytes


def weight_of(body: bytes) -> Weight:
    return Weight(len(body), hashlib.sha256(body).digest())


class LargeForm:
    """A form of exactly ``size`` bytes with one file. No two blocks of it are the same, so that none can be left out, doubled
    or put elsewhere. It may be sent several times."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.weight: Weight | None = None
        """Of what was sent last."""
        self._head, self._tail = form(("purpose", b"assistants"), ("file", b"here", "a.bin")).split(
            b"here"
        )

    def pieces(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        left = self.size - len(self._head) - len(self._tail)
        digest.update(self._head)
        yield self._head
        number = 0
        while left:
            block = (struct.pack(">Q", number) + _BLOCK)[:left]
            number += 1
            left -= len(block)
            digest.update(block)
            yield block
        digest.update(self._tail)
        self.weight = Weight(self.size, digest.digest())
        yield self._tail


class WeighingStandIn(StandIn):
    """Its book has no bodies; ``weighed`` has what each was, in the order in which they ended."""

    def __init__(self) -> None:
        super().__init__()
        self.weighed: list[Weight] = []

    async def take_body(self, request: web.BaseRequest, received: Received) -> bytes:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        self.weighed.append(Weight(size, digest.digest()))
        return b""
