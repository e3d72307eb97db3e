"""The holds under way, and their renewal by a thread.

A hold whose deadline passes is swept: another gateway charges it in full and gives its place away.
An event loop may stand still for longer than a deadline while its calls are well: a blocking call
in an operator's addon does it, or a machine that swaps. So a thread moves the deadlines. It has an
event loop and a connection to Redis of its own. It shares nothing with the road but `Holds`.

The thread moves the deadline of each hold; `Ledger.renew_all` moves 64 with one script. A single
deadline for the whole gateway would be fewer writes. But a script of a Cluster sees the keys of its
own tenant alone, so each tenant would need such a deadline. And gateways of the version before know
only the deadlines of holds: they would sweep calls that this gateway is about to finish.

The thread dies with its process, and the holds of a killed gateway are swept. The thread stands
still with its process as well: nothing renews the holds of a process that is stopped as a whole, or
of one whose loop is in native code that keeps the interpreter's lock. With the embedded store there
is no thread. No other gateway can sweep there. After a silence the ledger gives the holds of that
time a grace (ledger/scripts/common.lua).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from itertools import batched
from typing import Any, Final, Protocol

from tollhouse.ledger.ledger import RENEW_AT_ONCE, Ledger, Scope

log = logging.getLogger(__name__)

RENEW_EVERY_S: Final = 20.0
"""A third of a hold's deadline."""
STANDSTILL_S: Final = 600.0
"""A loop that stands still for longer is taken for dead. Its holds are not renewed any more, or
they would stay for ever."""
_NOTED_AFTER_S: Final = 5.0
"""A standstill that is longer than this is worth a line in the log."""
_SCRIPTS_AT_ONCE: Final = 64
_WITHIN_S: Final = 10.0
"""When a renewal has failed and this much time has gone by, no more renewals are begun in this
turn."""
_STOP_WITHIN_S: Final = 5.0


class Scoped(Protocol):
    """A hold that knows against whose limits it is held; the tenant's scope stands first."""

    @property
    def scopes(self) -> tuple[Scope, ...]: ...


class Holds[H: Scoped](MutableMapping[str, H]):
    """Maps a call's id to its hold. Only the event loop changes it, and only within the lock. Any
    thread may call `by_tenant`, which takes the lock. ``beside`` are others that are renewed with
    them."""

    def __init__(self, beside: Holds[Any] | None = None) -> None:
        self._beside = beside
        self._lock = threading.Lock()
        self._holds: dict[str, H] = {}

    def __getitem__(self, call_id: str) -> H:
        return self._holds[call_id]

    def __setitem__(self, call_id: str, hold: H) -> None:
        with self._lock:
            self._holds[call_id] = hold

    def __delitem__(self, call_id: str) -> None:
        with self._lock:
            del self._holds[call_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._holds)

    def __len__(self) -> int:
        return len(self._holds)

    def by_tenant(self) -> dict[str, list[str]]:
        """The ids of the holds under way, by tenant."""
        with self._lock:
            holds = list(self._holds.items())
        found = self._beside.by_tenant() if self._beside is not None else {}
        for call_id, hold in holds:
            found.setdefault(hold.scopes[0].tenant, []).append(call_id)
        return found


async def renew(
    ledger: Ledger,
    holds: Holds[Any],
    deadline_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Moves the deadline of every hold under way. Gives False and writes to the log if some could
    not be moved. On a Cluster a server may be away, and with it some tenants: the holds of the
    other tenants are renewed all the same."""
    scripts = [
        (tenant, ids)
        for tenant, all_ids in holds.by_tenant().items()
        for ids in batched(all_ids, RENEW_AT_ONCE)
    ]
    began, lost = clock(), set[str]()
    for some in batched(scripts, _SCRIPTS_AT_ONCE):
        asked = [(tenant, ids) for tenant, ids in some if tenant not in lost]
        results = await asyncio.gather(
            *(ledger.renew_all(tenant, ids, deadline_s) for tenant, ids in asked),
            return_exceptions=True,
        )
        failed = [
            (one, error)
            for one, error in zip(asked, results, strict=True)
            if isinstance(error, BaseException)
        ]
        if failed:
            count = sum(len(ids) for (_, ids), _ in failed)
            log.warning(
                "%d holds could not be renewed (%s); it is tried again", count, failed[0][1]
            )
            lost.update(tenant for (tenant, _), _ in failed)
            if clock() - began > _WITHIN_S:
                break
    return not lost


class Renewer:
    """The thread. Its public methods are for the event loop. ``open_ledger`` is called in the
    thread, and the thread uses and closes that ledger. ``clock`` is monotonic. ``wait`` waits for
    so many seconds or until the event is set, and says whether the event is set."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        holds: Holds[Any],
        *,
        deadline_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._open_ledger = open_ledger
        self._holds = holds
        self._deadline_s = deadline_s
        self._clock = clock
        self._wait = wait
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_at = clock()
        """When the event loop was last seen to run. The loop writes it, the thread reads it."""
        self.renewed_at = clock()
        """When all holds were last renewed. The thread writes it, the loop reads it."""

    def turn(self) -> list[str]:
        """Called once a second by the event loop: begins the thread, and begins it anew if it has
        died. Gives the reason if no thread can be begun; nothing if there is one."""
        self._loop_at = self._clock()
        if self._thread is not None:
            if self._thread.is_alive():
                return []
            log.error("the thread that renews holds has ended: another is begun")
        thread = threading.Thread(target=self._run, name="tollhouse-renewer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            return [
                f"holds: the thread that renews them can't be started ({error}): allow more threads or memory"
            ]
        self._thread = thread
        return []

    async def stop(self) -> None:
        """Ends the thread; holds are not renewed any more."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_WITHIN_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                ledger = self._open_ledger()
                try:
                    while True:
                        self._renew(runner, ledger)
                        if self._wait(self._stopping, RENEW_EVERY_S):
                            return
                finally:
                    runner.run(ledger.close())
        except Exception:
            log.exception("the thread that renews holds failed")

    def _renew(self, runner: asyncio.Runner, ledger: Ledger) -> None:
        still_s = self._clock() - self._loop_at
        if still_s > STANDSTILL_S:
            log.error(
                "the event loop has stood still for %d s: it is taken for dead, and its holds are left",
                still_s,
            )
            return
        if still_s > _NOTED_AFTER_S:
            log.warning("the event loop has stood still for %d s; its holds are renewed", still_s)
        if runner.run(renew(ledger, self._holds, self._deadline_s, self._clock)):
            self.renewed_at = self._clock()
