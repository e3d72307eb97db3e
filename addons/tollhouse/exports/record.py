"""One record of a call, as Redis keeps it, and as the line that it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from tollhouse.book import empty_record
from tollhouse.clipped import CUT
from tollhouse.ledger.limits import format_usd
from tollhouse.timestamps import rfc3339

Stream = Literal["calls", "uncharged"]
_PARSED: Final = frozenset(
    {
        *("stream", "clamped", "status", "attempts", "attempts_unknown", "ttft_ms", "duration_ms"),
        *("overhead_ms", "tokens", "units", "charges", "bytes", "held_for", "unsafe_fail_open"),
    }
)
"""Fields of the line that are no text."""
_OURS: Final = frozenset({"settled_by", "corrects_nano_usd", "corrects_day", "corrects_model"})
_NANO: Final = 10**9


class Correction(NamedTuple):
    """What a late record takes back: the charge of a sweep."""

    nano_usd: int
    day: int
    """Days since the epoch on which the sweep was."""
    model: str
    """``provider/model``, as the sums name it."""


class Record(NamedTuple):
    """``stream`` and ``id`` name it for ever, within its tenant."""

    tenant: str
    stream: Stream
    id: str
    fields: Mapping[str, str]

    @property
    def at(self) -> float:
        """When it was written, in seconds since the epoch by Redis's clock."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def call_id(self) -> str:
        return self.fields.get("call_id", "")

    @property
    def nano_usd(self) -> int:
        return nano(self.fields.get("cost_usd", ""))

    @property
    def corrects(self) -> Correction | None:
        """What it takes back; None of nearly every record."""
        if "corrects_nano_usd" not in self.fields:
            return None
        return Correction(
            int(self.fields["corrects_nano_usd"]),
            int(self.fields["corrects_day"]),
            self.fields["corrects_model"],
        )

    @property
    def uid(self) -> str:
        """An id that no other record has: the call's, and behind it what a second record of the call is of."""
        late = self.fields.get("settled_by") == "late" or self.fields.get("reason") == "later"
        return f"{self.call_id}/late" if late else self.call_id

    def line(self) -> dict[str, Any]:
        """The call's line again, and what Redis knows beside it. ``cut`` names the fields that were too long for Redis."""
        line: dict[str, Any] = empty_record()
        line |= {"stream": False, "decision": "allow"}
        cut = []
        for name, value in self.fields.items():
            if name in _OURS:
                continue
            whole = not value.endswith(CUT)
            if name not in _PARSED:
                line[name] = value
            elif (found := _parsed(value)) is not None or value == "null":
                line[name] = found
            if not whole:
                cut.append(name)
        line["tenant"] = line["tenant"] or self.tenant
        line |= {
            "record_id": f"{self.stream}/{self.id}",
            "recorded_at": rfc3339(self.at, "milliseconds"),
        }
        if settled_by := self.fields.get("settled_by"):
            line["settled_by"] = settled_by
        if (corrects := self.corrects) is not None:
            line["corrects_usd"] = format_usd(corrects.nano_usd)
        if cut:
            line["cut"] = cut
        return line


def nano(usd: str) -> int:
    """Decimal US dollars as nano-dollars; 0 of an empty text."""
    return int(Decimal(usd) * _NANO) if usd else 0


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
