"""The wheel and the sdist, built by the backend that pyproject.toml names: what they hold, and that it is nothing else."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME = f"tollhouse-{PROJECT['project']['version']}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True)
    return directory


def kept(*folders: str) -> set[str]:
    """The files that the repository keeps there, those of a change that is not committed yet among them."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this is no repository of git: {done.stderr.strip()}")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_program_and_its_data(built: Path) -> None:
    """Each file of the package, and what describes it; no test, key or configuration beside."""
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))
        scripts = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
    described = {name for name in names if name.startswith(f"{NAME}.dist-info/")}
    assert {name.partition("/")[2] for name in described} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    program = {name.removeprefix("addons/") for name in kept("addons/tollhouse")}
    assert names - described == program
    assert {"tollhouse/py.typed", "tollhouse/ledger/scripts/hold.lua"} <= program
    assert scripts.split() == ["[console_scripts]", "tollhouse", "=", "tollhouse.cli.main:main"]
    project = PROJECT["project"]
    assert metadata["License-Expression"] == project["license"]
    assert metadata["Requires-Python"] == project["requires-python"]
    assert {*metadata.get_all("Provides-Extra", ())} == {*project["optional-dependencies"]}


def test_the_sdist_holds_what_it_is_built_and_tested_from(built: Path) -> None:
    """What pyproject.toml lists, as the repository keeps it, and nothing that lies about in a checkout."""
    with tarfile.open(built / f"{NAME}.tar.gz") as sdist:
        members = sdist.getmembers()
    assert all(member.isfile() and not member.mode & 0o022 for member in members)
    names = {member.name.removeprefix(f"{NAME}/") for member in members}
    include = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    # Hatchling adds .gitignore, by which it has chosen.
    assert names == kept(*include) | {"PKG-INFO", ".gitignore"}
    assert {"Dockerfile", "uv.lock", "deploy/helm/tollhouse/Chart.yaml"} <= names
    private = {".pem", ".key", ".env", ".sqlite3", ".pyc", ".whl"}
    assert not {name for name in names if Path(name).suffix in private}
