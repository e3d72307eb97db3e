"""`tollhouse audit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from tollhouse.cli.common import config_option, json_option, load, moment, perform, show_each

if TYPE_CHECKING:
    from tollhouse.config.load import Config

_PAGE: Final = 500


@click.command()
@config_option
@click.option(
    "--since",
    type=moment,
    metavar="WHEN",
    help="From this date (2026-11-01), this time, or so long ago (7d); else all that is kept.",
)
@json_option
def audit(since: float | None, as_json: bool) -> None:
    """Who changed projects, limits and tokens: when, what, and how it was before and after. The oldest first.

    About the latest 10,000 changes are kept, by commands, through the admin API, and of the file.
    """
    headings = ("AT", "BY", "VIA", "OPERATION", "TARGET", "BEFORE", "AFTER")
    none = "nothing was changed in this time"
    show_each(_records(load(), since or 0.0), as_json, headings, _row, none)


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        record["at"],
        " ".join(filter(None, (record["by"], record["by_name"]))),
        record["via"],
        record["operation"],
        record["target"],
        *_difference(record["before"], record["after"]),
    )


def _records(config: Config, since: float) -> Iterator[dict[str, Any]]:
    after = ""
    while page := perform(config, "audit", {"since": since, "after": after, "count": _PAGE}):
        yield from page
        after = page[-1]["id"]


def _difference(before: Any, after: Any) -> tuple[str, str]:
    """Of two states that are there, what is not the same in both."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in before | after if before.get(name) != after.get(name)]
        before, after = ({name: one.get(name) for name in names} for one in (before, after))
    return _told(before), _told(after)


def _told(state: Any) -> str:
    if isinstance(state, dict):
        from tollhouse.cli import render

        return "; ".join(f"{name} {render.cell(value)}" for name, value in state.items())
    return "" if state is None else str(state if isinstance(state, str) else ", ".join(state))
