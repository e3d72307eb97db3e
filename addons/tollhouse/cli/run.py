"""`tollhouse demo`, `init`, `check` and `run`."""

from __future__ import annotations

from pathlib import Path

import click

from tollhouse.cli.common import SaysNo, config_option, config_path, json_option, load, say, show


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave it running, and print what to paste into another terminal."
)
def demo(keep: bool) -> int:
    """Show calls going out, end to end.

    On this machine alone, against a stand-in for the provider; exit 0 if all of it happened.
    """
    from tollhouse.demo import demo as demonstration

    return demonstration.main(keep=keep)


@click.command()
@click.argument(
    "directory", required=False, default=".", type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--embedded",
    is_flag=True,
    help="Name the embedded Redis and Vault: nothing to install, one machine.",
)
def init(directory: Path, embedded: bool) -> None:
    """Write a commented tollhouse.toml and the CA.

    In DIRECTORY, else here.
    """
    from tollhouse.cli.init import InitError, initialise

    try:
        made = initialise(directory, embedded=embedded)
    except InitError as error:
        raise SaysNo(str(error)) from None
    say(f"wrote {made.config.path}; the CA is {made.ca_file} (SHA-256 {made.fingerprint})")
    click.echo(made.next_steps, err=True)


@click.command()
@config_option
@json_option
def check(as_json: bool) -> int:
    """Judge the configuration and what it names.

    Reaches for Redis, Vault and the listeners' ports.
    """
    import asyncio

    from tollhouse.check.check import check as judge
    from tollhouse.check.check import worst

    findings = asyncio.run(judge(config_path()))
    level = worst(findings)
    result = {"level": level, "findings": [finding.as_dict() for finding in findings]}
    show(result, as_json, lambda: "\n".join(map(str, findings)))
    return 1 if level == "error" else 0


@click.command()
@config_option
def run() -> int:
    """Start the gateway.

    It stops on SIGTERM or Ctrl-C, when the calls under way have ended.
    """
    from tollhouse.process import run as run_gateway

    return run_gateway(load(enforced=True))
