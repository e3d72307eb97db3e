"""The JSON of lines: what `json` would write, byte by byte."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.compact_json import compact_json

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(st.characters(exclude_categories=()))
    | st.floats(0, 1e9).map(lambda number: round(number, 1)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES)
def test_it_is_the_same_json_in_ascii(value: object) -> None:
    text = compact_json(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert b"\n" not in text


def test_what_utf8_cannot_spell() -> None:
    assert compact_json({"model": "\udc80"}) == b'{"model":"\\udc80"}'
