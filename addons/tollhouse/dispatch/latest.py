"""A bounded table."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


def kept[K, V](table: OrderedDict[K, V], key: K, make: Callable[[], V], limit: int) -> V:
    """The value of ``key`` in ``table``; what ``make`` gives, where there is none. The table has at most ``limit`` values: beyond
    that the one that was unused for longest is dropped."""
    found = table.get(key)
    if found is None:
        found = table[key] = make()
        if len(table) > limit:
            table.popitem(last=False)
    else:
        table.move_to_end(key)
    return found
