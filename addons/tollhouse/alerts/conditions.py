"""What one process sees of the gateway: keys, breakers, the spool, refusals, models without a price. It looks at what is there
anyway, and notes events until they are in the outbox.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from tollhouse.accounts.token import without_tokens
from tollhouse.alerts.event import (
    DAY_S,
    HOUR_S,
    WINDOWS,
    AlertEvent,
    KnownEvents,
    window_of,
)
from tollhouse.call import Requested
from tollhouse.clipped import clipped
from tollhouse.config.alert_tables import AlertKind
from tollhouse.credential.entry import KeyStatus
from tollhouse.ledger.hold_reply import Short
from tollhouse.ledger.limits import format_amount
from tollhouse.parties import Project
from tollhouse.timestamps import rfc3339

MOST_NOTED: Final = 1000
_MOST_PATHS: Final = 200
"""Paths of keys that are looked at, those that were used last."""


class KeysSeen(Protocol):
    """`credential.cache.KeyCache`."""

    def notable(self, most: int) -> list[KeyStatus]: ...
    def refusals(self) -> dict[tuple[str, str, str], int]: ...


class BreakersSeen(Protocol):
    """`dispatch.breaker.Breakers`."""

    def paused(self) -> Iterator[tuple[str, str]]: ...


class Conditions:
    """``charges`` says how many charges wait on the disk. ``age_bounds`` are the ages of keys, in days, that somebody wants to
    hear of. ``wall_clock`` is seconds since the epoch. It belongs to one event loop."""

    def __init__(
        self,
        keys: KeysSeen,
        breakers: BreakersSeen,
        charges: Callable[[], int],
        age_bounds: Sequence[int],
        *,
        wall_clock: Callable[[], float] = time.time,
        gateway: str | None = None,
    ) -> None:
        self._keys = keys
        self._breakers = breakers
        self._charges = charges
        self._age_bounds = tuple(sorted(set(age_bounds)))
        self._wall_clock = wall_clock
        self._gateway = gateway if gateway is not None else socket.gethostname()
        self._refusals: Mapping[tuple[str, str, str], int] = {}
        self._waited = False
        self._known = KnownEvents()
        self.noted: dict[str, AlertEvent] = {}
        """Those that are not in the outbox yet, by id; `MOST_NOTED` at most."""

    def short(self, short: Short, project: Project) -> None:
        """A call was refused, because a limit has no room for it. Limits of tokens and of sessions are not told, nor what no
        room would be enough for."""
        window = short.limit_text.rpartition("/")[2]
        if (
            short.scope.kind not in ("project", "tenant")
            or short.never_fits
            or window not in WINDOWS
        ):
            return
        until = short.resets_at if short.resets_at is not None else self._wall_clock() + DAY_S
        of_project = short.scope.kind == "project"
        start = rfc3339(short.resets_at) if short.resets_at is not None else self._day[0]
        self._note(
            "budget.refused",
            (project.tenant, short.scope.name, short.limit_text, start),
            until + DAY_S,
            {
                "tenant": project.tenant,
                "project": project.id if of_project else "",
                "scope": short.scope.name,
                "limit": short.limit_text,
                "left": format_amount(short.unit, short.left),
                "resets_at": None if short.resets_at is None else rfc3339(short.resets_at),
            },
            tenant=project.tenant,
            project=project.id if of_project else "",
        )

    def unpriced(self, requested: Requested) -> None:
        """A call asks for a model without a price. A workload may name as many as it likes: the first of a day is told."""
        project, provider = requested.admitted.project, requested.admitted.provider.name
        start, end = self._day
        self._note(
            "call.unpriced",
            (project.tenant, project.id, provider, start),
            end + DAY_S,
            {
                "tenant": project.tenant,
                "project": project.id,
                "provider": provider,
                "model": clipped(without_tokens(requested.asked.model))[:80],
            },
            tenant=project.tenant,
            project=project.id,
        )

    def known(self, event: AlertEvent) -> None:
        """It is in the outbox."""
        self._known.add(event, self._wall_clock())
        self.noted.pop(event.id, None)

    def look(self) -> None:
        """Called every few seconds."""
        self._look_at_keys()
        self._look_at_refusals()
        start, end = window_of(self._wall_clock(), HOUR_S)
        for host, tenant in self._breakers.paused():
            where = {"host": host, "tenant": tenant}
            self._note("breaker.open", (host, tenant, start), end + DAY_S, where, tenant=tenant)
        charges = self._charges()
        # What is told to Redis within seconds is no alert.
        if charges and self._waited:
            data: dict[str, Any] = {"charges": charges, "gateway": self._gateway}
            self._note("spool.waiting", (start,), end + DAY_S, data)
        self._waited = charges > 0

    def _look_at_keys(self) -> None:
        start, end = self._day
        now = self._wall_clock()
        for key in self._keys.notable(_MOST_PATHS):
            known = {"provider": key.provider, "path": key.path, "version": key.version}
            if key.state in ("stale", "failed"):
                data = {**known, "state": key.state}
                self._note("key.stale", (key.provider, key.path, start), end + DAY_S, data)
            days = _days_since(key.created, now)
            for bound in self._age_bounds:
                if days is not None and days >= bound:
                    aged = {**known, "age_days": days, "bound_days": bound}
                    once_for = (key.provider, key.path, key.version, str(bound), start)
                    self._note("key.age", once_for, end + DAY_S, aged)

    def _look_at_refusals(self) -> None:
        start, end = self._day
        found = self._keys.refusals()
        for (provider, path, fingerprint), count in found.items():
            if count > self._refusals.get((provider, path, fingerprint), 0):
                data = {"provider": provider, "path": path, "fingerprint": fingerprint}
                self._note("key.refused", (provider, path, fingerprint, start), end + DAY_S, data)
        self._refusals = found

    @property
    def _day(self) -> tuple[str, float]:
        return window_of(self._wall_clock(), DAY_S)

    def _note(
        self,
        kind: AlertKind,
        once_for: tuple[str, ...],
        until: float,
        data: Mapping[str, Any],
        *,
        tenant: str = "",
        project: str = "",
    ) -> None:
        if self._known.has(kind, once_for) or len(self.noted) >= MOST_NOTED:
            return
        event = AlertEvent(kind, once_for, self._wall_clock(), until, data, tenant, project)
        self.noted.setdefault(event.id, event)


def _days_since(created: str, now: float) -> int | None:
    """``created`` is as in `RawSecret`. None if the store does not say."""
    try:
        # Vault writes nanoseconds, of which microseconds can be read.
        whole, _, part = created.partition(".")
        when = datetime.fromisoformat(f"{whole}.{part[:6].ljust(6, '0')}").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(int((now - when.timestamp()) // DAY_S), 0)
