"""What Mistral's usages say."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.families.mistral.connectors import used
from tollhouse.families.mistral.usage import units_of
from tollhouse.families.units import Charge, Units


@pytest.mark.parametrize(
    ("usage", "units"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Units(input=9, output=4, requests=1)),
        (
            {"prompt_tokens": 9, "connector_tokens": 7, "completion_tokens": 4, "total_tokens": 20},
            Units(input=16, output=4, requests=1),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 12}},
            Units(input=9, cached=9, requests=1),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": None, "connector_tokens": None},
            Units(input=9, requests=1),
        ),
        ({"prompt_audio_seconds": 2.5}, Units(milliseconds=2_500, requests=1)),
        ({"prompt_tokens": 9, "prompt_audio_seconds": None}, Units(input=9, requests=1)),
        ({"prompt_tokens": 9, "prompt_audio_seconds": True}, Units(input=9, requests=1)),
        ({"prompt_tokens": 9, "prompt_audio_seconds": {}}, Units(input=9, requests=1)),
        ({"prompt_tokens": -9, "completion_tokens": "4"}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({}, None),
    ],
)
def test_units(usage: dict[str, Any], units: Units | None) -> None:
    """What a connector read is outside the prompt, what was cached inside. Null is not zero, and zeros are no count."""
    assert units_of(usage) == units


@pytest.mark.parametrize(
    ("connectors", "charges"),
    [
        ({"web_search": 2, "mine": 5}, (Charge("web_search", Units(requests=2)),)),
        ({"new": 1}, (Charge("new", Units(requests=1)),)),
        ({"web_search": 0, "code_interpreter": True}, ()),
        (None, ()),
        ([], ()),
    ],
)
def test_connectors(connectors: Any, charges: tuple[Charge, ...]) -> None:
    """Mistral's own, and those that were asked for by their type."""
    assert used(connectors, ("new",)) == charges
