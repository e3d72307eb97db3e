"""`tollhouse budget show` and `tollhouse usage`."""

from __future__ import annotations

import click

from tollhouse.admin.commands_common import config_option, json_option, load, moment, perform, say, show


@click.group()
@config_option
def budget() -> None:
    """Budgets: what a project has spent, and may."""


@budget.command("show")
@config_option
@click.argument("project")
@json_option
def budget_show(project: str, as_json: bool) -> None:
    """Every limit that PROJECT's calls are charged to: used, held, left, and when it resets."""
    state = perform(load(), "budget_show", {"project": project})
    rows = [
        (scope["scope"], limit["limit"], limit["used"], limit["held"], limit["left"], limit["resets_at"])
        for scope in state["scopes"]
        for limit in scope["limits"]
    ]
    if not rows:
        say(f'{project} has no limit: `tollhouse project set {project} --limit "10 usd/day"` sets one')

    def for_people() -> str:
        from tollhouse.admin import render

        return render.table(("SCOPE", "LIMIT", "USED", "HELD", "LEFT", "RESETS AT"), rows) if rows else ""

    show(state, as_json, for_people)


@click.command()
@config_option
@click.option("--project", required=True, help="Whose usage.")
@click.option(
    "--since", type=moment, metavar="WHEN", help="A date (2026-11-01) or how long ago (7d); else all that is kept."
)
@click.option(
    "--by", type=click.Choice(["model", "day", "token"]), default="model", show_default=True, help="One row each."
)
@json_option
def usage(project: str, since: float | None, by: str, as_json: bool) -> None:
    """What a project's calls came to, in whole days (UTC)."""
    found = perform(load(), "usage", {"project": project, "since": since, "by": by})
    rows = found["rows"]
    if not rows:
        say(f"{project} has no usage in this time")

    def for_people() -> str:
        from tollhouse.admin import render

        if not rows:
            return ""
        return render.table((by.upper(), "USD", "TOKENS", "REQUESTS"), [list(row.values()) for row in rows])

    show(found, as_json, for_people)
