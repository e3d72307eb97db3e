"""How far a stream without a cap is covered, with a clock that the test moves."""

from __future__ import annotations

import pytest
from tests.support.clock import Clock

from tollhouse.budget.growth import AHEAD_TOKENS, SLICE_TOKENS, TOKENS_PER_SECOND, Growth
from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS

DENIAL = Denial("budget_exceeded", "no more")


class World:
    """A budget of ``left`` tokens beyond the first slice, and the client's side."""

    def __init__(self, left: int, choices: int = 1, *, reasons: bool = True) -> None:
        self.left = left
        self.clock = Clock(100.0)
        self.asked: list[int] = []
        self.ended: list[Denial] = []
        asked = Asked("gpt-5", stream=True, choices=choices, reasons=reasons)
        self.growth = Growth(asked, FIRST_SLICE_TOKENS * choices, self, self._extend, self.clock)

    async def _extend(self, more: int) -> tuple[int, Denial | None]:
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
    assert (denial, len(world.asked)) == (DENIAL, 1)


async def test_room_that_comes_back_is_used() -> None:
    """Another call was settled: the next question, a second later, is answered otherwise."""
    world = World(0)
    assert await world.growth.covers(FIRST_SLICE_TOKENS) is None
    world.left = 1_000_000
    world.clock.advance(1.0)
    assert await world.growth.covers(FIRST_SLICE_TOKENS + 1) is None
    assert len(world.asked) == 2


@pytest.mark.parametrize("choices", [1, 3])
async def test_silence_is_output_too(choices: int) -> None:
    """Nothing is seen, and the hold grows with the time, for each answer; when it can't, the stream is ended."""
    world = World(5_000 * choices, choices)
    while not world.ended:
        world.clock.advance(1.0)
        await world.growth.tick()
    seconds = world.clock() - 100.0
    held = (FIRST_SLICE_TOKENS + 5_000) * choices
    assert seconds == pytest.approx(held / (TOKENS_PER_SECOND * choices), abs=1.5)
    assert world.ended == [DENIAL]


async def test_a_model_that_cannot_reason_uses_nothing_in_silence() -> None:
    """However long it says nothing, its hold does not grow."""
    world = World(0, reasons=False)
    for _ in range(600):
        world.clock.advance(1.0)
        await world.growth.tick()
    assert (world.asked, world.ended) == ([], [])
