"""Threads for what blocks: few at once, each job given up after a time, and none that the process's end waits for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from tollhouse.credential.lease import CredentialUnavailable, StoreAway


class Workers:
    """At most ``size`` jobs at once, one daemon thread each; jobs are rare (a read a key and refresh). ``whom`` they ask
    begins a sentence.

    A server that trickles bytes holds a thread for longer than any timeout of a socket. Its caller is let go after
    ``bound_s``; the thread keeps its place until it ends, so that they can't pile up. A `ThreadPoolExecutor` would wait
    for it at exit.
    """

    def __init__(self, size: int, bound_s: float, whom: str = "The store of keys") -> None:
        self._places = asyncio.Semaphore(size)
        self._bound_s = bound_s
        self._whom = whom

    async def run[T](self, job: Callable[[], T], bound_s: float | None = None) -> T:
        """What ``job`` returns. Raises `CredentialUnavailable` as the job raised it, but without its traceback, whose
        frames hold a login or a key; `StoreAway` when the time is over, the wait for a thread included."""
        bound_s = self._bound_s if bound_s is None else bound_s
        outcome: T | CredentialUnavailable
        try:
            async with asyncio.timeout(bound_s):
                await self._places.acquire()
                outcome = await self._start(job)
        except TimeoutError:
            outcome = StoreAway(f"{self._whom} gave no whole answer within {bound_s:g} s.")
        if isinstance(outcome, CredentialUnavailable):
            raise outcome
        return outcome

    def _start[T](self, job: Callable[[], T]) -> asyncio.Future[T | CredentialUnavailable]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T | CredentialUnavailable] = loop.create_future()

        def finish(outcome: T | CredentialUnavailable) -> None:
            self._places.release()
            if not future.done():
                future.set_result(outcome)

        def work() -> None:
            outcome = _outcome(job)
            # RuntimeError: the loop is closed, and nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, outcome)

        try:
            threading.Thread(target=work, name="tollhouse-credential", daemon=True).start()
        except RuntimeError:
            finish(StoreAway("The system gives the gateway no thread to read keys in."))
        return future


def _outcome[T](job: Callable[[], T]) -> T | CredentialUnavailable:
    try:
        return job()
    except CredentialUnavailable as error:
        error.__context__ = None
        return error.with_traceback(None)
    except Exception as error:
        # Its text is not known to be free of secrets.
        name = type(error).__name__
    return CredentialUnavailable(f"Reading the key failed in the gateway itself ({name}).")
