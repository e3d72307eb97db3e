"""`tollhouse budget show|grant` and `tollhouse usage`."""

from __future__ import annotations

import os
import pwd
import sys

import click

from tollhouse.cli.common import (
    WrongUse,
    config_option,
    json_option,
    load,
    moment,
    perform,
    say,
    show,
)


@click.group()
@config_option
def budget() -> None:
    """Budgets: what a project has spent, and may."""


@budget.command("show")
@config_option
@click.argument("project")
@json_option
def budget_show(project: str, as_json: bool) -> None:
    """Every limit that PROJECT's calls are charged to: used, held, left, and when it resets.

    A limit by session has no amounts here, for each session has its own: `tollhouse usage --by session` says what each came to.
    """
    state = perform(load(), "budget_show", {"project": project})
    granted = any("granted" in limit for scope in state["scopes"] for limit in scope["limits"])
    columns = ("limit", *(["granted"] if granted else []), "used", "held", "left", "resets_at")
    rows = [
        (scope["scope"], *(limit.get(column, "0") for column in columns))
        for scope in state["scopes"]
        for limit in scope["limits"]
    ]
    unknown = [""] * (len(columns) - 1)
    rows += [(each["scope"], each["limit"], *unknown) for each in state.get("sessions", ())]
    if not rows:
        say(
            f'{project} has no limit: `tollhouse project set {project} --limit "10 usd/day"` sets one'
        )

    def for_people() -> str:
        from tollhouse.cli import render

        headings = ("SCOPE", *(column.replace("_", " ").upper() for column in columns))
        tables = [render.table(headings, rows)] if rows else []
        grants = [
            (grant["at"], grant["amount"], grant["by"], grant["reason"])
            for grant in state.get("grants", ())
        ]
        if grants:
            tables.append(render.table(("GRANTED AT", "AMOUNT", "BY", "REASON"), grants))
        return "\n\n".join(tables)

    show(state, as_json, for_people)


@budget.command("grant")
@config_option
@click.argument("project")
@click.argument("amount")
@click.option(
    "--reason",
    required=True,
    metavar="TEXT",
    help="Why; kept beside it and shown by `budget show`.",
)
@click.option(
    "--id",
    "grant_id",
    metavar="ID",
    help="Your name for it: told again with the same one, nothing is added.",
)
@json_option
def budget_grant(
    project: str, amount: str, reason: str, grant_id: str | None, as_json: bool
) -> None:
    """Give PROJECT AMOUNT more, once: "5 usd", "200000 tokens", "100 requests".

    It is added to every limit of that unit that the project has itself, for the day, month, ...
    that it is in now, and is gone with it. With --id it is safe to run again when it is not known
    whether it was done: an id counts once among the last 1,000 grants of PROJECT."""
    arguments = {"project": project, "amount": amount, "reason": reason, "by": _user()}
    done = perform(
        load(),
        "budget_grant",
        arguments if grant_id is None else {**arguments, "grant_id": grant_id},
    )
    if done.get("repeated"):
        say(
            f"the grant {done['id']} of {done['amount']} was made {done['at']}: nothing was changed"
        )
    else:
        limits = "1 limit" if done["limits"] == 1 else f"{done['limits']} limits"
        say(f"{project} has {done['amount']} more in {limits}, until each resets")
    show(done, as_json, lambda: "")


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@click.command()
@config_option
@click.option("--project", required=True, help="Whose usage.")
@click.option(
    "--since",
    type=moment,
    metavar="WHEN",
    help="A date (2026-11-01) or how long ago (7d); else all that is kept.",
)
@click.option(
    "--by",
    type=click.Choice(["model", "provider", "day", "token", "user", "session"]),
    default="model",
    show_default=True,
    help="One row each. Of sessions there are the last 31 days, and calls that named one and cost something. A user is whom the "
    "platform names, else the label of a token.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    help="How it is printed; else a table, on a terminal with what was spent day by day.",
)
@json_option
def usage(project: str, since: float | None, by: str, form: str | None, as_json: bool) -> None:
    """What a project's calls came to, in whole days (UTC)."""
    if as_json and form not in (None, "json"):
        raise WrongUse(f"--json and --format {form} are two forms: give one of them")
    lively = not as_json and form in (None, "table") and sys.stdout.isatty()
    asked = {"project": project, "since": since, "by": by, **({"daily": True} if lively else {})}
    found = perform(load(), "usage", asked)
    rows = found["rows"]
    if not rows:
        say(f"{project} has no usage in this time")

    def for_people() -> str:
        from tollhouse.cli import render

        if form == "csv":
            columns = ("key", "usd", "tokens", "requests")
            return render.as_csv((by, *columns[1:]), [[row[c] for c in columns] for row in rows])
        if not rows:
            return ""
        headings = [by.upper(), "USD", "TOKENS", "REQUESTS"]
        shown = [[row["key"], row["usd"], row["tokens"], row["requests"]] for row in rows]
        if lively:
            headings.append("SPENT")
            pictures = render.spent(rows, by == "day")
            shown = [[*row, picture] for row, picture in zip(shown, pictures, strict=True)]
        return render.table(headings, shown)

    show(found, as_json or form == "json", for_people)
