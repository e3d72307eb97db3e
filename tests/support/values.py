"""A frozen value with other fields, whether it is a dataclass or a named tuple."""

from __future__ import annotations

import dataclasses
from typing import Any


def replace[T](value: T, **changes: Any) -> T:
    """Like `copy.replace` of Python 3.13."""
    if isinstance(value, tuple):
        replaced: T = value._replace(**changes)  # type: ignore[attr-defined]
        return replaced
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
