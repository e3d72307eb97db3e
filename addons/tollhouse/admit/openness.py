"""The refusals of endpoints that are closed, each with what would open it."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial, Refused
from tollhouse.families.opened import parse_opening
from tollhouse.families.operation import Cost
from tollhouse.providers import Provider

_FORBIDDEN: Final[dict[Cost, str]] = {
    "mints": "gives a credential or a session with which calls would go around the gateway.",
    "account": "administrates the provider's account: its users, keys, limits or bills.",
}
_LIST: Final = "See docs/open-endpoints.md of Tollhouse; everything else is closed by default"
_LONGEST_SHOWN: Final = 120


def forbidden(cost: Cost, method: str, path: str) -> Refused | None:
    """None: an operation of this cost is not refused always."""
    why = _FORBIDDEN.get(cost)
    if why is None:
        return None
    return Refused("endpoint_forbidden", f"{method} {path[:_LONGEST_SHOWN]} {why}")


def closed(provider: Provider, method: str, path: str, *, job: bool = False) -> Refused:
    """``job``: the family knows it, and it starts or shows work whose cost comes later."""
    what = f"{method!a} {path[:_LONGEST_SHOWN]!a}"
    table = f"[providers.{provider.name}]"
    try:
        entry = parse_opening(f"{method} {path}").text if len(path) <= _LONGEST_SHOWN else ""
    except ValueError:
        entry = ""
    if "*" in entry:
        entry = ""
    if job:
        why = f"{what} is of a job, whose cost comes later than its answer."
        name = f'"{entry}"' if entry else "the method and the path"
        todo = (
            f"Whoever runs the gateway can open it in tollhouse.toml: {table} allow = [{name}] and "
            "job_hold_usd, which is held for each job."
        )
    else:
        why = f"{what} is not open."
        todo = f"{_LIST}."
        if entry:
            todo = (
                f"{_LIST}. Whoever runs the gateway can open it in tollhouse.toml: "
                f'{table} allow = ["{entry}"], or unmetered = ["{entry}"] if it costs nothing.'
            )
    return Refused.of(Denial("path_not_allowed", why, todo_override=todo))
