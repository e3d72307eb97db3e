"""The examples of environment files: each variable that one names is read by the program that it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from opentelemetry.sdk import environment_variables

from tollhouse.cli.main import cli
from tollhouse.cli.variables import PLACEHOLDER, variables
from tollhouse.providers import BUILT_IN, Catalog

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "policies" / "systemd" / "tollhouse.env.example"
OPERATOR = ROOT / "deploy" / "laptop" / "operator.env.example"
WORKLOAD = ROOT / "deploy" / "laptop" / "workload.env.example"


def named(file: Path) -> dict[str, str]:
    """What it sets, also where that is commented out."""
    found = re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", file.read_text(), re.MULTILINE)
    assert found
    assert len(dict(found)) == len(found)
    return dict(found)


def options(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    for one in getattr(command, "commands", {}).values():
        yield from options(one)


@pytest.mark.parametrize("file", [SERVICE, OPERATOR], ids=["service", "operator"])
def test_the_gateway_reads_each(file: Path) -> None:
    """By an option of a command, or by OpenTelemetry's SDK as docs/telemetry.md says; the configuration's by every command."""
    of_commands = {str(one.envvar) for one in options(cli) if one.envvar} | {"TOLLHOUSE_CONFIG"}
    # Each name there is a constant whose value it is.
    of_sdk = {name for name in dir(environment_variables) if name.startswith("OTEL_")}
    names = named(file).keys()
    assert names <= of_commands | of_sdk
    page = (ROOT / "docs" / "telemetry.md").read_text()
    for name in names & of_sdk:
        assert name.removeprefix("OTEL_EXPORTER_OTLP") in page, name
    keys = {name for provider in BUILT_IN for name in provider.key_variables}
    assert not keys & names


def test_the_operators_values_hold() -> None:
    """The configuration that is named is the one that is looked for, and its number of workers is one that `run` takes."""
    values = named(OPERATOR)
    said = CliRunner().invoke(cli, ["check"], env=values).output
    assert values["TOLLHOUSE_CONFIG"] in said
    refused = CliRunner().invoke(cli, ["run"], env={**values, "TOLLHOUSE_WORKERS": "0"})
    assert "'--workers': 0 is not in the range" in refused.output
    assert 1 <= int(values["TOLLHOUSE_WORKERS"]) <= 64


def test_a_workload_is_told_what_env_tells_it() -> None:
    """Each variable is one that `tollhouse env` prints; its value for a key is no key. A call is made by them in
    tests/e2e/test_clients_doc.py."""
    values = named(WORKLOAD)
    printed = variables(
        {},
        Catalog(BUILT_IN),
        proxy="http://proj_123:gate_TOKEN@127.0.0.1:8080",
        certs=Path("/path/to/state"),
        wanted={"openai", "anthropic"},
    ).values
    assert values.keys() <= printed.keys()
    for name, value in values.items():
        if name.endswith("_API_KEY"):
            assert value == printed[name] == PLACEHOLDER
        elif value != "/path/to/state/ca.pem":
            assert value == printed[name]


def test_the_service_takes_its_file() -> None:
    """Without the file it starts all the same, and what stands in the example is all commented out."""
    unit = (SERVICE.parent / "tollhouse.service").read_text()
    assert "\nEnvironmentFile=-/etc/tollhouse/tollhouse.env\n" in unit
    lines = SERVICE.read_text().splitlines()
    assert all(not line or line.startswith("#") for line in lines)
