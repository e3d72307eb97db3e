"""A time limit that many tasks share ends each of them as `asyncio.timeout` would."""

from __future__ import annotations

import asyncio

import pytest

from tollhouse.loop import run
from tollhouse.time_limit import TimeLimit

SHORT_S = 0.05
LONG_S = 60.0


async def _wait(limit: TimeLimit) -> None:
    async with limit.block():
        await asyncio.get_running_loop().create_future()


def test_each_is_ended() -> None:
    """Those that come while the timer runs, those that come when it has run out, and nobody else."""

    async def main() -> None:
        limit = TimeLimit(SHORT_S)
        for _ in range(2):
            tasks = [asyncio.create_task(_wait(limit)) for _ in range(3)]
            await asyncio.sleep(SHORT_S / 2)
            tasks += [asyncio.create_task(_wait(limit)) for _ in range(3)]
            began = asyncio.get_running_loop().time()
            done, _ = await asyncio.wait(tasks, timeout=LONG_S)
            assert [type(task.exception()) for task in done] == [TimeoutError] * 6
            assert asyncio.get_running_loop().time() - began >= SHORT_S - 0.002

    run(main)


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    """Its task is not cancelled later."""

    async def main() -> None:
        limit = TimeLimit(SHORT_S)
        async with limit.block():
            pass
        with pytest.raises(TimeoutError):
            await _wait(limit)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    run(main)


def test_a_cancellation_from_outside_is_one() -> None:
    """It is no TimeoutError, and the limit of others stays."""

    async def main() -> None:
        limit = TimeLimit(SHORT_S)
        other, task = (asyncio.create_task(_wait(limit)) for _ in range(2))
        task.cancel()
        await asyncio.wait([task, other], timeout=LONG_S)
        assert task.cancelled()
        assert isinstance(other.exception(), TimeoutError)

    run(main)


def test_without_a_limit() -> None:
    """None waits for however long it takes."""

    async def main() -> None:
        task = asyncio.create_task(_wait(TimeLimit(None)))
        with pytest.raises(TimeoutError):
            await _wait(TimeLimit(SHORT_S))
        assert not task.done()
        task.cancel()

    run(main)


def test_another_loop() -> None:
    """The timer of a loop that was closed is not waited for."""
    limit = TimeLimit(SHORT_S)

    async def leave_open() -> None:
        asyncio.get_running_loop().create_task(_wait(limit))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await _wait(limit)

    run(leave_open)
    run(main)


def test_an_error_of_the_block_is_raised() -> None:
    """As it is."""

    async def main() -> None:
        with pytest.raises(KeyError):
            async with TimeLimit(LONG_S).block():
                raise KeyError

    run(main)
