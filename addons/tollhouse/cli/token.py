"""`tollhouse token create|list|rotate|revoke`. The token itself is shown once, alone on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from tollhouse.cli.common import (
    WrongUse,
    config_option,
    duration,
    json_option,
    load,
    perform,
    say,
    show,
    show_each,
    token_limits,
    token_text,
)

if TYPE_CHECKING:
    from tollhouse.config.load import Config

_MOST_SORTED: Final = 1000
"""Tokens that are read at once, and put into the order in which they were made."""


@click.group()
@config_option
def token() -> None:
    """Gate tokens: what a workload holds instead of a provider's key."""


@token.command("create")
@config_option
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@click.option(
    "--view",
    is_flag=True,
    help="For no project: it can charge nothing, and sees the status page and the metrics.",
)
@click.option(
    "--admin",
    is_flag=True,
    help="For no project: it can charge nothing, and changes projects, limits and tokens through the admin API.",
)
@click.option("--tenant", default="", metavar="NAME", help="With --view: of this tenant alone.")
@click.option(
    "--expires",
    metavar="TIME",
    type=duration,
    help="Such as 12h, 30d or 2w from now; else it never ends.",
)
@click.option("--label", default="", metavar="TEXT", help="What it is for; shown by `token list`.")
@token_limits
@json_option
def token_create(
    projects: tuple[str, ...],
    view: bool,
    admin: bool,
    tenant: str,
    expires: float | None,
    label: str,
    limits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a token that may charge PROJECT (several, if they are of one tenant).

    The token is alone on stdout: TOKEN=$(tollhouse token create proj_123). It can't be shown again.
    """
    if admin:
        if projects or limits or view or tenant:
            raise click.UsageError(
                "--admin makes a token that charges nothing and is for all: leave out PROJECT, --limit, --view and --tenant",
                click.get_current_context(),
            )
        config = load()
        made = perform(config, "admin_create", {"expires_s": expires, "label": label})
        say(f"{made['id']} may change projects, limits and tokens of all; it is shown only now")
        if not config.admin.api:
            say(f"the admin API is off: {config.path} has no [admin] api = true")
        show(made, as_json, lambda: str(made["token"]))
        return
    if view:
        if projects or limits:
            raise click.UsageError(
                "--view makes a token that charges nothing: leave out PROJECT and --limit",
                click.get_current_context(),
            )
        looking = {"tenant": tenant, "expires_s": expires, "label": label}
        made = perform(load(), "viewer_create", looking)
        whose = f"tenant {tenant}" if tenant else "all tenants"
        say(f"{made['id']} sees the status page of {whose}; it is shown only now")
        show(made, as_json, lambda: str(made["token"]))
        return
    if tenant:
        raise click.UsageError(
            "--tenant goes with --view: a project has its tenant already",
            click.get_current_context(),
        )
    if not projects:
        raise click.UsageError(
            "name the PROJECT that the token may charge, --view for one that looks, or --admin for one that changes",
            click.get_current_context(),
        )
    arguments = {
        "projects": list(projects),
        "expires_s": expires,
        "label": label,
        "limits": list(limits),
    }
    made = perform(load(), "token_create", arguments)
    say(f"{token_text(made)}; it is shown only now")
    show(made, as_json, lambda: str(made["token"]))


@token.command("list")
@config_option
@click.argument("project", required=False)
@json_option
def token_list(project: str | None, as_json: bool) -> None:
    """The tokens of PROJECT, or all: their ids, never the tokens. The oldest first, or, of more than 1,000, by id."""
    headings = (
        "ID",
        "KIND",
        "TENANT",
        "PROJECTS",
        "LABEL",
        "CREATED",
        "EXPIRES",
        "REVOKED",
        "LIMITS",
    )
    none = "there is no token yet: `tollhouse token create PROJECT` makes one"
    show_each(_tokens(load(), project), as_json, headings, lambda it: list(it.values()), none)


def _tokens(config: Config, project: str | None) -> Iterator[dict[str, Any]]:
    """The oldest first, or, of more than `_MOST_SORTED`, by their ids."""
    asked = {} if project is None else {"project": project}
    few = perform(config, "token_list", {**asked, "most": _MOST_SORTED})
    if few is not None:
        yield from few
        return
    say(f"there are more than {_MOST_SORTED} tokens: they are sorted by id")
    after = ""
    while page := perform(config, "token_page", {**asked, "after": after, "count": _MOST_SORTED}):
        yield from page
        after = page[-1]["id"]


@token.command("rotate")
@config_option
@click.argument("old", metavar="ID")
@click.option(
    "--overlap",
    metavar="TIME",
    type=duration,
    default="1h",
    show_default=True,
    help="How long both are valid.",
)
@click.option(
    "--expires",
    metavar="TIME",
    type=duration,
    help="Of the new one; else as long as the old one was made for.",
)
@json_option
def token_rotate(old: str, overlap: float, expires: float | None, as_json: bool) -> None:
    """Make a successor of the token ID: the same projects, label and limits, and what was used of them stays used.

    The new token is alone on stdout. The old one ends after --overlap.
    """
    made = perform(
        load(), "token_rotate", {"token_id": old, "overlap_s": overlap, "expires_s": expires}
    )
    say(f"{token_text(made)}; it is shown only now")
    say(f"{old} is valid until {made['replaced_ends_at']}")
    show(made, as_json, lambda: str(made["token"]))


@token.command("revoke")
@config_option
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True)
@json_option
def token_revoke(token_ids: tuple[str, ...], as_json: bool) -> None:
    """Revoke tokens by their ids (`tollhouse token list`). `-` reads ids or tokens from stdin, one a line.

    The `identity` in the lines of a JWT, a client certificate or a network revokes that subject. Every gateway refuses them
    within 5 s.
    """
    from tollhouse.accounts.token import token_id, well_formed

    named: list[str] = []
    for text in token_ids:
        if text == "-":
            named += [line.strip() for line in sys.stdin if line.strip()]
            continue
        if well_formed(text):
            say(
                "that was a whole token, which other users and the shell's history can see here: better its id, or `-`"
            )
        named.append(text)
    if not named:
        raise WrongUse("stdin named no token: give one id or token a line")
    config = load()
    done = []
    for text in named:
        done.append(
            perform(
                config, "token_revoke", {"token_id": token_id(text) if well_formed(text) else text}
            )
        )
        say(f"revoked {done[-1]['id']}")
    show(done, as_json, lambda: "")


@token.command("restore")
@config_option
@click.argument("subject_id", metavar="ID")
@json_option
def token_restore(subject_id: str, as_json: bool) -> None:
    """Let a revoked subject of the platform (jwt_..., crt_..., net_...) in again. A gate token stays revoked."""
    done = perform(load(), "token_restore", {"token_id": subject_id})
    say(f"{subject_id} is let in again")
    show(done, as_json, lambda: "")
