"""docs/deadlines.md: each key is there, with the default that it has, and each test that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tollhouse.config.models import LimitsConfig, ProviderConfig, UpstreamConfig
from tollhouse.config.store_tables import RedisConfig, VaultConfig
from tollhouse.providers.openai import OPENAI

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "deadlines.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and "---" not in line and "| test |" not in line
]
TESTS = (ROOT / "tests" / "e2e" / "test_deadlines.py").read_text()


@pytest.mark.parametrize("key", sorted(LimitsConfig.model_fields))
def test_each_bound_of_the_gateway_is_there(key: str) -> None:
    assert f"`[limits] {key}`" in TEXT or f"`{key}`" in TEXT


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row(row: list[str]) -> None:
    """Its first key has the first default, if that is a number; its test exists."""
    _, keys, default, _, test = row
    found = re.match(r"`\[([a-z.]+)\] ([a-z_]+)`", keys)
    number = re.match(r"\d+", default)
    if found is not None and number is not None:
        table, key = found[1], found[2]
        if table == "providers.x":
            assert key in ProviderConfig.model_fields
            value = getattr(OPENAI, key)
        elif table == "addons":
            value = 10
        else:
            models = {
                "limits": LimitsConfig,
                "redis": RedisConfig,
                "vault": VaultConfig,
                "upstream": UpstreamConfig,
            }
            value = models[table].model_fields[key].default
        assert value == int(number[0])
    name = test.strip("`")
    if name.startswith("test_"):
        assert f"def {name}(" in TESTS
    elif name.startswith("tests/"):
        assert (ROOT / name).is_file()
