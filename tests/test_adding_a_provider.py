"""docs/adding-a-provider.md: its example is sound, and it names every part of a family."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tollhouse.config.load import catalog, load_config, own_prices, unenforced
from tollhouse.families.asked import Asked, Dialect
from tollhouse.families.base import Family
from tollhouse.families.meters import Meter
from tollhouse.families.openai import OPENAI
from tollhouse.families.operation import Operation

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "adding-a-provider.md").read_text()


def _rows(heading: str) -> list[str]:
    """The first word of each row of the table under ``heading``, as code."""
    section = TEXT.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `(\w+)(?:\(\w*\))?` \|", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "value"),
    [
        ("The parts of `Family`", Family),
        ("`Operation`", Operation),
        ("`Dialect`", Dialect),
        ("`Asked`", Asked),
    ],
)
def test_each_field_is_told(heading: str, value: type) -> None:
    """In the order of the code, and no other."""
    names = value._fields if issubclass(value, tuple) else [field.name for field in fields(value)]
    assert _rows(heading) == list(names)


def test_each_part_of_a_meter_is_told() -> None:
    """What the road asks of it."""
    parts = [name for name in vars(Meter) if not name.startswith("_")]
    assert sorted(_rows("A `Meter`")) == sorted(parts)


def test_the_example_is_sound(tmp_path: Path) -> None:
    """It speaks OpenAI's family at its own host and its own price."""
    (example,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    file = tmp_path / "tollhouse.toml"
    file.write_text(example + '[vault]\naddress = "embedded"\n')
    config = load_config(file)
    assert unenforced(config) == []
    provider = catalog(config).by_host("llm.internal")
    assert provider is not None
    assert (provider.name, provider.family, provider.price_id) == ("vllm", OPENAI, "vllm")
    assert provider.port == 8443
    assert provider.most_output("llama", None) == 8192
    assert own_prices(config) == {"vllm/*": {"input": "0.20", "output": "0.60"}}
