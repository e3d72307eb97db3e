"""Which names are the same model."""

from __future__ import annotations

import pytest

from tollhouse.budget.cross_check import same_model


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "GPT-4o", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("gpt-4", "gpt-4-0613", True),
        ("claude-sonnet-4-5", "claude-sonnet-4-5@20250929", True),
        ("amazon.nova-lite", "amazon.nova-lite-v1:0", True),
        ("mistral-large", "mistral-large-latest", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4", "gpt-4.1", False),
        ("gpt-4", "gpt-4o", False),
        ("claude-sonnet-4", "claude-sonnet-4-5", False),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
        ("o1", "o3", False),
    ],
)
def test_same_model(one: str, other: str, answer: bool) -> None:
    """A version of a model is that model; a variant is another."""
    assert same_model(one, other) is answer
    assert same_model(other, one) is answer
