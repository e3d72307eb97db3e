"""A JSON array that comes in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.formats.json_array import MAX_ELEMENT, ArrayBoundary, Elements
from tollhouse.families.formats.topmost import Topmost

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ELEMENT = st.dictionaries(st.text(max_size=8), VALUES, max_size=3)


@given(st.lists(ELEMENT, max_size=4), st.integers(1, 30), st.sampled_from([None, 1]))
def test_each_element_is_found(elements: list[object], size: int, indent: int | None) -> None:
    """However the array is written and cut."""
    text = json.dumps(elements, indent=indent, ensure_ascii=False).encode()
    reader = Elements(lambda: Topmost(()))
    found = []
    for at in range(0, len(text), size):
        found += reader.feed(text[at : at + size])
    assert [json.loads(one) for one in found if isinstance(one, bytes)] == elements
    assert reader.over


@given(ELEMENT, st.integers(1, 9))
def test_an_object_alone(element: object, size: int) -> None:
    """It counts as an array of one."""
    text = json.dumps(element).encode()
    reader = Elements(lambda: Topmost(()))
    found = [one for at in range(0, len(text), size) for one in reader.feed(text[at : at + size])]
    assert found == [text]
    assert reader.over


@pytest.mark.parametrize("size", [1 << 14, 1 << 22])
def test_a_large_element_is_not_kept(size: int) -> None:
    """Its outermost members are read as they pass by, and those of the next one too."""
    large = {"candidates": [{"data": "x" * (MAX_ELEMENT + 1)}], "usage": {"n": 1}}
    text = json.dumps([large, {"usage": 2}]).encode()
    reader = Elements(lambda: Topmost(("usage",)))
    found = [one for at in range(0, len(text), size) for one in reader.feed(text[at : at + size])]
    assert found == [{"usage": {"n": 1}}, b'{"usage": 2}']


def test_a_large_element_that_is_cut() -> None:
    """What was read of it is there."""
    reader = Elements(lambda: Topmost(("usage",)))
    assert reader.rest() is None
    reader.feed(b'[{"usage": 7, "data": "' + b"x" * MAX_ELEMENT)
    assert reader.rest() == {"usage": 7}


@given(st.binary(max_size=200), st.integers(1, 9))
def test_garbage(garbage: bytes, size: int) -> None:
    """Nothing is raised."""
    reader, boundary = Elements(lambda: Topmost(())), ArrayBoundary()
    for at in range(0, len(garbage), size):
        reader.feed(garbage[at : at + size])
        boundary.sent(garbage[at : at + size])
        assert boundary.cut(garbage).startswith(garbage[:1])


def test_deep_nesting_ends_the_reading() -> None:
    """No memory is taken for it."""
    reader = Elements(lambda: Topmost(()))
    assert reader.feed(b"[" * 1_000) == []
    assert reader.over


@pytest.mark.parametrize(
    ("sent", "between"),
    [
        (b"", False),
        (b"[", False),
        (b'[{"a"', False),
        (b'[{"a":"}"', False),
        (b'[{"a":1}', True),
        (b'[{"a":{"b":1}', False),
        (b'[{"a":1}\n', True),
        (b'[{"a":1}\n,', False),
        (b'[{"a":1},\r\n{"a":[1]}', True),
        (b'[{"a":1}]', False),
        (b'{"a":1}', False),
    ],
)
def test_where_an_element_of_ours_can_stand(sent: bytes, between: bool) -> None:
    """Directly behind one that has ended; in pieces of any size."""
    for size in (1, 2, 100):
        boundary = ArrayBoundary()
        for at in range(0, len(sent), size):
            boundary.sent(sent[at : at + size])
        assert boundary.between is between


def test_a_piece_is_cut_behind_its_first_element() -> None:
    """The cut changes nothing of what was sent."""
    boundary = ArrayBoundary()
    boundary.sent(b'[{"a":"')
    for _ in range(2):
        assert boundary.cut(b'}"},{"b":1},{') == b'}"}'
        assert boundary.cut(b"}}}") == b"}}}"
