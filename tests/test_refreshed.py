"""What is kept, handed out and read again, as a truth table; the clock and every timer are the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.support.clock import Clock, settle
from tests.support.values import replace
from tollhouse.loop import eager_task_factory
from tollhouse.refreshed import Ended, Fresh, Kept, NotRead, Refreshed, Seen, Times

LIFE_S = 100.0
TIMES = Times(
    ahead_s=10,
    ahead_share=0.2,
    least_s=5,
    least_share=0.25,
    missing_s=30,
    grace_s=4,
    stale_for_s=50,
    retry_s=(1, 2, 4),
    refused_s=(6, 12),
    idle_s=1000,
)
"""A value of 100 s is read again at 80 s, handed out until 95 s, until 99 s while it is being read, until 145 s while the
source is away."""


class Away(Exception):
    """Nobody can tell."""


class Refused(Exception):
    """The source says no."""


@dataclass
class Source:
    """Answers with ``value`` for ``life_s``, with nothing if it is None, or raises ``fail``; waits while ``gate`` is closed."""

    clock: Clock
    value: str | None = "v1"
    life_s: float = LIFE_S
    fail: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reads: list[tuple[str, str | None]] = field(default_factory=list)
    """Key, and what was kept of it."""
    at: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def read(self, key: str, known: str | None) -> Fresh[str] | None:
        self.reads.append((key, known))
        self.at.append(self.clock.now - 1000)
        await self.gate.wait()
        if self.fail is not None:
            raise type(self.fail)(*self.fail.args)
        return None if self.value is None else Fresh(self.value, self.life_s)


@dataclass
class Told:
    """What the hooks were told."""

    ended: list[Ended[str]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    fail: Exception | None = None

    def read(self, key: str, ended: Ended[str]) -> None:
        self.ended.append(ended)
        if self.fail is not None:
            raise self.fail


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source(clock: Clock) -> Source:
    return Source(clock)


@pytest.fixture
def told() -> Told:
    return Told()


Make = Callable[..., Refreshed[str, str]]


@pytest.fixture
def make(source: Source, clock: Clock, told: Told) -> Make:
    def made(times: Times = TIMES, limit: int = 10, jitter: float = 0.0) -> Refreshed[str, str]:
        return Refreshed(
            source.read,
            times,
            away=(Away,),
            clock=clock,
            jitter=lambda: jitter,
            call_later=clock.call_later,
            limit=limit,
            on_read=told.read,
            on_forgotten=told.forgotten.append,
        )

    return made


def value_of(kept: Kept[str] | None) -> str | None:
    return kept.value if kept is not None else None


# What is handed out without a read: by what is kept, its age, and how the read after it goes.

VALUE, NOTHING = "v1", None
# (what was read, age, the read after it) -> handed out
HANDED_OUT = {
    (VALUE, 0.0, "none"): True,
    (VALUE, 94.9, "none"): True,
    (VALUE, 95.0, "none"): False,
    (VALUE, 98.9, "under way"): True,
    (VALUE, 99.0, "under way"): False,
    (VALUE, 95.0, "away"): True,
    (VALUE, 144.9, "away"): True,
    (VALUE, 145.0, "away"): False,
    (VALUE, 80.0, "refused"): False,
    (NOTHING, 29.9, "none"): True,
    (NOTHING, 30.0, "none"): False,
    (NOTHING, 33.9, "under way"): True,
    (NOTHING, 34.0, "under way"): False,
    (NOTHING, 79.9, "away"): True,
    (NOTHING, 80.0, "away"): False,
    (NOTHING, 29.9, "refused"): False,
}


@pytest.mark.parametrize(("read", "age_s", "after"), HANDED_OUT)
async def test_what_is_handed_out(
    make: Make, source: Source, clock: Clock, read: str | None, age_s: float, after: str
) -> None:
    """The table above; what is not handed out is read again, or refused for a moment."""
    refreshed = make(replace(TIMES, idle_s=10_000))
    source.value = read
    assert await refreshed.get("k") == read
    if after == "under way":
        source.gate.clear()
    if after in ("away", "refused"):
        source.fail = Away() if after == "away" else Refused()
    if after == "none":
        clock.now += age_s
    else:
        await clock.pass_(age_s, wait=after != "under way")
    handed_out = HANDED_OUT[read, age_s, after]
    assert (refreshed.peek("k") is not None) == handed_out
    if handed_out:
        assert value_of(refreshed.peek("k")) == read
        assert await refreshed.get("k") == read
    await refreshed.close()


@pytest.mark.parametrize(
    ("life_s", "ahead_at", "until"),
    [
        (100.0, 80.0, 95.0),
        (1000.0, 800.0, 995.0),
        (20.0, 10.0, 15.0),
        (16.0, 8.0, 12.0),
        (4.0, 2.0, 3.0),
    ],
)
async def test_two_margins(
    make: Make, source: Source, clock: Clock, life_s: float, ahead_at: float, until: float
) -> None:
    """Read ahead by the longer of seconds and share, but not before half of its life; handed out but for the shorter."""
    refreshed = make()
    source.life_s = life_s
    await refreshed.get("k")
    await clock.pass_(ahead_at - 0.01)
    assert len(source.reads) == 1
    await clock.pass_(0.01)
    assert source.reads == [("k", None), ("k", "v1")]
    source.gate.clear()
    seen = refreshed.seen("k")
    assert seen is not None
    assert seen.kept == Kept("v1", 1000.0 + ahead_at, 1000.0 + ahead_at + until, life_s)
    await refreshed.close()


async def test_a_new_value_is_there_before_the_old_one_ends(
    make: Make, source: Source, clock: Clock
) -> None:
    """Nobody waits for it, however often it is renewed."""
    refreshed = make()
    await refreshed.get("k")
    for number in range(2, 20):
        source.value = f"v{number}"
        await clock.pass_(80)
        assert value_of(refreshed.peek("k")) == f"v{number}"
    assert len(source.reads) == 19


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 80.0), (1.0, 40.0)])
async def test_spread(
    make: Make, source: Source, clock: Clock, jitter: float, first: float
) -> None:
    """Many gateways that began at once do not read at once."""
    refreshed = make(replace(TIMES, spread=0.5), jitter=jitter)
    await refreshed.get("k")
    await clock.pass_(first - 0.01)
    assert source.at == [0]
    await clock.pass_(0.01)
    assert source.at == [0, first]


async def test_never_ahead(make: Make, source: Source, clock: Clock) -> None:
    """Without a margin for it nothing is read that nobody asks for, and no timer is set."""
    refreshed = make(Times(missing_s=30))
    await refreshed.get("k")
    await clock.pass_(10_000)
    assert len(source.reads) == 1
    assert await refreshed.get("k") == "v1"
    assert len(source.reads) == 2


@pytest.mark.parametrize(("from_asked", "ends_at"), [(True, 95.0), (False, 98.0)])
async def test_from_when_a_life_is_counted(
    make: Make, source: Source, clock: Clock, from_asked: bool, ends_at: float
) -> None:
    """A read of 3 s: what was true when it was asked may have ended meanwhile, or the source counts from its answer."""
    refreshed = make(replace(TIMES, from_asked=from_asked))
    source.gate.clear()
    asking = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    clock.now += 3
    source.gate.set()
    assert await asking == "v1"
    seen = refreshed.seen("k")
    assert seen is not None
    assert seen.kept is not None
    assert seen.kept.ends_at == 1000 + ends_at


async def test_what_ended_before_it_came_is_not_handed_out(
    make: Make, source: Source, clock: Clock
) -> None:
    """It must have so long to live; whoever asks next has it read anew."""
    refreshed = make()
    source.gate.clear()
    asking = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    clock.now += 96
    source.gate.set()
    with pytest.raises(NotRead):
        await asking
    assert await refreshed.get("k") == "v1"


# One read


@pytest.mark.parametrize("eager", [False, True])
async def test_one_read_for_all(make: Make, source: Source, eager: bool) -> None:
    """However many ask; one that leaves disturbs nobody, and neither does the last."""
    if eager:
        asyncio.get_running_loop().set_task_factory(eager_task_factory)
    refreshed = make()
    source.gate.clear()
    asking = [asyncio.create_task(refreshed.get("k")) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*asking[1:]) == ["v1"] * 99
    assert len(source.reads) == 1
    source.gate.clear()
    alone = asyncio.create_task(refreshed.get("other"))
    await asyncio.sleep(0)
    alone.cancel()
    await asyncio.wait([alone])
    source.gate.set()
    assert await refreshed.get("other") == "v1"
    assert len(source.reads) == 2


async def test_a_read_that_waits_for_nothing(make: Make, source: Source) -> None:
    """On a loop whose tasks begin at once it has ended before it is waited for."""
    asyncio.get_running_loop().set_task_factory(eager_task_factory)
    refreshed = make()
    assert [await refreshed.get(key) for key in "aab"] == ["v1"] * 3
    source.fail = Refused("no")
    with pytest.raises(Refused, match="no"):
        await refreshed.get("c")
    assert len(source.reads) == 3


# Failures


@pytest.mark.parametrize(
    ("failure", "at"),
    [(Away("a"), [0, 1, 3, 7, 11, 15, 19]), (Refused("r"), [0, 6, 18])],
    ids=["away", "refused"],
)
async def test_back_off(
    make: Make, source: Source, clock: Clock, failure: Exception, at: list[float]
) -> None:
    """An error is remembered for longer each time, and each who asks gets one of its own, without frames of others."""
    refreshed = make()
    source.fail = failure
    raised = []
    for _ in range(200):
        with pytest.raises(type(failure), match=str(failure)) as caught:
            await refreshed.get("k")
        raised.append(caught.value)
        await clock.pass_(0.1)
    assert [round(when, 1) for when in source.at] == at
    assert len({id(error) for error in raised}) == 200
    assert all(error.__cause__ is None and error.__context__ is None for error in raised)
    source.fail = None
    await clock.pass_(12)
    assert await refreshed.get("k") == "v1"
    source.fail = failure
    await clock.pass_(80)
    assert (refreshed.peek("k") is None) == isinstance(failure, Refused), (
        "the row of failures has ended"
    )


async def test_an_error_is_shared_by_those_who_waited(make: Make, source: Source) -> None:
    """One read fails for all; each has an exception of its own."""
    refreshed = make()
    source.gate.clear()
    source.fail = Refused("no")
    asking = [asyncio.create_task(refreshed.get("k")) for _ in range(10)]
    await asyncio.sleep(0)
    source.gate.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(error) for error in errors] == ["no"] * 10
    assert len({id(error) for error in errors}) == 10
    assert len(source.reads) == 1


@pytest.mark.parametrize("failure", [Away("a"), Refused("r")])
async def test_an_error_without_a_back_off(
    make: Make, source: Source, clock: Clock, failure: Exception
) -> None:
    """It is not remembered: whoever asks next has it read again. It keeps its frames, which say where it came from."""
    refreshed = make(Times(missing_s=30))
    source.fail = failure
    for count in (1, 2, 3):
        with pytest.raises(type(failure)) as caught:
            await refreshed.get("k")
        assert len(source.reads) == count
        assert "read" in [entry.name for entry in caught.traceback]
    assert len(refreshed) == 0


async def test_a_value_outlives_an_outage_that_begins_late(
    make: Make, source: Source, clock: Clock
) -> None:
    """Nobody asked while it ended, and the first who does finds the source away: it serves on, for the rest of that time."""
    refreshed = make(replace(TIMES, ahead_s=0, ahead_share=0))
    await refreshed.get("k")
    source.fail = Away()
    clock.now += 120
    assert refreshed.peek("k") is None
    assert await refreshed.get("k") == "v1"
    await clock.pass_(24.9)
    assert await refreshed.get("k") == "v1"
    await clock.pass_(0.2)
    with pytest.raises(Away):
        await refreshed.get("k")


# Nothing there


async def test_nothing_for_a_shorter_time(make: Make, source: Source, clock: Clock) -> None:
    """Whoever must know better asks for a newer answer that there is nothing; a value is as good as ever."""
    refreshed = make()
    source.value = None
    assert await refreshed.get("k") is None
    clock.now += 5
    assert await refreshed.get("k", missing_s=5.1) is None
    assert len(source.reads) == 1
    source.value = "v1"
    assert await refreshed.get("k", missing_s=5) == "v1"
    clock.now += 50
    assert await refreshed.get("k", missing_s=5) == "v1"
    assert len(source.reads) == 2


# Which keys are kept


async def test_the_longest_not_asked_for_makes_room(make: Make, told: Told, source: Source) -> None:
    """Of keys with a value, and apart from them of those without one."""
    refreshed = make(limit=2)
    for key in "abac":
        await refreshed.get(key)
    assert sorted(refreshed.keys()) == ["a", "c"]
    assert told.forgotten == ["b"]
    source.value = None
    for number in range(100):
        await refreshed.get(f"nobody {number}")
    assert sorted(refreshed.keys()) == ["a", "c", "nobody 98", "nobody 99"]
    assert len(refreshed) == 4
    assert "a" in refreshed
    assert "b" not in refreshed


async def test_a_key_that_finds_and_loses_its_value(
    make: Make, source: Source, clock: Clock
) -> None:
    """It is counted where it belongs now."""
    refreshed = make(limit=1)
    await refreshed.get("a")
    source.value = None
    await clock.pass_(80)
    assert value_of(refreshed.peek("a")) is None
    source.value = "v1"
    await refreshed.get("b")
    assert sorted(refreshed.keys()) == ["a", "b"]


@pytest.mark.parametrize(
    ("idle_s", "lives", "kept_s"), [(10.0, 0.0, 80.0), (1000.0, 0.0, 1040.0), (10.0, 2.0, 240.0)]
)
async def test_idle(
    make: Make, source: Source, clock: Clock, told: Told, idle_s: float, lives: float, kept_s: float
) -> None:
    """A key that nobody asks for is read again for so long, and then forgotten."""
    refreshed = make(replace(TIMES, idle_s=idle_s, idle_lives=lives))
    await refreshed.get("k")
    await clock.pass_(kept_s - 0.1)
    assert told.forgotten == []
    await clock.pass_(0.1)
    assert told.forgotten == ["k"]
    reads = len(source.reads)
    await clock.pass_(10_000)
    assert len(source.reads) == reads
    assert len(refreshed) == 0


@pytest.mark.parametrize("failure", [Away(), Refused()])
async def test_idle_after_a_failure(
    make: Make, source: Source, clock: Clock, told: Told, failure: Exception
) -> None:
    """A key that never had a value goes too; one that is refused is not asked for meanwhile."""
    refreshed = make(replace(TIMES, idle_s=60))
    source.fail = failure
    with pytest.raises(type(failure)):
        await refreshed.get("k")
    await clock.pass_(59)
    assert "k" in refreshed
    with pytest.raises(type(failure)):
        await refreshed.get("k")
    reads = len(source.reads)
    await clock.pass_(59)
    assert "k" in refreshed
    if isinstance(failure, Refused):
        assert len(source.reads) == reads
    await clock.pass_(6)
    assert told.forgotten == ["k"]


async def test_looking_is_not_asking(make: Make, source: Source, clock: Clock, told: Told) -> None:
    """`seen` keeps nothing alive and reads nothing."""
    refreshed = make(replace(TIMES, idle_s=10))
    assert refreshed.seen("k") is None
    await refreshed.get("k")
    clock.now += 79
    assert refreshed.seen("k") == Seen(Kept("v1", 1000, 1095, 100), True, None, 1000)
    await clock.pass_(1)
    assert told.forgotten == ["k"]


# A value that was refused


async def test_drop(make: Make, source: Source, clock: Clock) -> None:
    """The next who asks has it read; of the new one a refusal is believed once in so long, of an old one always."""
    refreshed = make()
    await refreshed.get("k")
    source.value = "v2"
    assert refreshed.drop("k", "v1", every_s=10)
    assert refreshed.drop("k", "v1", every_s=10)
    assert await refreshed.get("k") == "v2"
    assert refreshed.drop("k", "v1", every_s=10)
    assert not refreshed.drop("k", "v2", every_s=10)
    assert await refreshed.get("k") == "v2"
    assert len(source.reads) == 2
    clock.now += 10
    assert refreshed.drop("k", "v2", every_s=10)
    assert refreshed.drop("nobody's", "v2", every_s=10)
    assert await refreshed.get("k") == "v2"
    assert len(source.reads) == 3


async def test_again(make: Make, source: Source) -> None:
    """The first begins a read, and those behind it share the next: one that began before counts only if what it tells
    will do."""
    refreshed = make()
    await refreshed.get("k")
    await asyncio.gather(*(refreshed.again("k") for _ in range(50)))
    assert len(source.reads) == 3
    for enough, reads in ((lambda value: value == "v2", 4), (lambda value: value == "v3", 6)):
        source.gate.clear()
        under_way = asyncio.create_task(refreshed.again("k"))
        await asyncio.sleep(0)
        source.value = "v2"
        waiting = asyncio.create_task(refreshed.again("k", enough))
        await asyncio.sleep(0)
        source.gate.set()
        await asyncio.gather(under_way, waiting)
        assert len(source.reads) == reads


async def test_again_in_vain(make: Make, source: Source) -> None:
    """It raises nothing: what is kept stays, and `seen` says why nothing new is there."""
    refreshed = make()
    await refreshed.get("k")
    source.fail = Away("gone")
    await refreshed.again("k")
    seen = refreshed.seen("k")
    assert seen is not None
    assert str(seen.error) == "gone"
    assert await refreshed.get("k") == "v1"


# Forgetting, and the end


@pytest.mark.parametrize("how", ["forget", "clear"])
async def test_what_was_read_before_a_change_is_not_kept(
    make: Make, source: Source, told: Told, how: str
) -> None:
    """It is for those who waited for it, and the next has it read anew."""
    refreshed = make()
    source.gate.clear()
    before = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    if how == "forget":
        refreshed.forget("k")
    else:
        refreshed.clear()
    after = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(before, after) == ["v1", "v1"]
    assert len(source.reads) == 2
    assert len(told.ended) == 1


async def test_clear(make: Make, source: Source, clock: Clock, told: Told) -> None:
    """Nothing is kept and nothing is read ahead any more."""
    refreshed = make()
    await refreshed.get("k")
    refreshed.clear()
    assert (len(refreshed), told.forgotten) == (0, [])
    await clock.pass_(1000)
    assert len(source.reads) == 1
    assert await refreshed.get("k") == "v1"


@pytest.mark.parametrize("begun", [False, True])
async def test_close(make: Make, source: Source, clock: Clock, begun: bool) -> None:
    """Who waits is let go, also by a read that had not even begun; nothing is read any more."""
    refreshed = make()
    await refreshed.get("k")
    source.gate.clear()
    waiting = [
        asyncio.create_task(refreshed.get("other")),
        asyncio.create_task(refreshed.again("k")),
    ]
    await asyncio.sleep(0)
    if begun:
        await asyncio.sleep(0)
    await refreshed.close()
    first, second = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, NotRead)
    assert second is None
    reads = len(source.reads)
    with pytest.raises(NotRead):
        await refreshed.get("k")
    await refreshed.again("k")
    await clock.pass_(1000)
    assert len(source.reads) == reads
    await settle()


# What is told of reads


async def test_each_end_of_a_read_is_told(
    make: Make, source: Source, clock: Clock, told: Told
) -> None:
    """With what was kept until then, and what the read before it failed of."""
    refreshed = make()
    await refreshed.get("k")
    source.fail = Away("a")
    await clock.pass_(81)
    source.fail, source.value = None, "v2"
    await clock.pass_(2)
    old, new = Kept("v1", 1000.0, 1095.0, 100.0), Kept("v2", 1083.0, 1178.0, 100.0)
    shown = [(one.before, one.told, str(one.error), str(one.error_before)) for one in told.ended]
    assert shown == [
        (None, old, "None", "None"),
        (old, None, "a", "None"),
        (old, None, "a", "a"),
        (old, new, "None", "a"),
    ]
    assert [(one.asked_at, one.ended_at) for one in told.ended] == [
        (at, at) for at in (1000, 1080, 1081, 1083)
    ]


async def test_who_is_told_fails(make: Make, source: Source, told: Told) -> None:
    """Then the read has failed: what nobody could note is not handed out."""
    refreshed = make()
    told.fail = RuntimeError("injected")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="injected"):
            await refreshed.get("k")
    assert len(source.reads) == 1
    source.fail = Away()
    with pytest.raises(Away):
        await refreshed.get("other")


ONCE_MORE = replace(TIMES, retry_s=(8,), once_more_s=1.0)


async def test_a_caller_waits_for_one_read_more(make: Make, source: Source, clock: Clock) -> None:
    """Just after a failed read it begins another one a second later, instead of being told of the failure."""
    refreshed = make(ONCE_MORE)
    source.fail = Away("a")
    with pytest.raises(Away):
        await refreshed.get("k")
    source.fail = None
    asking = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    assert (asking.done(), len(source.reads)) == (False, 1)
    await clock.pass_(1)
    assert await asking == "v1"


@pytest.mark.parametrize("comes_back", [True, False])
async def test_the_first_caller_after_an_outage(
    make: Make, source: Source, clock: Clock, comes_back: bool
) -> None:
    """It may come while a read from before is under way, which fails still. It waits for one more read, and for no third."""
    refreshed = make(ONCE_MORE)
    source.gate.clear()
    source.fail = Away("a")
    before = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    after = asyncio.create_task(refreshed.get("k"))
    await asyncio.sleep(0)
    source.gate.set()
    with pytest.raises(Away):
        await before
    source.fail = None if comes_back else Away("b")
    await asyncio.sleep(0)
    await clock.pass_(1)
    if comes_back:
        assert await after == "v1"
    else:
        with pytest.raises(Away, match="b"):
            await after
    assert len(source.reads) == 2
