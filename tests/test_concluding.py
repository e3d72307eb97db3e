"""What a worker was about to write when it was killed."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest

from tollhouse.concluding import SLOT, SLOTS, Concluding, left, memory


@pytest.fixture
def shared() -> Iterator[mmap.mmap]:
    made, _ = memory()
    with made:
        yield made


def test_a_line_stands_there_until_it_is_written(shared: mmap.mmap) -> None:
    """Each from its beginning to its end; the places are used again."""
    concluding = Concluding(shared)
    first, second = concluding.begin(b"first\n"), concluding.begin(b"second\n")
    assert left(shared) == [b"first\n", b"second\n"]
    concluding.end(first)
    assert left(shared) == [b"second\n"]
    assert concluding.begin(b"a\n") == first
    assert left(shared) == [b"a\n", b"second\n"]
    concluding.end(first)
    concluding.end(second)
    assert left(shared) == []


def test_its_bounds(shared: mmap.mmap) -> None:
    """A line that is too long, and one more than there is room for, are not kept; nothing else changes."""
    concluding = Concluding(shared)
    concluding.end(concluding.begin(b"x" * SLOT))
    assert left(shared) == []
    places = [concluding.begin(b"%d\n" % number) for number in range(SLOTS)]
    assert len(set(places)) == SLOTS
    assert concluding.begin(b"one more\n") == -1
    concluding.end(-1)
    assert len(left(shared)) == SLOTS


def test_without_memory() -> None:
    """A gateway of one process keeps nothing."""
    concluding = Concluding()
    assert concluding.begin(b"line\n") == -1
    concluding.end(-1)
