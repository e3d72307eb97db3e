import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.formats.text_tokens import SLICE, raw_tokens, text_tokens

LANGUAGES = json.loads((Path(__file__).parents[2] / "data" / "languages.json").read_text())
"""The Universal Declaration of Human Rights, with the tokens that two tokenizers take for it."""
WIDELY_WRITTEN = (
    "English",
    "French",
    "German",
    "Russian",
    "Arabic",
    "Hindi",
    "Chinese (simplified)",
    "Japanese",
    "Korean",
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_estimate_is_below_half_of_the_bill(language: str) -> None:
    """In any script, at either tokenizer."""
    sample = LANGUAGES[language]
    assert text_tokens(sample["text"]) >= max(sample["o200k"], sample["cl100k"]) / 2


@pytest.mark.parametrize("language", WIDELY_WRITTEN)
def test_no_estimate_is_above_twice_the_bill(language: str) -> None:
    """Of what is written most, at the newer tokenizer."""
    sample = LANGUAGES[language]
    assert text_tokens(sample["text"]) <= 2 * sample["o200k"]


def test_ascii_is_four_bytes_a_token() -> None:
    assert text_tokens("a" * 400) == 100.0


@given(st.text(), st.text())
def test_a_text_may_be_cut_anywhere(first: str, second: str) -> None:
    """The sum of the parts is the whole, exactly."""
    assert text_tokens(first + second) == text_tokens(first) + text_tokens(second)


@given(st.text(st.characters(min_codepoint=0x80)))
def test_no_text_has_more_tokens_than_bytes(text: str) -> None:
    """A tokenizer of bytes can take no more, and ``worst`` holds a token a byte."""
    assert text_tokens(text) <= len(text.encode("utf-8", "surrogatepass"))


def test_a_long_text_is_counted_in_slices() -> None:
    """And comes to the same."""
    text = "日本語のテキスト" * 100
    assert text_tokens(text * (SLICE // len(text) * 3)) == text_tokens(text) * (
        SLICE // len(text) * 3
    )


@given(st.text())
def test_the_string_of_a_frame_counts_as_its_text(text: str) -> None:
    """Escaped or not."""
    wanted = text_tokens(text)
    for ascii_only in (True, False):
        raw = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass")
        if "\\" in text or any(ord(character) < 0x20 or character in '"\x7f' for character in text):
            assert raw_tokens(raw) >= 0
        elif not any(0xD800 <= ord(character) < 0xE000 for character in text):
            assert raw_tokens(raw) == wanted
