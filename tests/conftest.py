"""What every test gets: a clean environment, the marks ``requires`` and ``e2e``, and the fixtures of tests/support."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.environment import clean
from tests.support.patience import be_patient
from tests.support.requires import promised, require

# At import, before a test module can build an HTTP client at its own import.
clean(os.environ)
be_patient()

# A deadline measures the machine's load, not the code. What CI judges is the change, so its examples are the same each time;
# everywhere else each run looks for new ones.
settings.register_profile("tollhouse", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tollhouse")

pytest_plugins = [
    "tests.support.redis_server",
    "tests.support.redis_cluster",
    "tests.support.openbao",
    "tests.support.openbao_raft",
    "tests.support.gateway",
    "tests.support.configured",
    "tests.support.hangs",
    "tests.support.leaks",
]

_HERE = Path(__file__).parent
_END_TO_END = frozenset({"e2e", "demo", "policies"})
"""Folders whose tests start whole gateways, the demo or networks."""


def pytest_configure(config: pytest.Config) -> None:
    for mark in (
        "requires(*names): what the test needs beside Python; see tests/support/requires.py",
        "e2e: starts whole programs, and is slow; given to every test in tests/e2e, tests/demo and tests/policies",
    ):
        config.addinivalue_line("markers", mark)
    try:
        promised()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_itemcollected(item: pytest.Item) -> None:
    # Before `-m` is looked at, which happens once all are collected.
    if item.path.is_relative_to(_HERE) and item.path.relative_to(_HERE).parts[0] in _END_TO_END:
        item.add_marker("e2e")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        require(*mark.args)
