"""What the members of an interaction mean that were read so far, and where its usage comes later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked
from tollhouse.families.google.errors import code_of
from tollhouse.families.google.models import plain
from tollhouse.families.google.request import Detail
from tollhouse.families.google.told import Metadata
from tollhouse.families.google.usage import interaction_output, interaction_units, tool_counts
from tollhouse.families.meters import AnswerHead, Later
from tollhouse.families.units import Charge, Units

_RUNNING: Final = frozenset({"queued", "in_progress"})
_OVER: Final = frozenset(
    {
        *("completed", "failed", "cancelled", "incomplete", "budget_exceeded"),
        *("requires_action", "requires_continuation"),
    }
)
"""``status`` in `interactions/interaction.py` of google-genai. What an interaction requires is given
by another one, which has a usage of its own."""
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,199}")
_LONGEST_FACTS: Final = 2_000


class Interacted(Metadata):
    """An interaction, whole or as events (https://ai.google.dev/api/interactions-api)."""

    def __init__(self, asked: Asked, head: AnswerHead) -> None:
        super().__init__(asked, head)
        self._count: Mapping[str, Any] | None = None
        self._detail: Detail = asked.detail
        self._asked_tier = asked.tier
        self._status = ""

    @property
    def units(self) -> Units | None:
        return interaction_units(self._count)

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._status in _OVER

    @property
    def later(self) -> Later | None:  # type: ignore[override]
        """Google goes on with an interaction of the background, and shows its usage when it is over."""
        name = self.created[0] if self.created else ""
        if not (self._runs and self._detail.path and _ID.fullmatch(name)):
            return None
        facts = json.dumps([self._asked_tier, *sorted(self._detail.tools)])
        facts = facts if len(facts) <= _LONGEST_FACTS else ""
        return Later(name, f"{self._detail.path}/{name}", facts)

    def charges(self) -> tuple[Charge, ...]:
        """Nothing while Google goes on with it: what is counted by now is a part."""
        units = self.units
        if units is None or self._runs:
            return ()
        tools = tool_counts(self._count, self._detail.tools)
        return (Charge(self._named, units, self._tier), *tools)

    def read(self, document: object) -> None:
        if not isinstance(document, Mapping):
            return
        kind = document.get("event_type")
        inner = document.get("interaction") if kind is not None else document
        if isinstance(inner, Mapping):
            self._read_interaction(inner)
        # The end is told by an interaction alone, which has the usage as well.
        if kind == "interaction.status_update" and document.get("status") in (
            "queued",
            "in_progress",
        ):
            self._status = document["status"]
        metadata = document.get("metadata")
        if isinstance(metadata, Mapping):
            self._read_count(metadata.get("total_usage"))
        if error := code_of(document.get("error")):
            self.error = error
        delta = document.get("delta")
        if isinstance(delta, Mapping):
            for name in ("text", "arguments", "data", "thought", "content"):
                if isinstance(value := delta.get(name), str | dict) and value:
                    self.saw(value if isinstance(value, str) else str(value))
        self.done = self.done or kind == "interaction.completed"

    @property
    def _runs(self) -> bool:
        return self._detail.goes_on and self._status in _RUNNING

    def _read_interaction(self, interaction: Mapping[str, Any]) -> None:
        self._read_count(interaction.get("usage"))
        self._read_status(interaction.get("status"))
        name, model = interaction.get("id"), interaction.get("model")
        if isinstance(name, str) and 0 < len(name) <= 256 and name.isprintable():
            self.created = (name,)
        if isinstance(model, str) and 0 < len(model) <= 256 and model.isprintable():
            self._named = plain(model)
        tier = interaction.get("service_tier")
        if isinstance(tier, str) and tier:
            self._tier = tier.lower()[:32]

    def _read_status(self, status: object) -> None:
        if isinstance(status, str):
            self._status = status
            if status == "failed" and self._count is None:
                self.error = self.error or status

    def _read_count(self, usage: object) -> None:
        """Zeros alone are no count: an interaction that has just begun may have them."""
        if isinstance(usage, Mapping) and interaction_units(usage) is not None:
            self._count = usage
            self._counted = interaction_output(usage)


def asked_before(facts: str) -> Asked:
    """What the meter has to know of a request that was made earlier, by the ``facts`` of its `Later`."""
    try:
        tier, *tools = map(str, json.loads(facts))
    except (ValueError, TypeError):
        tier, tools = "", []
    return Asked(tier=tier, detail=Detail(tools=frozenset(tools)))
