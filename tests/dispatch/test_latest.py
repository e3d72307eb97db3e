"""A bounded table."""

from __future__ import annotations

from collections import OrderedDict

from tollhouse.dispatch.latest import kept


def test_what_was_unused_for_longest_is_dropped() -> None:
    table: OrderedDict[str, list[int]] = OrderedDict()
    first, second = (kept(table, key, list, 2) for key in "ab")
    assert kept(table, "a", lambda: [1], 2) is first
    kept(table, "c", list, 2)
    assert list(table) == ["a", "c"]
    assert kept(table, "b", list, 2) is not second
