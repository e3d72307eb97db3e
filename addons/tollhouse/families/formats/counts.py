"""Counts in answers."""

from __future__ import annotations


def count_of(value: object) -> int | None:
    """A whole number of at least 0; None for null and for what is none. Some servers write it as a
    float."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def count(value: object) -> int:
    """The same; 0 for null and for what is none."""
    return count_of(value) or 0


def is_uneven(total: object, *sums: int) -> bool:
    """Whether the ``total`` that an answer gives is none of ``sums``, which its counts may come to. 0 and null are no total."""
    return count(total) not in (0, *sums)
