"""What every test gets: a clean environment, the ``requires`` mark, and the fixtures of tests/support."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.environment import clean
from tests.support.requires import promised, require

# At import, before a test module can build an HTTP client at its own import.
clean(os.environ)

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
    "tests.support.leaks",
]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires(*names): what the test needs beside Python; see tests/support/requires.py"
    )
    try:
        promised()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        require(*mark.args)
