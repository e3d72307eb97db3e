"""`tollhouse alerts`: what it says where there is nobody to be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tollhouse.cli.main import cli
from tollhouse.demo.gateway_config import write_config


@pytest.mark.parametrize("command", ["test", "list"])
def test_no_receiver(tmp_path: Path, command: str) -> None:
    path = write_config(tmp_path, None)
    done = CliRunner().invoke(cli, ["alerts", command, "--config", str(path)])
    assert done.exit_code == 1
    assert "has no [[alerts]], so nobody is told of anything" in done.stderr


def test_a_name_that_is_nobodys(tmp_path: Path) -> None:
    path = write_config(tmp_path, None, None, {"alerts": [{"to": "https://hooks.example/x"}]})
    arguments = ["alerts", "test", "--to", "nobody", "--config", str(path)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    assert "nobody is no receiver; there are hooks.example" in done.stderr
