"""Threads for jobs that block. There are few at once, a job is given up after a time, and the
process's end waits for none of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from tollhouse.credential.lease import CredentialUnavailable, StoreAway


class Workers:
    """At most ``size`` jobs at once, each in a daemon thread of its own. Jobs are rare: one read
    for a key and refresh. ``whom`` names whom the jobs ask; messages begin with it.

    A server that sends byte by byte holds a thread for longer than any timeout of a socket. The
    caller is let go after ``bound_s``. The thread counts in ``size`` until it ends, so that threads
    can't pile up. A `ThreadPoolExecutor` would wait for it at exit.
    """

    def __init__(self, size: int, bound_s: float, whom: str = "The store of keys") -> None:
        self._places = asyncio.Semaphore(size)
        self._bound_s = bound_s
        self._whom = whom

    async def run[T](self, job: Callable[[], T], bound_s: float | None = None) -> T:
        """What ``job`` returns. Raises the job's `CredentialUnavailable` without its traceback,
        whose frames hold a login or a key. Raises `StoreAway` when the time is over; the wait for a
        thread counts in it."""
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
            # RuntimeError: the loop is closed, and nobody waits for the result.
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
        # The exception's text may hold a secret.
        name = type(error).__name__
    return CredentialUnavailable(f"Reading the key failed in the gateway itself ({name}).")
