"""`tollhouse top`: the status page in a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from tollhouse.cli.common import config_option, load, perform
from tollhouse.cli.render import cell

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_EVERY_S = 2.0
_AMBER = 85
"""Percent of a limit that are taken."""
_BAR = 20
_MOST_ROWS, _LEAST_ROWS = 8, 2
"""Of each table: as many as leave all of them on the screen."""
_TABLES = 6


@click.command()
@config_option
@click.option(
    "--days",
    default=1,
    show_default=True,
    type=click.IntRange(1, 366),
    help="What is added up, today included (UTC).",
)
@click.option("--project", "projects", multiple=True, help="Only these (several times).")
@click.option("--once", is_flag=True, help="Print it once; so it does where stdout is no terminal.")
def top(days: int, projects: tuple[str, ...], once: bool) -> None:
    """What is spent, what is left, and what was refused, live. Ctrl-C ends it.

    It asks the running gateway, and changes nothing.
    """
    from rich.console import Console
    from rich.live import Live

    config = load()
    viewer = {"id": "top", "label": "", "tenant": "", "projects": list(projects) or None}

    console = Console(highlight=False, markup=False, emoji=False)
    printed = once or not sys.stdout.isatty()

    def look() -> Group:
        asked = {"viewer": viewer, "days": days}
        # A table has its heading and an empty line beside its rows, and the first line is above all.
        fit = _MOST_ROWS if printed else (console.height - 1) // _TABLES - 2
        rows = min(max(fit, _LEAST_ROWS), _MOST_ROWS)
        return shown(perform(config, "overview", asked, shown=printed), days, rows)

    if printed:
        console.print(look())
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(look(), console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(_EVERY_S)
            live.update(look(), refresh=True)


def shown(overview: dict[str, Any], days: int, rows: int) -> Group:
    """``overview`` is `control.overview.Overview.show`, ``rows`` are those of each table."""
    from rich.console import Group
    from rich.text import Text

    span = "today" if days == 1 else f"the last {days} days"
    head = Text(f"Tollhouse  {overview['at']}  {overview['total']} USD {span} (UTC)", "bold")
    if overview["partial"]:
        head.append("  a part: there are more projects than are added up", "red")
    now = overview["at"]
    parts: list[RenderableType] = [head, _budgets(overview["budgets"][:rows], now)]
    for name, heading in (("projects", "PROJECT"), ("models", "MODEL"), ("sessions", "SESSION")):
        parts.append(_amounts(heading, overview[name][:rows]))
    refused = [
        (_moment(row["ts"], now), row["project"], _asked(row), row["reason"], row["todo"])
        for row in overview["refusals"][:rows]
    ]
    parts.append(_table(("REFUSED", "PROJECT", "ASKED", "REASON", "WHAT TO DO"), refused))
    calls = [
        (
            _moment(row["ts"], now),
            row["project"],
            _asked(row),
            row["status"],
            row["cost_usd"],
            row["call_id"],
        )
        for row in overview["calls"][:rows]
    ]
    parts.append(_table(("CALLED", "PROJECT", "ASKED", "STATUS", "USD", "CALL"), calls))
    empty = Text()
    return Group(head, *(one for part in parts[1:] for one in (part, empty)))


def _moment(timestamp: str, now: str) -> str:
    """RFC 3339 in UTC, to the second: of the day of ``now`` the time alone."""
    same = timestamp[:10] == now[:10]
    return timestamp[11:19] if same else timestamp[:19].replace("T", " ").removesuffix(" 00:00:00")


def _asked(row: dict[str, Any]) -> str:
    provider = row["provider"] or row.get("host", "")
    return f"{provider}/{row['model']}" if row["model"] else str(provider)


def _budgets(budgets: Sequence[dict[str, Any]], now: str) -> RenderableType:
    from rich.text import Text

    rows = []
    for row in budgets:
        percent = int(row["percent"])
        style = "red" if percent >= 100 else "yellow" if percent >= _AMBER else "green"
        filled = min(percent, 100) * _BAR // 100
        # The number stands first, so that a narrow terminal cuts the bar.
        bar = Text(f"{percent:>3} % " + "█" * filled + "░" * (_BAR - filled), style)
        rows.append(
            (row["scope"], row["limit"], bar, row["left"], _moment(row["resets_at"] or "", now))
        )
    return _table(("BUDGET", "LIMIT", "TAKEN", "LEFT", "RESETS"), rows)


def _amounts(heading: str, amounts: Sequence[Sequence[str]]) -> RenderableType:
    most = max((Decimal(usd) for _, usd in amounts), default=Decimal())
    rows = [(name, usd, _block(Decimal(usd), most)) for name, usd in amounts]
    return _table((heading, "USD", ""), rows)


def _block(usd: Decimal, most: Decimal) -> str:
    """What was spent is seen, however little it is beside the most."""
    return "█" * int(usd * _BAR / most) or "▏" if usd > 0 else " "


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(
            heading,
            # What wraps makes room for the rest in a narrow terminal.
            no_wrap=heading not in ("WHAT TO DO", "ASKED"),
            overflow="ellipsis",
            justify="right" if heading in ("USD", "LEFT") else "left",
        )
    for row in rows:
        # A text of a workload's moves no cursor: `cell` leaves nothing in it that a terminal obeys.
        table.add_row(*(one if isinstance(one, Text) else Text(cell(one)) for one in row))
    if not rows:
        table.add_row(Text("none", "dim"))
    return table
