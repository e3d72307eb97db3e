"""The connections of the admin listener: one on which nothing is asked is closed, and there are not more than so many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

IDLE_S: Final = 15.0
"""For a whole request to come."""
MOST: Final = 500
_LOOK_EVERY_S: Final = 1.0


class Connections:
    """aiohttp waits for a request's head for ever. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._since: dict[web.RequestHandler, float] = {}
        """Since when nothing has been asked on a connection."""
        self._busy: set[web.RequestHandler] = set()

    @contextmanager
    def busy(self, request: web.Request) -> Iterator[None]:
        """While ``request`` is answered its connection is not idle."""
        self._busy.add(request.protocol)
        try:
            yield
        finally:
            self._busy.discard(request.protocol)
            self._since[request.protocol] = self._clock()

    async def watch(self, server: web.Server) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.look(server)

    def look(self, server: web.Server) -> None:
        """Closes those that are idle for too long, and the longest idle ones of too many."""
        now = self._clock()
        idle = [one for one in server.connections if one not in self._busy]
        self._since = {one: self._since.get(one, now) for one in idle}
        idle.sort(key=lambda one: self._since[one])
        beyond = len(server.connections) - self._most
        for number, one in enumerate(idle):
            if number < beyond or now - self._since[one] > IDLE_S:
                one.force_close()
                if one.transport is not None:
                    one.transport.abort()
