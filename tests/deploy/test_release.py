"""The release workflow, as far as it can be read: what it runs, with which rights, and from where. Its linters judge it where they
are on PATH, and its SBOM is made."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.requires import program

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github" / "workflows" / "release.yml"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    document = YAML(typ="safe", pure=True).load(FILE.read_text())
    assert document["permissions"] == {}
    assert list(document["on"]) == ["push"]
    assert list(document["on"]["push"]) == ["tags"]
    jobs = document["jobs"]
    assert isinstance(jobs, dict)
    return jobs


def test_each_action_is_one_commit(jobs: dict[str, Any]) -> None:
    """By its hash, with the version in a comment; the same action is the same commit everywhere."""
    lines = [line.strip() for line in FILE.read_text().splitlines() if "uses:" in line]
    pattern = r"- uses: ([\w.-]+/[\w.-]+)@([0-9a-f]{40}) # (v[0-9.]+)"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found)
    pinned = {match.groups() for match in found if match}
    assert len({name for name, _, _ in pinned}) == len(pinned)
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert len([step for step in steps if "uses" in step]) == len(lines)


def test_rights_are_apart(jobs: dict[str, Any]) -> None:
    """What runs the repository's code may only read it; what has an identity runs no code of it. No secret is used."""
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "build": {"contents": "read"},
        "publish": {"id-token": "write"},
        "sign": {"id-token": "write", "contents": "write"},
    }
    assert (jobs["publish"]["needs"], jobs["sign"]["needs"]) == ("build", "publish")
    assert "secrets." not in FILE.read_text()
    for name in ("publish", "sign"):
        assert not any("checkout" in step.get("uses", "") for step in jobs[name]["steps"])


def test_commands_are_whole(jobs: dict[str, Any]) -> None:
    """A shell reads each; files that they name are here; no value of the event is put into a command's text."""
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for command in commands:
        subprocess.run(["bash", "-n"], input=command, text=True, check=True)
        assert "${{" not in command
        for name in re.findall(r"(?:bash|-r|--build-constraints) ([\w./-]+)", command):
            assert (ROOT / name).is_file(), name


def test_the_sbom_has_what_is_locked(jobs: dict[str, Any], tmp_path: Path) -> None:
    """By the workflow's own command: each dependency in its locked version, with its hashes."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on PATH")
    [command] = [
        step["run"] for step in jobs["build"]["steps"] if "cyclonedx" in step.get("run", "")
    ]
    script = command.replace("sbom", shlex.quote(str(tmp_path / "sbom"))).replace(
        "uv export", f"{shlex.quote(uv)} export --offline"
    )
    environ = {**os.environ, "GITHUB_REF_NAME": "v1.2.3"}
    subprocess.run(["bash", "-euc", script], cwd=ROOT, env=environ, check=True, timeout=60)
    sbom = json.loads((tmp_path / "sbom" / "tollhouse-1.2.3.cdx.json").read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    found = {component["name"]: component for component in sbom["components"]}
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    versions = {package["name"]: package["version"] for package in packages}
    assert {"aiohttp", "mitmproxy", "pyarrow", "openai"} <= found.keys() <= versions.keys()
    assert "pytest" not in found
    for name, component in found.items():
        assert component["version"] == versions[name]
        assert all(one["hashes"] for one in component["externalReferences"]), name


@pytest.mark.parametrize(
    ("linter", "options"),
    [
        pytest.param("actionlint", ["-no-color"], marks=pytest.mark.requires("actionlint")),
        # Without the network, where it would ask for the actions' own faults.
        pytest.param("zizmor", ["--offline", "-q"], marks=pytest.mark.requires("zizmor")),
    ],
)
def test_its_linters_find_nothing(linter: str, options: list[str]) -> None:
    done = subprocess.run(
        [program(linter), *options, FILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
