"""A bounded table."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator


class Latest[K, V]:
    """At most ``limit`` values by their key. Beyond that the one that was unused for longest is dropped."""

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._limit = limit

    def of(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``; what ``make`` gives, where there is none."""
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def __iter__(self) -> Iterator[V]:
        return iter(self._kept.values())
