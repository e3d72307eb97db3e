"""`tollhouse demo`, `init`, `check` and `run`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import click

from tollhouse.cli.common import SaysNo, config_option, config_path, json_option, load, say, show
from tollhouse.cli.progress import waiting

_TAKE_OVER_S: Final = 120.0
_ANSWER_S: Final = 180.0
"""A reload answers when the new workers are ready; with embedded stores that is after the calls under way."""


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave it running, and print what to paste into another terminal."
)
def demo(keep: bool) -> int:
    """Show calls going out, end to end.

    On this machine alone, against a stand-in for the provider; exit 0 if all of it happened.
    """
    from tollhouse.demo import demo as demonstration

    return demonstration.main(keep=keep, working=waiting)


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

    with waiting("judges the file, and asks what it names"):
        findings = asyncio.run(judge(config_path()))
    level = worst(findings)
    result = {"level": level, "findings": [finding.as_dict() for finding in findings]}
    show(result, as_json, lambda: "\n".join(map(str, findings)))
    return 1 if level == "error" else 0


@click.command()
@config_option
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    envvar="TOLLHOUSE_WORKERS",
    metavar="N",
    help="Worker processes; else $TOLLHOUSE_WORKERS, else one a core. Embedded stores allow one.",
)
@click.option("--judge", is_flag=True, hidden=True, help="Say whether it could start, and end.")
def run(workers: int | None, judge: bool) -> int:
    """Start the gateway.

    It stops on SIGTERM or Ctrl-C, when the calls under way have ended; a second one ends them at once. SIGHUP takes the file
    as it is then (`tollhouse reload`), SIGUSR2 the program as it is installed then (`tollhouse upgrade`).
    """
    from tollhouse.process import run as run_gateway

    return run_gateway(load(enforced=True), workers, judge=judge)


@click.command()
@config_option
@json_option
def reload(as_json: bool) -> None:
    """Take the configuration as the file has it now.

    The running gateway judges it first, and refuses it whole if something is wrong. Calls under way end under the old one.
    """
    with waiting("new workers begin; calls under way go on under the old ones"):
        done = _ask("reload")
    show(done, as_json, lambda: "")
    say("reloaded")


@click.command()
@config_option
@json_option
def upgrade(as_json: bool) -> None:
    """Take the program as it is installed now.

    The running gateway has it judge the configuration first. No connection is refused meanwhile.
    """
    with waiting("the new program judges the configuration") as waited:
        before = _ask("upgrade")
        generation = max((worker["generation"] for worker in before), default=0)
        deadline = time.monotonic() + _TAKE_OVER_S
        while True:
            time.sleep(0.2)
            with contextlib.suppress(SaysNo):
                now = _ask("workers")
                newer = [worker for worker in now if worker["generation"] > generation]
                ready = [worker for worker in newer if worker["state"] == "ready"]
                if newer and len(ready) == len(newer):
                    break
                waited.now(f"{len(ready)} of {len(newer)} workers of the new program are ready")
            if time.monotonic() > deadline:
                raise SaysNo(
                    f"the new program was not ready within {_TAKE_OVER_S:g} s: the gateway's log says why"
                )
    show(now, as_json, lambda: "")
    say("upgraded")


@click.command()
@config_option
@json_option
def workers(as_json: bool) -> None:
    """Show the running gateway's worker processes."""
    from tollhouse.cli import render

    found = _ask("workers")
    columns = ("worker", "pid", "generation", "state", "calls", "connections", "for_s")
    rows = [[worker[name] for name in columns] for worker in found]
    show(found, as_json, lambda: render.table([name.upper() for name in columns], rows))


def _ask(operation: str) -> list[dict[str, Any]]:
    """What the running gateway says."""
    from tollhouse.control import client

    directory = load().state.directory
    try:
        found: list[dict[str, Any]] = client.ask(directory, operation, {}, answer_s=_ANSWER_S)
    except client.NoGateway:
        raise SaysNo(
            f"no gateway runs with {directory}: start it (`tollhouse run`), or name its configuration by --config"
        ) from None
    except client.StoreError as error:
        raise SaysNo(str(error)) from None
    return found
