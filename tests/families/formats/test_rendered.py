"""What a provider writes anew: an upper bound of its tokens."""

from __future__ import annotations

import json

import pytest

from tollhouse.families.formats.document import parsed
from tollhouse.families.formats.rendered import rendered_most


@pytest.mark.parametrize(
    ("text", "bytes_most"),
    [
        ("x" * 100_000, 100_000),
        ('"' + "x" * 99_999, 600_000),
        ("é" * 50_000, 600_000),
        ("x" * 500_000, 3_000_000),
    ],
)
def test_a_long_string(text: str, bytes_most: int) -> None:
    """Its bytes, if all of it is seen to be plain; else each of them may be an escape of 6."""
    document = parsed(json.dumps({"a": [{"b": text}]}).encode())
    least = 2 * len(json.dumps(document.tree))
    assert len(json.dumps(text)) - 2 <= bytes_most
    assert rendered_most(document.tree, document.long) == least + 2 * bytes_most


def test_a_short_value() -> None:
    """Twice its JSON in ASCII."""
    assert rendered_most({"a": "é"}, {}) == 2 * len('{"a": "\\u00e9"}')
