"""Text is cut by bytes, never within a character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.clipped import clipped


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [
        ("", 3, ""),
        ("abcd", 4, "abcd"),
        ("abcde", 4, "a..."),
        ("äöü", 6, "äöü"),
        ("äöüx", 6, "ä..."),
        ("äöüx", 7, "äöüx"),
        ("😀😀", 7, "😀..."),
        ("😀😀", 6, "..."),
        ("\ud800" * 5, 4, "?..."),
        ("x" * 513, 512, "x" * 509 + "..."),
    ],
)
def test_clipped(text: str, limit: int, kept: str) -> None:
    """What fits is as it was; what does not ends in dots."""
    assert clipped(text, limit) == kept


@given(st.text(st.characters(categories=None, exclude_categories=())), st.integers(3, 40))
def test_never_longer(text: str, limit: int) -> None:
    """Whatever the characters."""
    kept = clipped(text, limit)
    assert len(kept.encode("utf-8", "replace")) <= limit
    assert kept == text or kept.endswith("...")
