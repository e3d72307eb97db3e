"""What can be known of the image without building it: its Dockerfile, read as Docker reads it."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.requires import program

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, comments taken out and continued lines joined."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (line.split(None, 1)[0].upper(), line.split(None, 1)[1])
        for line in joined.splitlines()
        if line.strip()
    ]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    return every[max(index for index, (name, _) in enumerate(every) if name == "FROM") :]


def last(name: str) -> str:
    return [arguments for found, arguments in final_stage() if found == name][-1]


def health_command() -> list[str]:
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert isinstance(command, list)
    return command


def copies() -> Iterator[tuple[str, str]]:
    """Sources that come from the build context, each with its destination."""
    for name, arguments in instructions():
        words = shlex.split(arguments)
        if name in ("COPY", "ADD") and not any(word.startswith("--from") for word in words):
            *sources, destination = [word for word in words if not word.startswith("--")]
            yield from ((source, destination) for source in sources)


def ignored(path: str) -> bool:
    """The last pattern of .dockerignore that fits decides: https://docs.docker.com/build/concepts/context/#dockerignore-files"""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        if not line.startswith("#") and any(
            fnmatch(part, pattern) for part in (path, path.split("/")[0], f"/{path}")
        ):
            verdict = not line.startswith("!")
    return verdict


@pytest.mark.requires("hadolint")
def test_hadolint_finds_nothing() -> None:
    """None of its rules is switched off."""
    done = subprocess.run(
        [program("hadolint"), "--no-color", "--config", os.devnull, ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_images_are_pinned_and_the_same() -> None:
    """Both stages have one base image, since the virtual environment links to its interpreter: one
    patch version on one release of Debian, of known bytes. The example workload has it as well."""
    bases = [arguments.split()[0] for name, arguments in instructions() if name == "FROM"]
    assert bases == ["${PYTHON_IMAGE}"] * 2
    [image] = [arguments for name, arguments in instructions() if name == "ARG"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.13\.[0-9]+-slim-[a-z]+@sha256:[0-9a-f]{64}", image)
    compose = (ROOT / "certs" / "compose.yaml").read_text()
    assert f"image: {image.partition('=')[2]}\n" in compose
    assert (ROOT / ".python-version").read_text().strip() == "3.13"


def pinned() -> dict[str, str]:
    """Name to version of build-requirements.txt; each has hashes of SHA-256."""
    text = (ROOT / "build-requirements.txt").read_text()
    found = re.findall(
        r"^([a-z-]+)==([0-9.]+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", text, re.MULTILINE
    )
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert len(found) == len(lines)
    return {name: version for name, version, _ in found}


def test_what_builds_is_pinned() -> None:
    """uv, the backend of pyproject.toml and what it needs: one version each, with hashes."""
    versions = pinned()
    assert {
        "uv",
        "hatchling",
        "packaging",
        "pathspec",
        "pluggy",
        "trove-classifiers",
    } == versions.keys()
    system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert system["requires"] == [f"hatchling=={versions['hatchling']}"]


def test_it_builds_by_the_commands_of_the_documentation() -> None:
    """Those of "From source, by hashes", which `.ci/run` runs in a copy of the repository; and the second stage installs nothing.
    Each that installs takes what it does from the lock, from the file of hashes, or from the wheel that was built here."""
    command = [ROOT / ".ci" / "readme", ROOT / "docs" / "deploy.md", "From source, by hashes", "1"]
    block = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    export, *documented = block.splitlines()
    every = instructions()
    second = max(index for index, (name, _) in enumerate(every) if name == "FROM")
    built = [
        " ".join(command.split())
        for name, arguments in every[:second]
        if name == "RUN"
        for command in arguments.split("&&")
    ]
    assert built == documented
    assert [command for command in built if re.search(r"\binstall\b|\bsync\b", command)] == [
        "/opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r build-requirements.txt",
        "uv sync --locked --no-dev --no-install-project",
        "uv pip install --python /opt/tollhouse/bin/python --no-deps --no-index /opt/build/wheels/*.whl",
    ]
    said, *settings = shlex.split(export)
    assert said == "export"
    [environ] = [arguments for name, arguments in every[:second] if name == "ENV"]
    assert {*settings} <= {*shlex.split(environ)}
    assert [arguments.split()[0] for name, arguments in every[second:] if name == "RUN"] == [
        "install"
    ]


def test_the_lock_has_hashes() -> None:
    """Of each package that does not come from here."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    files = [
        file
        for package in packages
        for file in (package.get("sdist"), *package.get("wheels", ()))
        if file
    ]
    assert len(files) > 100
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", file["hash"]) for file in files)
    assert [package["name"] for package in packages if "registry" not in package["source"]] == [
        "tollhouse"
    ]


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD", "VOLUME"])
def test_exec_form(name: str) -> None:
    """What runs is a JSON list, so it needs no shell and gets SIGTERM itself."""
    assert all(isinstance(word, str) for word in json.loads(last(name)))


def test_user_is_a_number_and_not_root() -> None:
    """Kubernetes refuses runAsNonRoot for a name, and nothing after USER goes back to root."""
    user, group = last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [name for name, _ in final_stage()]
    assert names.count("USER") == 1
    assert "RUN" not in names[names.index("USER") :]


def test_state_directory_is_private_and_the_users() -> None:
    """The volume is made 0700 for that user before it is declared; what is done to it later would be lost."""
    (volume,) = json.loads(last("VOLUME"))
    user, group = last("USER").split(":")
    run = last("RUN")
    assert f"-m 0700 -o {user} -g {group} {volume}" in run
    names = [name for name, _ in final_stage()]
    assert names.index("RUN") < names.index("VOLUME")


def test_everything_copied_exists_and_reaches_the_build() -> None:
    """Every COPY source is in the tree and not taken out by .dockerignore."""
    sources = [source for source, _ in copies()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source


@pytest.mark.parametrize(
    "path",
    [".git/config", "state/ca-key.pem", ".venv/bin/python", "tollhouse.toml", "addons/x.pem"],
)
def test_secrets_and_rubbish_stay_out(path: str) -> None:
    """No key, repository or environment of the builder's machine reaches the build."""
    assert ignored(path)


def test_what_the_package_needs_to_be_built_is_copied() -> None:
    """pyproject.toml's readme, licence files and package are all there before the project itself is installed."""
    sources = {source for source, _ in copies()}
    assert {
        "build-requirements.txt",
        "pyproject.toml",
        "uv.lock",
        "README.md",
        "LICENSE",
        "addons",
    } <= sources


def test_ports_are_the_defaults_of_the_design() -> None:
    """The exposed ports are those of the reference configuration."""
    assert last("EXPOSE").split() == ["8080", "8000", "9090"]
    assert "9090" in health_command()[-1]


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1), (404, 1), (None, 1)])
def test_the_health_check_runs(status: int | None, exit_status: int) -> None:
    """The check's own program says 0 only for a /readyz that answers 200; with nobody there it fails as well."""
    asked: list[tuple[str, str | None]] = []

    class Readyz(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Host"]))
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Readyz)
    port = server.server_port
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    interpreter, *options, check = health_command()
    assert interpreter == "/opt/tollhouse/bin/python"
    ast.parse(check)
    command = [sys.executable, *options, check.replace("9090", str(port))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    finally:
        if status is not None:
            server.shutdown()
            server.server_close()
    assert done.returncode == exit_status
    assert asked == ([] if status is None else [("/readyz", f"127.0.0.1:{port}")])
