"""Streams without an output cap that go over the end of a window: the purse, its growth and the
ledger, with one clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.budget.priced import PROJECT, a_call
from tests.budget.test_purse import limit_to, state
from tests.ledger.clock import RedisClock

from tollhouse.budget.growth import SLICE_TOKENS
from tollhouse.budget.purse import Purse
from tollhouse.call import Hold, Requested
from tollhouse.denial import Denial, Refused
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.spool import Spool
from tollhouse.outcome import End, Outcome
from tollhouse.prices.table import PriceTable

USD = 10**9
# USD for a million tokens: 1,600 nano-dollars a token of output.
PRICES = PriceTable({}, {"openai/quick": {"input": "0.1", "output": "1.6"}})
OUTPUT_PRICE = 1_600
TOKENS_A_SECOND = 3_000
LIMIT = "0.05 usd/minute"


@dataclass
class Stream:
    """One answer under way, which would never end by itself."""

    call: Requested
    seen: int = 0
    ended: bool = False
    hold: Hold | None = None

    @classmethod
    async def begin(cls, purse: Purse) -> Stream:
        stream = cls(
            a_call(
                model="quick",
                stream=True,
                capped=False,
                out=FIRST_SLICE_TOKENS,
                into=10,
                reasons=False,
            )
        )
        stream.hold = (await purse(stream.call, stream)).hold
        return stream

    def refuse(self, denial: Denial) -> None:
        self.ended = True

    async def goes_on(self, seconds: float) -> None:
        self.seen += int(seconds * TOKENS_A_SECOND)
        assert self.hold is not None
        self.ended = self.ended or await self.hold.covers(self.seen) is not None


async def test_two_streams_over_a_minutes_end(
    ledger: Ledger, clock: RedisClock, tmp_path: Path
) -> None:
    """Begun at second 58, they spend what two minutes allow and one slice at most; the running
    minute shows its part."""
    await limit_to(ledger, LIMIT, "10 usd/day")
    await clock.set(RedisClock.START + 58)
    purse = Purse(ledger, PRICES, Spool(tmp_path), clock=lambda: clock.now)
    streams = [await Stream.begin(purse) for _ in range(2)]
    first_minute = cost = 0
    for step in range(1, 600):
        await clock.set(RedisClock.START + 58 + step / 10)
        for stream in streams:
            if not stream.ended:
                await stream.goes_on(0.1)
        if step < 20:
            [(_, first_minute), _] = (await state(ledger)).values()
        if all(stream.ended for stream in streams):
            break
    assert all(stream.ended for stream in streams)
    # They went on into the second minute and were ended there.
    assert RedisClock.START + 60 < clock.now < RedisClock.START + 120
    [(used, held), (_, in_all)] = (await state(ledger)).values()
    assert used == 0
    assert 0 < first_minute <= USD // 20
    assert 0.95 * USD / 20 < held <= USD // 20
    assert in_all == first_minute + held
    for stream in streams:
        call_id = stream.call.admitted.id
        outcome = Outcome(
            End.OVER_BUDGET, 200, metered=True, streamed=True, output_seen=stream.seen
        )
        charge = purse.charge(call_id, outcome)
        assert charge is not None
        cost += charge[0].nano_usd
        await purse.settle(call_id, charge[0], {"call_id": call_id})
    [(used, held), (in_all, _)] = (await state(ledger)).values()
    slice_usd = SLICE_TOKENS * OUTPUT_PRICE
    assert in_all == cost
    assert in_all <= 2 * USD // 20 + slice_usd
    # What they held in the first minute and did not use before its end was used in the second.
    assert (used, held) == (in_all - first_minute, 0)
    assert 0.9 * USD / 20 < used <= USD // 20 + slice_usd


async def test_the_running_minute_refuses_what_a_stream_took_of_it(
    ledger: Ledger, clock: RedisClock, tmp_path: Path
) -> None:
    """A call that comes in the second minute finds less room by what the stream of the first has
    taken there."""
    await limit_to(ledger, LIMIT)
    await clock.set(RedisClock.START + 59)
    purse = Purse(ledger, PRICES, Spool(tmp_path), clock=lambda: clock.now)
    stream = await Stream.begin(purse)
    for _ in range(10):
        await clock.add(1)
        await stream.goes_on(1.0)
    assert stream.ended is False
    [shown] = await ledger.show([PROJECT])
    assert shown.limits[0].held > 0.04 * USD
    with pytest.raises(Refused) as refused:
        await purse(a_call(model="quick", into=10, out=10_000), stream)
    assert refused.value.denial.code == "budget_exceeded"
