"""Whose bodies are read by a thread, and when."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tollhouse.admit.readers import Readers


async def test_a_tenant_leaves_threads_to_others() -> None:
    """However many bodies it sends: another's is read while all of its own are still being read."""
    readers, go_on = Readers(threads=3, of_one_tenant=2), threading.Event()
    begun: list[str] = []

    def slow(name: str) -> str:
        begun.append(name)
        assert go_on.wait(20)
        return name

    slows = [
        asyncio.create_task(readers.run("busy", slow, f"busy-{number}")) for number in range(8)
    ]
    assert await readers.run("other", lambda: "read") == "read"
    assert set(begun) <= {"busy-0", "busy-1"}
    go_on.set()
    assert await asyncio.gather(*slows) == [f"busy-{number}" for number in range(8)]


async def test_what_is_raised_is_raised_and_the_next_is_read() -> None:
    """A body that is refused takes no turn away."""
    readers = Readers(threads=1, of_one_tenant=1)

    def refuses() -> None:
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            await readers.run("acme", refuses)
    assert await readers.run("acme", lambda: 7) == 7
