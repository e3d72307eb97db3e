"""The threads that read bodies which would hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

THREADS: Final = 3
"""Each of them, the thread of the heavy bodies and the event loop have one parsed body at a time."""
OF_ONE_TENANT: Final = 1
"""A tenant has one of them at a time: the bodies of the others do not wait for its own, and Python runs
one thread at a time anyway."""


class _Turns:
    """The turns of one tenant, and how many of its bodies wait for one or have one."""

    def __init__(self, at_once: int) -> None:
        self.free = asyncio.Semaphore(at_once)
        self.bodies = 0


class Readers:
    """For one event loop."""

    def __init__(self, threads: int = THREADS, of_one_tenant: int = OF_ONE_TENANT) -> None:
        self._pool = ThreadPoolExecutor(threads, "read-body")
        self._of_one_tenant = of_one_tenant
        self._turns: dict[str, _Turns] = {}
        """Of the tenants whose bodies are read now."""

    async def run[**P, R](
        self, tenant: str, read: Callable[P, R], *arguments: P.args, **more: P.kwargs
    ) -> R:
        """What ``read`` gives or raises, called in a thread."""
        turns = self._turns.get(tenant)
        if turns is None:
            turns = self._turns[tenant] = _Turns(self._of_one_tenant)
        turns.bodies += 1
        try:
            async with turns.free:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._pool, lambda: read(*arguments, **more))
        finally:
            turns.bodies -= 1
            if not turns.bodies:
                del self._turns[tenant]
