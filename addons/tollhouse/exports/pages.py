"""The records of all tenants, page by page: never more than a page of each stream is in memory.

Records are told at least once, in the order in which Redis wrote them, tenant after tenant. A name keeps in Redis how far its
export has come (`Cursors`). It goes on only once what was read is where it belongs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tollhouse.exports.record import Record, Stream
from tollhouse.timestamps import rfc3339

Perform = Callable[[str, Mapping[str, Any]], Any]
"""Does an operation of `control.operations` (`control.client.perform`)."""
BOTH: Final[tuple[Stream, ...]] = ("calls", "uncharged")
_LAST_OF_A_MS: Final = 2**64 - 1
NOBODY: Final = ""
"""In a tenant's place: the calls whose tenant nobody knows."""


class Moved(Exception):
    """Another run with the same name has gone on meanwhile."""


class Span(NamedTuple):
    """Which records are wanted: those that were written from ``since`` on and before ``until``, both in milliseconds since the
    epoch. None is no bound."""

    since: int | None = None
    until: int | None = None

    @property
    def last(self) -> str:
        return "+" if self.until is None else f"{self.until - 1}-{_LAST_OF_A_MS}"


@dataclass
class Cursors:
    """How far the export ``name`` had come, tenant by tenant, and has come now. Without a name nothing is kept."""

    perform: Perform
    name: str = ""
    _before: dict[str, str] = field(default_factory=dict)
    _now: dict[tuple[str, Stream], str] = field(default_factory=dict)

    def begin(self, tenant: str) -> dict[Stream, str]:
        """The ids of the tenant's records that were read last."""
        if not self.name:
            return {}
        text = str(self.perform("export_at", {"tenant": tenant, "name": self.name}))
        self._before[tenant] = text
        parted = text.split(" ") if text else []
        found = {stream: at for stream, at in zip(BOTH, parted, strict=False) if at != "-"}
        self._now |= {(tenant, stream): at for stream, at in found.items()}
        return found

    def read(self, record: Record) -> None:
        self._now[record.tenant, record.stream] = record.id

    def keep(self) -> None:
        """What was read is where it belongs. Raises `Moved`."""
        for tenant, before in self._before.items():
            now = " ".join(self._now.get((tenant, stream), "-") for stream in BOTH)
            if now in (before, "- -"):
                continue
            asked = {"tenant": tenant, "name": self.name, "before": before, "after": now}
            if not self.perform("export_move", asked):
                raise Moved


@dataclass
class RecordReader:
    """Reads ``streams`` of ``tenants``. ``missing`` says what can't be read any more. ``on_page`` is told how many records a
    page had."""

    perform: Perform
    tenants: Sequence[str]
    streams: Sequence[Stream]
    span: Span
    cursors: Cursors
    page: int
    on_page: Callable[[int], None] = lambda count: None
    missing: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Record]:
        for tenant in self.tenants:
            # A call without a tenant was never settled.
            streams = [one for one in self.streams if tenant or one == "uncharged"]
            begun = self.cursors.begin(tenant)
            found = [self._read(tenant, one, begun.get(one, "")) for one in streams]
            for record in heapq.merge(*found, key=_order):
                self.cursors.read(record)
                yield record

    def _read(self, tenant: str, stream: Stream, after: str) -> Iterator[Record]:
        of = {"tenant": tenant, "stream": stream}
        first = (
            _behind(after) if after else "-" if self.span.since is None else f"{self.span.since}-0"
        )
        self._look(of, after)
        while True:
            asked = {**of, "first": first, "last": self.span.last, "count": self.page}
            found = self.perform("records", asked)
            self.on_page(len(found))
            for key, fields in found:
                if "in_calls" in fields:
                    # It was refused after something was held: it is among the settled calls as well.
                    continue
                yield Record(tenant, stream, key, fields)
            if len(found) < self.page:
                return
            first = _behind(found[-1][0])

    def _look(self, of: Mapping[str, Any], after: str) -> None:
        """Whether records that are wanted are gone: Redis keeps the latest ones of a tenant only."""
        oldest = self.perform("records", {**of, "count": 1})
        whose = f"tenant {of['tenant']}" if of["tenant"] else "nobody's tenant"
        if after:
            kept = self.perform("records", {**of, "first": after, "last": after, "count": 1})
            if kept:
                return
        else:
            kept = self.perform("records_kept", of)
            since = self.span.since
            if kept["length"] < kept["most"] or since is None or _ms(oldest[0][0]) <= since:
                return
        before = f" from before {rfc3339(_ms(oldest[0][0]) / 1000)}" if oldest else ""
        self.missing.append(f"records of {whose}{before} are not in Redis any more")


def _behind(record_id: str) -> str:
    """The least id behind it: not every server knows exclusive ranges."""
    ms, n = _id(record_id)
    return f"{ms}-{n + 1}"


def _id(text: str) -> tuple[int, int]:
    ms, _, n = text.partition("-")
    return int(ms), int(n or 0)


def _ms(record_id: str) -> int:
    return _id(record_id)[0]


def _order(record: Record) -> tuple[int, int]:
    return _id(record.id)
