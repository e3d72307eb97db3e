"""`tollhouse token create|list|revoke`. The token itself is shown once, alone on stdout."""

from __future__ import annotations

import sys

import click

from tollhouse.admin.commands_common import (
    WrongUse,
    config_option,
    duration,
    json_option,
    load,
    perform,
    say,
    show,
)


@click.group()
@config_option
def token() -> None:
    """Gate tokens: what a workload holds instead of a provider's key."""


@token.command("create")
@config_option
@click.argument("projects", metavar="PROJECT...", nargs=-1, required=True)
@click.option("--expires", metavar="TIME", type=duration, help="Such as 12h, 30d or 2w from now; else it never ends.")
@click.option("--label", default="", metavar="TEXT", help="What it is for; shown by `token list`.")
@json_option
def token_create(projects: tuple[str, ...], expires: float | None, label: str, as_json: bool) -> None:
    """Make a token that may charge PROJECT (several, if they are of one tenant).

    The token is alone on stdout: TOKEN=$(tollhouse token create proj_123). It can't be shown again.
    """
    made = perform(load(), "token_create", {"projects": list(projects), "expires_s": expires, "label": label})
    say(f"token {made['id']} for {', '.join(made['projects'])}, {_ends(made['expires_at'])}; it is shown only now")
    show(made, as_json, lambda: str(made["token"]))


@token.command("list")
@config_option
@click.argument("project", required=False)
@json_option
def token_list(project: str | None, as_json: bool) -> None:
    """The tokens of PROJECT, or all: their ids, never the tokens."""
    found = perform(load(), "token_list", {} if project is None else {"project": project})
    if not found:
        say("there is no token yet: `tollhouse token create PROJECT` makes one")

    def for_people() -> str:
        from tollhouse.admin import render

        headings = ("ID", "TENANT", "PROJECTS", "LABEL", "CREATED", "EXPIRES", "REVOKED")
        return render.table(headings, [list(info.values()) for info in found]) if found else ""

    show(found, as_json, for_people)


@token.command("revoke")
@config_option
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True)
@json_option
def token_revoke(token_ids: tuple[str, ...], as_json: bool) -> None:
    """Revoke tokens by their ids (`tollhouse token list`). `-` reads ids or tokens from stdin, one a line.

    Every gateway refuses them within 5 s.
    """
    from tollhouse.admit.token import token_id, well_formed

    named: list[str] = []
    for text in token_ids:
        if text == "-":
            named += [line.strip() for line in sys.stdin if line.strip()]
            continue
        if well_formed(text):
            say("that was a whole token, which other users and the shell's history can see here: better its id, or `-`")
        named.append(text)
    if not named:
        raise WrongUse("stdin named no token: give one id or token a line")
    config = load()
    done = []
    for text in named:
        done.append(perform(config, "token_revoke", {"token_id": token_id(text) if well_formed(text) else text}))
        say(f"revoked {done[-1]['id']}")
    show(done, as_json, lambda: "")


def _ends(expires_at: str | None) -> str:
    return f"valid until {expires_at}" if expires_at else "valid until revoked"
