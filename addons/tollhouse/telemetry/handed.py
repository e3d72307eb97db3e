"""What is kept of a call for its telemetry: its line, and what the line does not say. No body and no header but one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.book import Concluded
from tollhouse.call import known
from tollhouse.families.units import TOKEN_PARTS
from tollhouse.outcome import Attempt

_LONGEST: Final = 256
"""Characters of a header that are looked at. A ``traceparent`` has 55."""
_MEDIA: Final = frozenset(part for part in TOKEN_PARTS if part.endswith(("_audio", "_image")))


class Handed(NamedTuple):
    """One line. A line that is not that of a call's end has only ``record``."""

    record: Mapping[str, Any]
    ended: bool = False
    """The line is that of a call's end."""
    timestamp: float = 0.0
    """Seconds since the epoch, at which the call began."""
    started: float = 0.0
    """The same by `time.monotonic()`."""
    traceparent: str = ""
    provider: str = ""
    """As OpenTelemetry calls it."""
    port: int = 0
    kind: str = ""
    """Of the operation, in the family's word. "" of a call that was refused before it was known."""
    metered: bool = False
    writes: bool = False
    """The answer has tokens of output."""
    media: bool = False
    """Its tokens may be of sound or images."""
    cap: int | None = None
    choices: int = 1
    attempts: tuple[Attempt, ...] = ()


def _only(values: list[str]) -> str:
    """Two of them are none (W3C Trace Context 3.2)."""
    return values[0] if len(values) == 1 else ""


def handed(record: Mapping[str, Any], call: Concluded | None) -> Handed:
    """It holds nothing of ``call`` that could be large."""
    if call is None:
        return Handed(record)
    found = known(call.stage)
    arrival, provider, admitted = found.arrival, found.provider, found.admitted
    asked = found.requested.asked if found.requested is not None else None
    return Handed(
        record,
        True,
        arrival.timestamp,
        arrival.started,
        _only(arrival.head.get_all("traceparent"))[:_LONGEST],
        (provider.genai_name or provider.name) if provider is not None else "",
        provider.port if provider is not None else 0,
        admitted.operation.kind if admitted is not None else "",
        admitted is not None and admitted.operation.metered,
        asked is not None and asked.writes,
        asked is not None and bool(_MEDIA & (asked.asks | asked.may)),
        asked.cap if asked is not None else None,
        asked.choices if asked is not None else 1,
        call.outcome.attempts if call.outcome is not None else (),
    )
