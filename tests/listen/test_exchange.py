"""One request and its answer: interruptions end what may be interrupted, once, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.support.wire import an_exchange

from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone, Stopped


class Steps:
    """Where the owner of a call is, and what it waits for."""

    def __init__(self) -> None:
        self.exchange, self.wire = an_exchange()
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.second: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen: list[str] = []

    def begin(self, work: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        return asyncio.ensure_future(work())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def steps() -> Steps:
    return Steps()


INTERRUPTIONS: dict[str, tuple[Callable[[Exchange], None], type[Exception]]] = {
    "lost": (lambda exchange: exchange.lose("reset"), ClientGone),
    "stopped": (lambda exchange: exchange.stop("stopping"), Stopped),
}
both = pytest.mark.parametrize("kind", INTERRUPTIONS)


@both
async def test_it_ends_what_is_waited_for(steps: Steps, kind: str) -> None:
    """At once, inside the scope."""
    interrupt, error = INTERRUPTIONS[kind]

    async def work() -> None:
        async with steps.exchange.interruptible():
            await steps.first

    task = steps.begin(work)
    await turns()
    interrupt(steps.exchange)
    with pytest.raises(error):
        await task
    assert steps.first.cancelled()


@both
async def test_it_waits_for_a_scope(steps: Steps, kind: str) -> None:
    """Outside of one the owner goes on; the next scope is not entered."""
    interrupt, error = INTERRUPTIONS[kind]

    async def work() -> None:
        await steps.first
        steps.seen.append("held")
        async with steps.exchange.interruptible():
            steps.seen.append("sent")

    task = steps.begin(work)
    await turns()
    interrupt(steps.exchange)
    await turns()
    steps.first.set_result(None)
    with pytest.raises(error):
        await task
    assert steps.seen == ["held"]


async def test_a_second_one_while_the_first_is_under_way(steps: Steps) -> None:
    """A client leaves, its call is still letting go of things, and the gateway stops: the first counts."""

    async def work() -> None:
        async with steps.exchange.interruptible():
            try:
                await steps.first
            finally:
                await steps.second
                steps.seen.append("let go")

    task = steps.begin(work)
    await turns()
    steps.exchange.lose("reset")
    await turns()
    steps.exchange.stop("stopping")
    await turns()
    assert not task.done()
    steps.second.set_result(None)
    with pytest.raises(ClientGone):
        await task
    assert steps.seen == ["let go"]


async def test_one_that_was_swallowed_is_not_lost(steps: Steps) -> None:
    """What was awaited took the cancellation for its own: the scope raises all the same."""

    async def work() -> None:
        async with steps.exchange.interruptible():
            try:
                await steps.first
            except asyncio.CancelledError:
                steps.seen.append("swallowed")

    task = steps.begin(work)
    await turns()
    steps.exchange.stop("stopping")
    with pytest.raises(Stopped):
        await task
    assert steps.seen == ["swallowed"]


async def test_a_timeout_of_the_owners_own(steps: Steps) -> None:
    """It is what it is, also inside the scope."""

    async def work() -> None:
        async with steps.exchange.interruptible(), asyncio.timeout(0):
            await steps.first

    with pytest.raises(TimeoutError):
        await steps.begin(work)


async def test_a_cancellation_from_elsewhere(steps: Steps) -> None:
    """It is not taken for one of ours."""

    async def work() -> None:
        async with steps.exchange.interruptible():
            await steps.first

    task = steps.begin(work)
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@both
async def test_nothing_is_interrupted_once_all_is_sent(steps: Steps, kind: str) -> None:
    """The answer is complete: a client that closes its connection then has not left."""
    interrupt, _ = INTERRUPTIONS[kind]

    async def work() -> None:
        async with steps.exchange.interruptible():
            steps.exchange.start(200, [], end=True)
            await steps.first

    task = steps.begin(work)
    await turns()
    interrupt(steps.exchange)
    await turns()
    assert not task.done()
    steps.first.set_result(None)
    await task
    steps.exchange.abort()
    assert (steps.wire.ends, steps.wire.cut) == (1, False)


@both
async def test_a_client_that_takes_nothing(steps: Steps, kind: str) -> None:
    """`send` waits for it, and can be interrupted there; the time counts as waited."""
    interrupt, error = INTERRUPTIONS[kind]
    steps.wire.full = True

    async def work() -> None:
        async with steps.exchange.interruptible():
            steps.exchange.start(200, [])
            await steps.exchange.send(b"data")

    task = steps.begin(work)
    await turns()
    assert not task.done()
    interrupt(steps.exchange)
    with pytest.raises(error):
        await task
    assert steps.exchange.waited_s > 0


async def test_nothing_is_sent_to_a_client_that_is_gone(steps: Steps) -> None:
    """Every way to send says so, and an abort is silent."""
    steps.exchange.lose("reset")
    with pytest.raises(ClientGone):
        steps.exchange.start(200, [])
    with pytest.raises(ClientGone):
        await steps.exchange.send(b"data")
    with pytest.raises(ClientGone):
        steps.exchange.end()
    with pytest.raises(ClientGone):
        steps.exchange.answer(503, [], b"{}")
    steps.exchange.abort()
    assert (steps.wire.status, steps.wire.ends) == (0, 0)
