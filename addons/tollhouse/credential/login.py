"""The login to the store of keys. It is kept alive, and given back at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from tollhouse.credential.lease import CredentialUnavailable, Reader
from tollhouse.credential.workers import Workers
from tollhouse.refreshed import Timer

_log = logging.getLogger("tollhouse.credential")

_AT_LEAST_EVERY_S: Final = 60.0


class TendedLogin:
    """Calls ``reader.tend`` in a thread of ``workers`` at the times that it asks for."""

    def __init__(
        self,
        reader: Reader,
        workers: Workers,
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._reader = reader
        self._workers = workers
        self._call_later = call_later
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def tend(self) -> None:
        """Has the login kept alive now, unless a time for that is set already."""
        if self._task is None and self._timer is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._once(), name="tend the login")

    async def close(self) -> None:
        """Gives the login back. It takes a second at most."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._workers.run(self._reader.close, bound_s=1.0)
        except CredentialUnavailable as error:
            _log.info("the login to the store of keys was not given back: %s", error.why)

    async def _once(self) -> None:
        try:
            wait_s = await self._workers.run(self._reader.tend)
        except CredentialUnavailable:
            wait_s = _AT_LEAST_EVERY_S
        finally:
            self._task = None
        if wait_s is not None and not self._closed:
            self._timer = self._call_later(min(max(wait_s, 0.5), _AT_LEAST_EVERY_S), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.tend()
