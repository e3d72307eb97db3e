"""One thing that `tollhouse check` has to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warn", "error"]
Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``error``: the gateway would refuse to start or would refuse calls. ``warn``: it works, and a person should know.

    The texts never hold a secret. ``what`` says what was looked at and how it is, ``why`` the reason, ``todo`` what to
    do next; the last two are empty where there is nothing to add.
    """

    level: Level
    what: str
    why: str = ""
    todo: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        text = self.what
        for separator, part in ((": ", self.why), ("; ", self.todo)):
            if part:
                # What is no sentence of its own, such as a key of the configuration, is followed by more of its own.
                text += f" {part}" if text.endswith((".", "?", "!")) else f"{separator}{part}"
        return f"{self.level}: {text}"


def worst(findings: Sequence[Finding]) -> Level:
    """The gravest level among them; ``ok`` for none."""
    levels = {finding.level for finding in findings}
    return "error" if "error" in levels else "warn" if "warn" in levels else "ok"
