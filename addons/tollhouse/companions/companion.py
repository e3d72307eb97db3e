"""An agent's companions: the hosts that it contacts beside the provider's, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Choice = Literal["off", "needed", "all"]
"""Which companions of an agent pass: none, those that it does not work without, or those that it can use as well."""


@dataclass(frozen=True, slots=True)
class Companions:
    """What was seen of one agent, at the date that its file names. Hosts are lower case, on port 443. A provider's host is
    never among them: what goes there is metered."""

    agent: str
    """Its name in ``[companions]``."""
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def of(self, choice: Choice) -> tuple[str, ...]:
        match choice:
            case "off":
                return ()
            case "needed":
                return self.needed
            case "all":
                return (*self.needed, *self.optional)
