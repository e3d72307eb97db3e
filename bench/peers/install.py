"""Peers come from package registries, at pinned versions, into environments of their own outside the repository.

A second run finds them there: ``$XDG_CACHE_HOME/tollhouse-bench``, or ``~/.cache/tollhouse-bench``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.bed import say

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 300.0


class Unavailable(Exception):
    """A peer that cannot be installed or does not start. Its text says why."""


def python_environment(name: str, *requirements: str) -> Path:
    """The directory of its commands. ``name`` has the version."""
    place = _cache() / name
    if _complete(place):
        return place / "bin"
    # `uv run` says which uv it is; a pyenv's shim works in a directory alone that chose its version.
    uv = os.environ.get("UV") or _found("uv")
    say(f"peers: {', '.join(requirements)} into {place}")
    _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place))
    python = str(place / "bin" / "python")
    _run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
    _mark(place)
    return place / "bin"


def npm_package(name: str, package: str, version: str, overrides: Mapping[str, str]) -> Path:
    """The directory of its modules. ``overrides``: versions of what it depends on."""
    place = _cache() / name
    if _complete(place):
        return place / "node_modules"
    npm = _found("npm")
    say(f"peers: {package} {version} into {place}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    manifest = {"private": True, "dependencies": {package: version}, "overrides": dict(overrides)}
    (place / "package.json").write_text(json.dumps(manifest))
    # The script after Portkey's install is patch-package, and the package has no patches.
    _run(npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place))
    _mark(place)
    return place / "node_modules"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tollhouse-bench"


def _complete(place: Path) -> bool:
    return (place / ".complete").exists()


def _mark(place: Path) -> None:
    (place / ".complete").touch()


def _found(command: str) -> str:
    where = shutil.which(command)
    if where is None:
        raise Unavailable(f"not installed: {command} is not on PATH")
    return where


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"not installed: {Path(words[0]).name} {words[1]} took more than {_PATIENCE_S:g} s"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout or "it said nothing").split())
        raise Unavailable(f"not installed: {Path(words[0]).name} {words[1]}: {said[:300]}")
