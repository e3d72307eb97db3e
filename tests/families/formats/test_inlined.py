"""Members and arrays inside a JSON object, whatever pieces it comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.formats.inlined import LONGEST_ELEMENT, Inlined

ARRAY = ("metadata", "output", "list")
DOCUMENT: dict[str, Any] = {
    'na"me': 'a:b,"c\\',
    "list": [{"no": 1}],
    "metadata": {
        "state": "DONE",
        "deep": [[{"state": "no"}], {"list": [{"no": 2}]}],
        "output": {"list": [{"x": {"y": ["}", '\\"]']}}, {"list": [{"z": 1}]}, {}], "n": 3},
        "count": {"a": [1, {"b": None}], "c": "1,2"},
    },
    "done": True,
}
WANTED = [
    ('na"me',),
    ("metadata", "state"),
    ("metadata", "output", "n"),
    ("metadata", "count"),
    ("done",),
]


def read(data: bytes, size: int) -> tuple[Inlined, list[Any]]:
    told = Inlined(WANTED, [ARRAY])
    found: list[Any] = []
    for start in range(0, len(data), size):
        for path, raw in told.feed(data[start : start + size]):
            assert path == ARRAY
            found.append(None if raw is None else json.loads(raw))
    return told, found


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_what_is_found(size: int, indent: int | None) -> None:
    """Only what stands at the path itself."""
    told, found = read(json.dumps(DOCUMENT, indent=indent).encode(), size)
    assert found == DOCUMENT["metadata"]["output"]["list"]
    assert told.whole
    assert told.found == {
        ('na"me',): 'a:b,"c\\',
        ("metadata", "state"): "DONE",
        ("metadata", "output", "n"): 3,
        ("metadata", "count"): DOCUMENT["metadata"]["count"],
        ("done",): True,
    }


def test_every_cut() -> None:
    """A part says no more than the whole, and is never whole."""
    data = json.dumps(DOCUMENT).encode()
    whole, elements = read(data, len(data))
    for at in range(len(data)):
        told, found = read(data[:at], 5)
        assert not told.whole
        assert all(whole.found[key] == value for key, value in told.found.items())
        assert found == elements[: len(found)]


def test_an_element_that_is_too_long() -> None:
    """It is told, and those behind it are read."""
    long = {"metadata": {"output": {"list": [{"x": "a" * LONGEST_ELEMENT}, {"y": 1}]}}}
    for size in (1 << 16, 1 << 24):
        told, found = read(json.dumps(long).encode(), size)
        assert (told.whole, found) == (True, [None, {"y": 1}])


@given(
    st.lists(
        st.binary(max_size=20) | st.sampled_from([b"{", b"[", b'"', b":", b",", b"}", b"]", b"\\"])
    )
)
def test_garbage(parts: list[bytes]) -> None:
    """Nothing is raised."""
    told = Inlined(WANTED, [ARRAY])
    for part in (b'{"metadata":{"output":{"list":[', *parts):
        told.feed(part)
