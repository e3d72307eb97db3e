"""Whether the gateway is ready, why it is not, and the wait for its stores at the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from tollhouse.credential.cache import KeyCache
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable

log = logging.getLogger(__name__)

_AGAIN_S = 0.5


class Readiness:
    """It is not ready before `found` was called without problems, and never again after `stop`."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        """Set when `reasons` changes. The task that waits for it clears it."""
        self._reasons: list[str] = ["starting"]
        self._warnings: list[str] = []
        self._stopped = False

    def reasons(self) -> Sequence[str]:
        """Why the gateway is not ready; empty when it is."""
        return ["stopping"] if self._stopped else self._reasons

    def warnings(self) -> Sequence[str]:
        """What is wrong while it is ready all the same."""
        return self._warnings

    def opened(self) -> None:
        """The listeners are open, and the stores have answered."""
        self._set([])

    def found(self, problems: list[str], warnings: list[str]) -> None:
        """What a look at the stores has found. With warnings the gateway is ready in spite of the problems."""
        self._warnings = warnings
        before = self._reasons
        self._set([] if warnings else problems)
        if self._reasons and not before:
            log.error("not ready, and every call is refused: %s", "; ".join(self._reasons))
        elif before and not self._reasons:
            log.warning("ready again")

    def stop(self) -> None:
        """It is not ready from now on."""
        self._stopped = True

    async def stores_answer(
        self,
        ledger: Ledger,
        keys: KeyCache,
        stopping: asyncio.Event,
        *,
        patience_s: float,
        clock: Callable[[], float],
    ) -> bool:
        """Waits until Redis and Vault have answered once. False if ``stopping`` was set before that, or if ``patience_s``
        are over."""
        said, until = "", clock() + patience_s
        while not stopping.is_set():
            reasons = await _store_problems(ledger, keys)
            if not reasons:
                return True
            self._set(reasons)
            if said != (said := "; ".join(reasons)):
                log.error("not ready: %s", said)
            if clock() >= until:
                return False
            try:
                await asyncio.wait_for(stopping.wait(), _AGAIN_S)
            except TimeoutError:
                pass
        return False

    def _set(self, reasons: list[str]) -> None:
        if reasons != self._reasons:
            self._reasons = reasons
            self.changed.set()


async def _store_problems(ledger: Ledger, keys: KeyCache) -> list[str]:
    reasons = []
    try:
        await ledger.ping()
    except LedgerUnavailable as e:
        reasons.append(f"redis: {e.why.removeprefix('Redis: ')}")
    try:
        await keys.connect()
    except CredentialUnavailable as e:
        reasons.append(f"vault: {e.why}")
    return reasons
