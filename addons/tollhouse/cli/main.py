"""The command `tollhouse`. Results on stdout, talk on stderr; exit 0 done, 1 it says no, 2 wrong use.

Only click and the standard library are imported for `--help`: each command imports what it needs when it runs.
"""

from __future__ import annotations

import click

from tollhouse.cli import (
    alerts,
    budget,
    ca,
    doctor,
    execute,
    explain,
    export,
    key,
    policy,
    prices,
    project,
    run,
    schema,
    token,
    top,
)
from tollhouse.cli.common import OneLineGroup, config_option


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from tollhouse import __version__

        click.echo(__version__)
        context.exit()


@click.group(
    cls=OneLineGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@config_option
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and end.",
)
def cli() -> None:
    """The only road out: identity, budgets, keys and metering for calls to AI providers."""


for _command in (
    run.demo,
    run.init,
    run.check,
    run.run,
    run.reload,
    run.upgrade,
    run.workers,
    project.apply,
    project.project,
    token.token,
    budget.budget,
    budget.usage,
    prices.prices,
    key.key,
    alerts.alerts,
    ca.ca,
    policy.policy,
    explain.explain,
    top.top,
    export.export,
    schema.schema,
    doctor.doctor,
    execute.execute,
    execute.env,
):
    cli.add_command(_command)


def main() -> None:
    """The console script's entry; always ends by `SystemExit`."""
    cli.main(prog_name="tollhouse")
