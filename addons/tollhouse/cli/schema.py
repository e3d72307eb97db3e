"""`tollhouse schema call|api`."""

from __future__ import annotations

import click

from tollhouse.cli.common import config_option


@click.group()
@config_option
def schema() -> None:
    """The published schemas of what Tollhouse gives out."""


@schema.command("call")
@config_option
def schema_call() -> None:
    """Print the JSON Schema of a call's line. Its version is in `$id`."""
    from tollhouse.exports import published

    click.echo(published.text("call"), nl=False)


@schema.command("api")
@config_option
def schema_api() -> None:
    """Print the OpenAPI document of the admin API, as `/api/v1/openapi.json` has it."""
    from tollhouse.cli import render
    from tollhouse.site.api_document import document

    click.echo(render.as_json(document()))
