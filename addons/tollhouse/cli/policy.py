"""`tollhouse policy render`."""

from __future__ import annotations

from pathlib import Path

import click

from tollhouse.cli.common import SaysNo, WrongUse, config_option, load, say


@click.group()
@config_option
def policy() -> None:
    """The wall around the gateway, written from its configuration."""


@policy.command("render")
@config_option
@click.argument("target")
@click.option(
    "--to",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files there, over those of the same names; else they are printed.",
)
def policy_render(target: str, to: Path | None) -> None:
    """Print the files of TARGET.

    TARGET is nftables, nftables-router, compose, systemd, kubernetes or cilium. policies/TARGET says what it stops, what
    it does not, and how to test it.
    """
    from tollhouse.policies.rendering import CannotRender
    from tollhouse.policies.targets import TARGETS

    found = next((one for one in TARGETS if one.name == target), None)
    if found is None:
        known = ", ".join(f"{one.name} ({one.summary})" for one in TARGETS)
        raise WrongUse(f"{target} is no target: name one of {known}")
    try:
        rendered = found.render(load())
    except CannotRender as error:
        raise SaysNo(str(error)) from None
    if to is None:
        click.echo(
            "---\n".join(text for text in rendered.files.values()),
            nl=False,
        )
    else:
        to.mkdir(parents=True, exist_ok=True)
        for name, text in rendered.files.items():
            (to / name).write_text(text, encoding="utf-8")
            say(f"wrote {to / name}")
    for note in rendered.notes:
        say(note)
