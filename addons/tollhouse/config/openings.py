"""Rules of ``allow`` and ``unmetered``, the endpoints that an entry opens beside its family's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tollhouse.config.text import Broken, dotted
from tollhouse.families.base import Family
from tollhouse.families.opened import Opening, meets
from tollhouse.families.operation import Operation

_NEVER: Final = {
    "mints": "makes a credential with which calls would go around the gateway",
    "account": "administrates the provider's account",
}


class Openings(NamedTuple):
    """What one entry opens, and ``family`` as the built-in entry has it."""

    family: Family
    allow: Sequence[Opening] = ()
    unmetered: Sequence[Opening] = ()
    job_hold: int | None = None

    def listed(self) -> Iterator[tuple[str, int, Opening]]:
        """The key, the place in its list, and the entry."""
        for key, entries in (("allow", self.allow), ("unmetered", self.unmetered)):
            for index, opening in enumerate(entries):
                yield key, index, opening


def known_as(family: Family, opening: Opening) -> list[Operation]:
    """What the family knows under the paths of ``opening``, each once."""
    found = (route.operation for route in family.routes if meets(opening, route))
    return list(dict.fromkeys(found))


def opening_rules(provider: str, openings: Openings) -> Broken:
    """The problems, as the rules of `config.rules` give them."""
    here = ("providers", provider)
    seen: dict[str, str] = {}
    jobs: list[str] = []
    for key, index, opening in openings.listed():
        place = dotted((*here, key, index))
        first = seen.setdefault(opening.text, place)
        if first != place:
            yield place, f"{opening.text} stands at {first} as well; remove one of the two"
            continue
        costs = {operation.cost for operation in known_as(openings.family, opening)}
        never = next((_NEVER[cost] for cost in ("mints", "account") if cost in costs), None)
        if never is not None and "*" not in opening.path:
            yield place, f"{opening.text} {never}, which is never opened; remove it"
        elif "job" in costs and key == "unmetered":
            why = f"{opening.text} is of a job, and jobs cost money; move it into allow"
            yield place, why
        elif "job" in costs:
            jobs.append(opening.text)
    if jobs and openings.job_hold is None:
        yield (
            dotted((*here, "job_hold_usd")),
            f"is missing: allow opens {jobs[0]}, and what a job costs no answer tells; say how many USD "
            "each is charged",
        )
