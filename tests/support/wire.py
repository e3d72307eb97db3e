"""The client's side of an exchange, played: what a real `Exchange` is given in place of a listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tests.support.calls import CHAT, head
from tollhouse.call import RequestHead
from tollhouse.listen.exchange import Exchange


class FakeWire:
    """Writes down what was sent. While ``full`` is set, nothing more is taken: `drain` waits until `take`."""

    def __init__(self) -> None:
        self.full = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.pieces: list[bytes] = []
        self.continued = 0
        self.ends = 0
        """How often the answer was ended: in good order, or cut."""
        self.cut = False
        self._taken = asyncio.Event()

    def take(self) -> None:
        self.full = False
        self._taken.set()

    def json(self) -> Any:
        return json.loads(self.body)

    def send_continue(self) -> None:
        self.continued += 1

    def send_head(
        self, status: int, headers: Sequence[tuple[str, str]], data: bytes, *, end: bool
    ) -> None:
        assert not self.status, "a second head"
        self.status, self.headers = status, dict(headers)
        self.send_data(data)
        self.ends += end

    def send_data(self, data: bytes) -> None:
        assert not self.ends, "data after the end"
        self.body += data
        if data:
            self.pieces.append(data)

    switches = False

    def switch(self, headers: object) -> None:
        raise AssertionError

    def send_end(self) -> None:
        self.ends += 1

    def abort(self) -> None:
        self.ends += 1
        self.cut = True

    def congested(self) -> bool:
        return self.full

    async def drain(self) -> None:
        await self._taken.wait()


def a_head(
    method: str = "POST", path: str = CHAT, headers: Sequence[tuple[str, str]] = ()
) -> RequestHead:
    return head(method, path, *headers)


def an_exchange(
    given: RequestHead | None = None, body: bytes | None = b""
) -> tuple[Exchange, FakeWire]:
    """A request whose body has arrived, or, with None, is still to come."""
    wire = FakeWire()
    exchange = Exchange(given or head(), wire)
    if body is not None:
        if body:
            exchange.feed(body)
        exchange.feed_end()
    return exchange, wire
