"""The smallest input that still fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 20.0


def smallest(data: bytes, check: Callable[[bytes], None]) -> bytes:
    """Pieces of ``data`` are left out as long as ``check`` raises the same class of exception."""
    failure = _failure(data, check)
    until = time.monotonic() + _SECONDS
    size = max(len(data) // 2, 1)
    while size and failure is not None:
        at = 0
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if _failure(shorter, check) is failure:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _failure(data: bytes, check: Callable[[bytes], None]) -> type[BaseException] | None:
    try:
        check(data)
    except Exception as raised:
        return type(raised)
    return None
