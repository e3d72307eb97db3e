"""`tollhouse doctor`."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import click

from tollhouse.cli.ca import authority
from tollhouse.cli.common import SaysNo, WrongUse, config_option, load, say
from tollhouse.cli.progress import waiting


@click.command()
@config_option
@click.option(
    "--print-probe",
    "language",
    is_flag=False,
    flag_value="python",
    type=click.Choice(["python", "sh"]),
    help="Print the probe, for a workload's place: python, or sh for images without Python.",
)
@click.option(
    "--gateway",
    default="",
    metavar="HOST",
    help="The host by which workloads know the gateway; else they are to have HTTPS_PROXY.",
)
@click.option(
    "--transparent/--no-transparent",
    default=None,
    help="Whether the network leads TCP 443 to the gateway; else as [listen] transparent says.",
)
@click.option(
    "--address", "addresses", multiple=True, help="Dial this for a provider (one a family)."
)
@click.option("--resolver", "resolvers", multiple=True, help="Ask this name server (one a family).")
@click.option(
    "--at-once",
    is_flag=True,
    help="What is closed has to be refused, as nftables' rules do: silence is not as it should be.",
)
@click.option(
    "--timeout", default=3.0, type=click.FloatRange(0.1, 60), help="Of each row, in seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def doctor(
    language: Literal["python", "sh"] | None,
    gateway: str,
    transparent: bool | None,
    addresses: tuple[str, ...],
    resolvers: tuple[str, ...],
    at_once: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Try each way out, and the right ways, from here or from a workload's place.

    Exit 1 if one is not as it should be. It has to run where workloads do: tollhouse doctor --print-probe | kubectl exec -i
    POD -- python3 -
    """
    from tollhouse.doctor.plan import CannotProbe, plan, printed

    config = load()
    try:
        ca = authority(config).cert_pem
    except SaysNo as error:
        ca = ""
        say(f"{error.format_message()}; until then no row can know Tollhouse by its certificate")
    try:
        made = plan(
            config,
            ca=ca,
            gateway=gateway,
            transparent=transparent,
            addresses=addresses,
            resolvers=resolvers,
            at_once=at_once,
            timeout_s=timeout,
        )
    except CannotProbe as error:
        raise WrongUse(str(error)) from None
    if language is not None:
        if as_json:
            raise WrongUse("--json belongs to where the probe runs: `... | python3 - --json`")
        click.echo(printed(made, language), nl=False)
        return 0
    command = [sys.executable, "-I", "-", *(["--json"] if as_json else [])]
    with waiting("tries each way out"):
        # What it prints comes at its end.
        done = subprocess.run(  # noqa: S603
            command, input=printed(made, "python").encode(), stdout=subprocess.PIPE, check=False
        )
    click.echo(done.stdout, nl=False)
    return done.returncode
