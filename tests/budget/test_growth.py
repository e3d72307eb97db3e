"""How far a stream without a cap is covered, with a clock that the test moves."""

from __future__ import annotations

import pytest

from tollhouse.budget.growth import AHEAD_TOKENS, FIRST_SLICE_TOKENS, SLICE_TOKENS, TOKENS_PER_SECOND, Growth
from tollhouse.call import Call, RequestHead
from tollhouse.denial import Denial

DENIAL = Denial("budget_exceeded", "no more")


class World:
    """A budget of ``left`` tokens beyond the first slice, and the client's side."""

    def __init__(self, left: int, answers: int = 1) -> None:
        self.left = left
        self.now = 100.0
        self.asked: list[int] = []
        self.ended: list[Denial] = []
        head = RequestHead("proxy", "1.1", "POST", "/", "https", None, None, ())
        self.call = Call.begin(head)
        self.call.answers, self.call.output_cap = answers, FIRST_SLICE_TOKENS * answers
        self.growth = Growth(self.call, self, self._extend, lambda: self.now)

    async def _extend(self, call: Call, more: int) -> tuple[int, Denial | None]:
        self.asked.append(more)
        got = min(more, self.left)
        self.left -= got
        return got, None if got == more else DENIAL

    def refuse(self, denial: Denial) -> None:
        self.ended.append(denial)


async def test_a_short_answer_asks_for_nothing() -> None:
    """The first slice is enough."""
    world = World(0)
    for seen in range(0, FIRST_SLICE_TOKENS - AHEAD_TOKENS, 100):
        assert await world.growth.covers(seen) is None
    assert world.asked == []


async def test_the_hold_stays_ahead_of_the_output_seen() -> None:
    """One extension for many chunks, each in time."""
    world = World(1_000_000)
    covered = FIRST_SLICE_TOKENS
    for seen in range(0, 20_000, 10):
        assert await world.growth.covers(seen) is None
        covered = FIRST_SLICE_TOKENS + sum(world.asked)
        assert covered >= seen + AHEAD_TOKENS
    assert len(world.asked) < 2 + 20_000 / (SLICE_TOKENS - AHEAD_TOKENS)


async def test_it_ends_when_what_is_held_is_used(caplog: pytest.LogCaptureFixture) -> None:
    """What is left below a slice is still used; the ledger is not asked for each chunk."""
    world = World(300)
    seen = 0
    while (denial := await world.growth.covers(seen)) is None:
        seen += 1
    assert seen == FIRST_SLICE_TOKENS + 300 + 1
    assert (denial, world.call.ended, len(world.asked)) == (DENIAL, "budget", 1)


async def test_room_that_comes_back_is_used() -> None:
    """Another call was settled: the next question, a second later, is answered otherwise."""
    world = World(0)
    assert await world.growth.covers(FIRST_SLICE_TOKENS) is None
    world.left = 1_000_000
    world.now += 1.0
    assert await world.growth.covers(FIRST_SLICE_TOKENS + 1) is None
    assert len(world.asked) == 2


@pytest.mark.parametrize("answers", [1, 3])
async def test_silence_is_output_too(answers: int) -> None:
    """Nothing is seen, and the hold grows with the time, for each answer; when it can't, the stream is ended."""
    world = World(5_000 * answers, answers)
    while not world.ended:
        world.now += 1.0
        await world.growth.tick()
    seconds = world.now - 100.0
    held = (FIRST_SLICE_TOKENS + 5_000) * answers
    assert seconds == pytest.approx(held / (TOKENS_PER_SECOND * answers), abs=1.5)
    assert world.ended == [DENIAL]
