"""The probe as it is printed: one file that old Pythons can read, which says what is not as it should be. What it finds in a
network is in tests/policies/test_router.py."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.apart import CONFIG
from tests.support.requires import program

from tollhouse.cli.main import cli
from tollhouse.config.load import load_config
from tollhouse.doctor import plan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tollhouse.toml").write_text(CONFIG)
    return tmp_path / "tollhouse.toml"


def test_the_plan_is_the_configurations(file: Path) -> None:
    """Stores elsewhere are named as the configuration names them, what is beside the gateway by the gateway's host."""
    made = plan.plan(load_config(file), ca="CA", gateway="gate.internal", addresses=("192.0.2.1",))
    assert (made.proxy, made.transparent) == ("http://gate.internal:8080", False)
    assert (made.redis, made.vault) == (("10.0.0.5", 6390), ("vault.internal", 8200))
    assert made.admin == ("gate.internal", 9090)
    assert made.addresses == ("192.0.2.1", plan.RESOLVERS[1])
    assert plan.plan(load_config(file), ca="", addresses=("192.0.2.1",)).proxy is None
    for why, wrong in (
        ("is no address", {"resolvers": ("one.internal",)}),
        ("one of several", {"addresses": ("192.0.2.1", "192.0.2.2")}),
        ("is no host", {"gateway": "http://gate.internal:8080"}),
        ("is no host", {"gateway": "gate.internal:8080"}),
    ):
        with pytest.raises(plan.CannotProbe, match=why):
            plan.plan(load_config(file), ca="", **wrong)  # type: ignore[arg-type]


@pytest.mark.requires("curl")
@pytest.mark.parametrize("language", ["python", "sh"])
def test_the_proxy_and_the_token_of_the_place(file: Path, language: plan.Language) -> None:
    """Without them the right way is a row that was not tried, and no row that is not there. A JWT is a token, but for one that
    stands where a provider's key belongs, which is somebody else's."""
    made = plan.plan(load_config(file), ca="", addresses=("127.0.0.1", "::1"), timeout_s=0.2)
    made = replace(made, resolvers=("127.0.0.1", "::1"), redis=None, vault=None)
    command = {"python": [sys.executable, "-I", "-"], "sh": ["sh", "-s", "--"]}[language]
    jwt, nobody = "eyJh.eyJp.c2ln", "127.0.0.1:1"
    for proxy, place, count, untried in (
        (None, {}, 1, ["HTTPS_PROXY is not set here"]),
        ("", {}, 0, []),
        (None, {"HTTPS_PROXY": f"http://x:{jwt}@{nobody}"}, 4, []),
        (f"http://{nobody}", {"TOLLHOUSE_TOKEN": jwt}, 4, []),
        (f"http://{nobody}", {"OPENAI_API_KEY": jwt}, 4, ["there is no token here"]),
    ):
        ran = subprocess.run(
            [*command, "--json"],
            input=plan.printed(replace(made, proxy=proxy), language),
            env={"PATH": os.environ["PATH"], **place},
            capture_output=True,
            text=True,
            check=False,
        )
        assert jwt not in ran.stdout + ran.stderr
        found = [row for row in json.loads(ran.stdout)["rows"] if "proxy" in row["name"]]
        said = [row["happened"].partition(";")[0] for row in found if row["ok"] is None]
        assert said == [f"not tried: {why}" for why in untried], place
        assert len(found) == count


def test_python_3_8_can_read_it(file: Path) -> None:
    """Its syntax is 3.8's, it imports the standard library alone, and none of ours."""
    done = CliRunner().invoke(cli, ["doctor", "--config", str(file), "--print-probe"])
    assert done.exit_code == 0
    tree = ast.parse(done.stdout, feature_version=(3, 8))
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (
            [ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names
        )
    }
    assert imported <= set(sys.stdlib_module_names)
    # Of Python 3.9 and later, where an expression is evaluated.
    assert "removeprefix" not in done.stdout
    # Of 3.9 as well, and Python 3.13's parser lets it pass for 3.8.
    assert "with (" not in done.stdout
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Match | ast.NamedExpr)]


@pytest.mark.requires("curl")
@pytest.mark.parametrize("language", ["python", "sh"])
def test_wrong_use(file: Path, language: str) -> None:
    """An option that is none: exit 2, and nothing was tried."""
    done = CliRunner().invoke(cli, ["doctor", "--config", str(file), "--print-probe", language])
    command = {"python": [sys.executable, "-I", "-"], "sh": ["sh", "-s", "--"]}[language]
    ran = subprocess.run(
        [*command, "--jsn"], input=done.stdout, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--json" in ran.stderr
    assert program("curl")


def test_a_table_for_people(file: Path) -> None:
    """With nobody anywhere: the ways out are closed, and so are the right ones. It says which, and exits 1."""
    made = plan.plan(
        load_config(file),
        ca="",
        gateway="127.0.0.1",
        addresses=("127.0.0.1", "::1"),
        resolvers=("127.0.0.1", "::1"),
        timeout_s=0.2,
    )
    text = plan.printed(made, "python")
    ran = subprocess.run(
        [sys.executable, "-I", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert "proxy-no-token" in ran.stdout
    assert "not tried: there is no token here; set TOLLHOUSE_TOKEN" in ran.stdout
    as_json = subprocess.run(
        [sys.executable, "-I", "-", "--json"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(as_json.stdout)
    assert ran.returncode == as_json.returncode == 1
    assert "proxy-no-token" in said["wrong"]
    untried = {row["name"]: row["happened"] for row in said["rows"] if row["ok"] is None}
    assert untried.pop("right-proxy") == "not tried: there is no token here; set TOLLHOUSE_TOKEN"
    # Not every machine lets every user ping, and the rest answers: it is a way out where these are the world's addresses.
    pings = {"ping-ipv4", "ping-ipv6"}
    assert set(untried) <= pings
    assert {*untried, *said["wrong"]} >= pings
