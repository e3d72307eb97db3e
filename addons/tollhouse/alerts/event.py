"""What is told: one event, which has an id that is the same wherever and however often it is seen. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from tollhouse.config.alert_tables import AlertKind
from tollhouse.timestamps import rfc3339

EventType = AlertKind | Literal["budget.threshold", "alert.test"]

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
WINDOWS: Final = ("hour", "day", "week", "month", "total")
"""The windows whose limits are told. By the minute nobody could do anything."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """``once_for`` are the texts that tell it from any other. It is told once for as long as ``until`` has not come, which
    is seconds since the epoch as ``at`` is, the moment when it was seen. ``tenant`` is empty for what is about the gateway,
    ``project`` also for what is about a whole tenant."""

    type: EventType
    once_for: tuple[str, ...]
    at: float
    until: float
    data: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = ""
    project: str = ""
    threshold: int = 0
    """Per cent, of ``budget.threshold``."""

    @property
    def id(self) -> str:
        """What ``webhook-id`` says, for whoever is told."""
        text = json.dumps([self.type, *self.once_for])
        return f"msg_{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    @property
    def body(self) -> str:
        """The payload of Standard Webhooks: type, timestamp and data."""
        return json.dumps(
            {"type": self.type, "timestamp": rfc3339(self.at), "data": dict(self.data)},
            separators=(",", ":"),
        )


class KnownEvents:
    """Events that are in the outbox already, so that Redis is not asked again. At most `MOST`. They are looked up by what they
    are once for, as an event and its id take longer to make."""

    MOST: ClassVar = 100_000

    def __init__(self) -> None:
        self._until: dict[tuple[str, ...], float] = {}

    def has(self, kind: EventType, once_for: tuple[str, ...]) -> bool:
        return (kind, *once_for) in self._until

    def add(self, event: AlertEvent, now: float) -> None:
        if len(self._until) >= self.MOST:
            self._until = {key: until for key, until in self._until.items() if until > now}
            if len(self._until) >= self.MOST:
                self._until.clear()
        self._until[event.type, *event.once_for] = event.until


def window_of(now: float, length_s: int) -> tuple[str, float]:
    """Of what has no window of its own: the beginning of the hour or day (UTC) that ``now`` lies in, as a text, and its end."""
    start = int(now) // length_s * length_s
    return rfc3339(start), float(start + length_s)
