"""A bounded table."""

from __future__ import annotations

from tollhouse.dispatch.latest import Latest


def test_what_was_unused_for_longest_is_dropped() -> None:
    table: Latest[str, list[str]] = Latest(2)
    first, second = table.of("a", list), table.of("b", list)
    assert table.of("a", list) is first
    third = table.of("c", list)
    assert [one is kept for one, kept in zip(table, (first, third), strict=True)] == [True, True]
    assert table.of("b", list) is not second
