from pathlib import Path

import pytest

from tollhouse.prices.export import export, write
from tollhouse.prices.format import PROVIDERS, UNITS


def test_every_model_of_the_known_providers_is_exported():
    """Nothing is left out, and the providers that one of them falls back to come along."""
    from genai_prices.data import providers

    table = export()["providers"]
    assert set(table) >= set(PROVIDERS)
    for provider in providers:
        if provider.id in table:
            assert len(table[provider.id]["models"]) == len(provider.models)
            assert set(table[provider.id]["fallback"]) <= set(table)
    assert all(len(rates) == len(UNITS) for p in table.values() for m in p["models"] for _, rates in m[1])


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path):
    """No half a file, and no temporary one."""
    target = tmp_path / "prices.json"
    target.mkdir()
    with pytest.raises(OSError, match=r"prices\.json"):
        write(target)
    assert [path.name for path in tmp_path.iterdir()] == ["prices.json"]
