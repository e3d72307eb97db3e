"""Patterns of model names that have a name in common."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.prices.patterns import may_mean, meet

_globs = st.text("ab*?", max_size=6)


@pytest.mark.parametrize(
    ("one", "other", "do"),
    [
        ("gpt-4*", "*-mini", True),
        ("gpt-4*", "gpt-5*", False),
        ("gpt-4?", "gpt-4", False),
        ("gpt-4[ox]", "gpt-4o*", True),
        ("*", "", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
    ],
)
def test_globs(one: str, other: str, do: bool) -> None:
    assert meet(one, other) is do
    assert meet(other, one) is do


@given(_globs, _globs, st.text("ab", max_size=6))
def test_a_name_that_fits_both(one: str, other: str, name: str) -> None:
    assert meet(one, name) is fnmatchcase(name, one)
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert meet(one, other)


@pytest.mark.parametrize(
    ("match", "glob", "may"),
    [
        (("in", ("gpt-4o", "gpt-4.1")), "gpt-4o*", True),
        (("in", ("gpt-4o", "gpt-4.1")), "gpt-5*", False),
        (("starts", "gpt-4o"), "gpt-4o-mini-2024*", True),
        (("starts", "gpt-4o"), "*-mini", True),
        (("starts", "gpt-4o"), "gpt-5*", False),
        (("ends", "titan-embed-text"), "amazon.titan*", True),
        (("ends", "titan-embed-text"), "*image", False),
        (("contains", "nova-lite"), "us.amazon.nova-*", True),
        (("contains", "nova-lite"), "*lite*", True),
        (("contains", "claude-v2"), "no-such-*", False),
        (("contains", "claude-v2"), "*", True),
        (("regex", r"^gpt-6\.1-sol-\d{4}$"), "gpt-6.1-*", True),
        (("regex", r"^gpt-6\.1-sol-\d{4}$"), "gpt-6.2-*", False),
        (("regex", r"^gpt-4?"), "gpt-5*", True),
        (("and", (("starts", "gemini-2.5"), ("regex", "^(?!.*-tts)"))), "gemini-2.5*", True),
        (("and", (("starts", "gemini-2.5"), ("regex", "^(?!.*-tts)"))), "gemini-3*", False),
        (("or", (("in", ("a",)), ("starts", "b"))), "b-1*", True),
    ],
)
def test_a_match(match: tuple[str, object], glob: str, may: bool) -> None:
    assert may_mean(match, glob) is may
