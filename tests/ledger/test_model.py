"""Random schedules of several gateways, and each row of the table of transitions, through the real scripts and through `model`;
after each step all that Redis holds of the tenant is compared. Past 400 lines because what is done, to both, and what is compared
belong side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from tests.ledger.clock import RedisClock
from tests.ledger.model import Model

from tollhouse.call import Amount
from tollhouse.ledger import names
from tollhouse.ledger.hold_reply import Held, Short, Unpriced
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits, session_record
from tollhouse.ledger.names import session_scope
from tollhouse.ledger.records import LATER
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.transitions import CODES, TRANSITIONS, UNMET, Event, State, answers

TENANT = Scope("tenant", "acme", "acme")
P, Q = Scope("project", "acme", "p"), Scope("project", "acme", "q")
ONE, TWO = Scope("token", "acme", "tok_1"), Scope("token", "acme", "tok_2")
SESSION_LIMITS = ("30 usd/session",)
WORK = session_scope(P, "s-1", session_record(SESSION_LIMITS))
SCOPES = (TENANT, P, ONE)
IN_SESSION = (TENANT, P, WORK, ONE)
WHOSE = {
    "c0": IN_SESSION,
    "c1": IN_SESSION,
    "c2": (TENANT, P, TWO),
    "c3": (TENANT, Q, ONE),
    "c4": (TENANT, Q, TWO),
    "c5": (TENANT, Q, TWO),
}
SESSIONS = {"c0": "s-1", "c1": "s-1", "c3": "s-2"}
GATEWAYS = 3
USD = 10**9
EDITS = (
    ("20 usd/minute", "30 usd/day", "40 tokens/hour", "3 concurrent"),
    ("25 usd/minute", "60 usd/day", "9 tokens/hour", "1 concurrent"),
    (),
    ("60 usd/day",),
)
TENANT_LIMITS = ("90 usd/total", "90 usd/week", "90 usd/month", "20 requests/hour")
FIRST = {TENANT: TENANT_LIMITS, P: EDITS[0], Q: EDITS[3], ONE: ("40 usd/day",), TWO: ()}

calls = st.sampled_from(sorted(WHOSE))
gateways = st.integers(0, GATEWAYS - 1)
amounts = st.builds(
    Amount, st.integers(0, 12).map(lambda usd: usd * USD), st.integers(0, 10), st.integers(0, 2)
)
# A hold of no request is a place, which the model does not know.
held = st.builds(
    Amount, st.integers(0, 12).map(lambda usd: usd * USD), st.integers(0, 10), st.integers(1, 2)
)
models = st.sampled_from(["m", "n"])
deadlines = st.sampled_from([20.0, 60.0, 90.0])
# A minute's edge is one second away at first; a silence of more than 30 s may have been an outage. Back it goes an hour at most:
# what is further back is believed, and begins its windows anew, which is another test's.
steps = st.sampled_from(
    [0.5, 1.0, 19.0, 29.0, 61.0, 200.0, 3_600.0, 43_200.0, 86_400.0, -1.0, -61.0, -3_600.0]
)
tried = st.sampled_from([None, 10.0, 3_599.0, 3_600.0, 82_799.0, 82_800.0, 200_000.0])
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("hold"),
            gateways,
            calls,
            held,
            deadlines,
            models,
            st.sampled_from([True, True, True, False]),
        ),
        st.tuples(st.just("settle"), gateways, calls, amounts, models, tried),
        st.tuples(st.just("extend"), gateways, calls, amounts),
        st.tuples(st.just("release"), gateways, calls, models),
        st.tuples(st.just("renew"), gateways, calls, deadlines),
        st.tuples(st.just("sweep"), gateways),
        st.tuples(st.just("late sweep"), gateways, calls),
        st.tuples(st.just("crash"), gateways),
        st.tuples(st.just("advance"), gateways, steps),
        st.tuples(
            st.just("limits"), gateways, st.sampled_from(sorted(FIRST)), st.sampled_from(EDITS)
        ),
        st.tuples(
            st.just("grant"),
            gateways,
            st.sampled_from([P, Q]),
            st.sampled_from(["usd", "tokens"]),
            st.integers(1, 20),
        ),
    ),
    max_size=40,
)


@pytest.fixture(params=["embedded", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    # A machine with more to do than time for it may take longer than a gateway waits.
    return (
        "embedded"
        if request.param == "embedded"
        else f"{request.getfixturevalue('redis_url')}?socket_timeout=60&socket_connect_timeout=60"
    )


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schedule=operations)
def test_the_scripts_do_what_the_model_does(url: str, tmp_path: Path, schedule: list[Any]) -> None:
    """Whatever happens in whatever order: every answer, every limit's used and held, every hold, deadline, ended and swept id,
    sum and record is the model's."""
    asyncio.run(run_both(url, tmp_path, schedule))


def named(call: str) -> dict[str, str]:
    return {"session": SESSIONS[call]} if call in SESSIONS else {}


def held(call: str, usd: int = 5, deadline_s: float = 90.0) -> tuple[Any, ...]:
    return ("hold", 0, call, Amount(usd * USD, 4, 1), deadline_s, "m", True)


def settled(call: str, usd: int = 2) -> tuple[Any, ...]:
    return ("settle", 1, call, Amount(usd * USD, 3, 1), "n", None)


# Another call is under way meanwhile: what is taken off too often shows.
HOLD = (held("c1", 1), held("c0", 5, 20.0))
SWEEP = (("advance", 0, 20.5), ("sweep", 1))
MUCH = Amount(31 * USD, 0, 1)
WAYS: dict[State, tuple[Any, ...]] = {
    "unknown": (held("c1", 1),),
    "held": HOLD,
    "swept": (*HOLD, *SWEEP),
    "ended": (*HOLD, settled("c0")),
}
"""How a call comes into each state."""
STEPS: dict[Event, tuple[Any, ...]] = {
    "hold": (held("c0"),),
    "extend": (("extend", 1, "c0", Amount(USD, 2, 0)),),
    "renew": (("renew", 1, "c0", 60.0),),
    "release": (("release", 1, "c0", "n"),),
    "settle": (settled("c0"),),
    "sweep": (("advance", 0, 20.5), ("late sweep", 1, "c0")),
    # Ids are forgotten when others end, two at a time.
    "forget": (("advance", 0, 86_401.0), settled("c4")),
}
UNMET_STEPS: dict[tuple[State, Event], tuple[Any, ...]] = {
    ("unknown", "hold"): (("hold", 0, "c0", MUCH, 20.0, "m", True),),
    ("held", "extend"): (("extend", 1, "c0", MUCH),),
    ("swept", "extend"): (("extend", 1, "c0", MUCH),),
    ("held", "sweep"): (("late sweep", 1, "c0"),),
    ("unknown", "settle"): (("settle", 0, "c0", Amount(USD, 1, 1), "m", 82_800.0),),
}


@pytest.mark.parametrize(
    ("state", "event", "met"),
    [
        (*pair, met)
        for pair, row in TRANSITIONS.items()
        for met in ((True, False) if row.needs is not None else (True,))
    ],
)
def test_every_row_is_what_the_scripts_do(
    url: str, tmp_path: Path, state: State, event: Event, met: bool
) -> None:
    """Each pair of a state and an event is reached, whether or not what it needs is so, and both go on alike from there."""
    schedule = [*WAYS[state], *(STEPS[event] if met else UNMET_STEPS[state, event])]
    # What was booked, and where, shows in how it is taken back.
    after = [
        ("extend", 0, "c0", Amount(USD, 1, 0)),
        ("advance", 0, 43_200.0),
        settled("c0", 9),
        held("c0"),
    ]
    model = asyncio.run(run_both(url, tmp_path, schedule))
    assert (state, event, met) in model.seen
    asyncio.run(run_both(url, tmp_path, [*schedule, *after]))


SCENES: dict[str, tuple[Any, ...]] = {
    "a minute later": (
        held("c0"),
        ("advance", 0, 61.0),
        held("c1"),
        ("extend", 0, "c0", Amount(USD, 1, 0)),
        settled("c0"),
    ),
    "extended over the edges of a minute, an hour and a day": (
        *(
            held("c0", 3),
            ("extend", 0, "c0", Amount(USD, 1, 0)),
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(2 * USD, 1, 0)),
        ),
        *(
            ("advance", 0, 19.0),
            ("extend", 1, "c0", Amount(USD, 1, 0)),
            ("renew", 0, "c0", 172_800.0),
            ("advance", 0, 61.0),
        ),
        *(
            ("extend", 0, "c0", Amount(USD, 0, 0)),
            ("advance", 0, 3_600.0),
            ("extend", 0, "c0", Amount(2 * USD, 3, 0)),
        ),
        *(("advance", 0, 43_200.0), ("extend", 0, "c0", Amount(4 * USD, 2, 0)), settled("c0", 12)),
    ),
    "extended, and settled for less than was held first": (
        *(
            held("c0", 3),
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(9 * USD, 1, 0)),
            settled("c0", 2),
            held("c1", 20),
        ),
    ),
    "extended, and settled for more than was held": (
        *(
            held("c0", 3),
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(2 * USD, 1, 0)),
            settled("c0", 9),
            held("c1", 20),
        ),
    ),
    "extended, and released": (
        *(
            held("c0", 3),
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(2 * USD, 1, 0)),
            ("release", 1, "c0", "m"),
        ),
        held("c1", 20),
    ),
    "extended, swept, extended again and settled": (
        *(
            held("c0", 3, 20.0),
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(2 * USD, 1, 0)),
            ("advance", 0, 19.5),
        ),
        *(
            ("sweep", 1),
            ("advance", 0, 40.0),
            ("extend", 0, "c0", Amount(4 * USD, 1, 0)),
            settled("c0", 7),
        ),
    ),
    "extended into a window that is full": (
        *(
            held("c0", 3),
            ("advance", 0, 1.0),
            held("c1", 12),
            held("c2", 8),
            ("extend", 0, "c0", Amount(USD, 1, 0)),
        ),
        *(settled("c1", 1), ("extend", 0, "c0", Amount(USD, 1, 0)), settled("c0", 5)),
    ),
    "a limit that is new where a hold was extended": (
        *(
            ("limits", 0, P, ()),
            held("c0", 3),
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(USD, 1, 0)),
        ),
        *(("limits", 0, P, EDITS[0]), settled("c0", 4)),
    ),
    "free calls are forgotten first": (
        *(
            ("hold", 0, "c0", Amount(0, 0, 1), 90.0, "m", True),
            ("settle", 0, "c0", Amount(0, 0, 1), "m", None),
        ),
        *(
            held("c1"),
            ("settle", 0, "c1", Amount(0, 0, 1), "m", None),
            ("advance", 0, 7_200.0),
            settled("c2"),
            held("c0"),
        ),
        *(
            ("advance", 0, 0.5),
            settled("c3"),
            ("settle", 1, "c0", Amount(0, 0, 1), "m", 7_201.0),
            held("c0"),
            held("c1"),
        ),
    ),
    "the edge of a minute": (
        held("c0"),
        ("advance", 0, 1.0),
        held("c1"),
        ("release", 1, "c0", "m"),
        settled("c1"),
    ),
    "the clock goes back over an edge": (
        *(
            ("advance", 0, 1.0),
            held("c0"),
            ("advance", 0, -1.0),
            held("c1"),
            settled("c0"),
            ("advance", 0, 61.0),
        ),
        *(("advance", 0, -61.0), held("c2"), settled("c1")),
    ),
    "swept the day after": (
        *(
            held("c0"),
            held("c1"),
            ("advance", 0, 86_400.0),
            ("sweep", 0),
            ("advance", 0, 61.0),
            ("sweep", 1),
        ),
        *(settled("c0"), ("release", 1, "c1", "m")),
    ),
    "the end of a silence": (
        *(
            held("c0"),
            ("advance", 0, 200.0),
            ("sweep", 0),
            *(("advance", 0, 19.0), ("sweep", 0)) * 3,
        ),
        *(("advance", 0, 3.0), ("sweep", 0)),
    ),
    "a silence that is none": (held("c0", 1, 20.0), ("advance", 0, 30.0), ("sweep", 0)),
    "renewed in a silence's grace": (
        *(held("c0"), held("c1"), ("advance", 0, 200.0), ("sweep", 0), ("renew", 2, "c0", 60.0)),
        *(*(("advance", 0, 19.0), ("renew", 2, "c0", 60.0)) * 3, ("advance", 0, 3.0), ("sweep", 0)),
    ),
    "a limit lowered below what is under way": (
        *(
            held("c0"),
            held("c1"),
            ("limits", 0, P, EDITS[1]),
            ("extend", 0, "c0", Amount(USD, 0, 0)),
            held("c2"),
        ),
        *(settled("c0"), settled("c1"), held("c2")),
    ),
    "limits away and back": (
        *(
            held("c0"),
            ("limits", 0, P, ()),
            held("c1"),
            settled("c0"),
            ("limits", 0, P, EDITS[0]),
            settled("c1", 7),
        ),
    ),
    "a grant ends with its window": (
        *(
            ("grant", 0, P, "usd", 20),
            ("hold", 0, "c0", MUCH, 90.0, "m", True),
            ("limits", 0, P, EDITS[1]),
        ),
        *(
            ("advance", 0, 1.0),
            ("extend", 0, "c0", Amount(20 * USD, 0, 0)),
            ("advance", 0, 43_200.0),
            held("c1", 30),
        ),
    ),
    "forgotten two at a time, and held again": (
        *(
            settled("c0"),
            settled("c1"),
            ("advance", 0, 0.5),
            settled("c2"),
            ("advance", 0, 86_400.0),
            settled("c3"),
        ),
        *(
            ("advance", 0, 0.5),
            settled("c4"),
            ("advance", 0, 0.5),
            settled("c5"),
            held("c0"),
            held("c2"),
            settled("c0"),
        ),
    ),
    "a day to the millisecond": (
        *(
            settled("c0"),
            ("advance", 0, 86_400.0),
            settled("c3"),
            held("c0"),
            ("advance", 0, 0.001),
            settled("c4"),
        ),
        held("c0"),
    ),
    "projects and tokens": (
        *(
            held("c0", 1),
            held("c2", 2),
            held("c3", 3),
            held("c4", 4, 20.0),
            ("limits", 0, ONE, ("4 usd/day",)),
            held("c1"),
        ),
        *(
            *SWEEP,
            settled("c3"),
            settled("c4"),
            settled("c2"),
            held("c1"),
            ("release", 1, "c0", "m"),
        ),
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_scenes(url: str, tmp_path: Path, scene: str) -> None:
    """What random schedules come to seldom."""
    asyncio.run(run_both(url, tmp_path, SCENES[scene]))


def test_the_table_has_every_pair() -> None:
    """Only what has ended can be forgotten; every other pair is there, and every answer of it can be told from the others by the
    script's reply."""
    pairs = {(state, event) for state in get_args(State) for event in get_args(Event)}
    assert pairs - set(TRANSITIONS) == {("unknown", "forget"), ("held", "forget")}
    assert set(CODES) == set(get_args(State))
    for event in get_args(Event):
        rows = {state: row for (state, of), row in TRANSITIONS.items() if of == event}
        said = answers(event)
        assert {said[CODES[state]] for state in rows} == {row.answer for row in rows.values()}
        assert len(said) == len(rows) + sum(row.needs is not None for row in rows.values())


def test_the_table_keeps_count() -> None:
    """A call is under way exactly while it is held; it is in the sums exactly while it is charged; the records of a call are one
    a sweep and one an end."""
    for (state, event), row in TRANSITIONS.items():
        assert row.under_way == (row.then == "held") - (state == "held"), (state, event)
        charged = row.counters in ("replace", "charge") or event == "sweep"
        booked = {"book": state in ("unknown", "held"), "rebook": state == "swept"}
        assert booked.get(row.sums, False) == (
            charged and row.answer not in ("nothing", "duplicate")
        ), (state, event)
        assert (row.record == "sweep") == (row.then == "swept" != state), (state, event)
        assert (row.record in ("hold", "late", "no_hold")) == (
            row.answer in ("hold", "late", "no_hold") or row.sums == "unbook"
        )
        assert row.needs is None or row.needs in UNMET


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(estimates=st.lists(st.integers(1, 15), min_size=1, max_size=40), limit=st.integers(1, 60))
def test_holds_at_the_same_time_never_pass_a_limit(
    url: str, tmp_path: Path, estimates: list[int], limit: int
) -> None:
    """However many gateways ask at once, what they were given fits, and what was refused did not."""

    async def run() -> None:
        async with store(url, tmp_path) as redis:
            ledgers = [Ledger(redis, clock=RedisClock.LUA) for _ in range(GATEWAYS)]
            await ledgers[0].set_limits(P, parse_limits([f"{limit} usd/day"]))
            results = await asyncio.gather(
                *(
                    ledgers[n % GATEWAYS].hold(f"c{n}", SCOPES, Amount(usd * USD))
                    for n, usd in enumerate(estimates)
                )
            )
            held = sum(
                usd
                for usd, result in zip(estimates, results, strict=True)
                if isinstance(result, Held)
            )
            refused = [
                usd
                for usd, result in zip(estimates, results, strict=True)
                if not isinstance(result, Held)
            ]
            assert held <= limit
            assert all(held + usd > limit for usd in refused)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def store(url: str, directory: Path) -> AsyncIterator[Redis]:
    redis = connect(url, directory / "none")
    await redis.flushall()
    await RedisClock(redis).set(RedisClock.START + 59)
    try:
        yield redis
    finally:
        await redis.aclose()


@dataclass
class Both:
    redis: Redis
    clock: RedisClock
    ledgers: list[Ledger]
    model: Model


async def run_both(url: str, directory: Path, schedule: Sequence[Any]) -> Model:
    async with store(url, directory) as redis:
        clock = RedisClock(redis)
        await clock.set(RedisClock.START + 59)
        both = Both(
            redis,
            clock,
            [Ledger(redis, clock=RedisClock.LUA) for _ in range(GATEWAYS)],
            Model({}, clock.now),
        )
        # Every pair is counted from the start: what a limit set later begins with is another test's.
        for scope, first in FIRST.items():
            for edit in (EDITS[1], EDITS[0], first):
                await both.ledgers[0].set_limits(scope, parse_limits(edit))
            both.model.limits[scope] = parse_limits(first)
        both.model.limits[WORK] = parse_limits(SESSION_LIMITS)
        both.model.tick()
        for name, gateway, *rest in schedule:
            await step(name, gateway, rest, both)
            assert await told(both) == expected(both.model)
        return both.model


async def step(name: str, gateway: int, rest: list[Any], both: Both) -> None:
    """Does one thing to the ledger and to the model; both answer the same."""
    ledger, model = both.ledgers[gateway], both.model
    match name, rest:
        case "hold", [call, amount, deadline_s, name, priced]:
            # A hold that meets an overdue one sweeps in the background; swept first, the order is known.
            assert await ledger.sweep("acme") == model.sweep()
            await hold(ledger, model, call, amount, deadline_s, name, priced)
        case "extend", [call, amount]:
            await extend(ledger, model, call, amount)
        case "settle", [call, amount, name, ago]:
            tried_at = None if ago is None else model.now - ago
            line = {"call_id": call, "provider": "openai", "model": name, "cost_usd": str(amount)}
            line |= named(call)
            answer = await ledger.settle(call, WHOSE[call], amount, record=line, tried_at=tried_at)
            assert answer == model.apply(
                "settle", call, WHOSE[call], amount, record=line, tried_at=tried_at
            )
        case "release", [call, name]:
            line = {"call_id": call, "model": name, "cost_usd": "0"}
            released = await ledger.release(call, WHOSE[call], line)
            assert released == (
                model.apply("release", call, WHOSE[call], record=line) == "released"
            )
        case "renew", [call, deadline_s]:
            renewed = await ledger.renew(call, WHOSE[call], deadline_s)
            assert renewed == (
                model.apply("renew", call, WHOSE[call], deadline_s=deadline_s) == "renewed"
            )
        case "sweep", []:
            assert await ledger.sweep("acme") == model.sweep()
        case "late sweep", [call]:
            # Another gateway's, which had read that the call is overdue before something happened to it.
            text = await both.redis.hget("toll:{acme}:holds", call)
            scope_names = " ".join(scope.name for scope in WHOSE[call])
            stale = f"0 0 0 0\n{scope_names}\n" if text is None else text.decode()
            swept = await ledger.sweep_one("acme", call, stale)
            assert swept == (model.apply("sweep", call, WHOSE[call]) == "swept")
        case "crash", []:
            both.ledgers[gateway] = Ledger(both.redis, clock=RedisClock.LUA)
        case "advance", [seconds]:
            if model.last is not None and model.server + seconds >= model.last - 3_600:
                await both.clock.add(seconds)
                model.server = both.clock.now
        case "grant", [project, unit, amount]:
            amount = amount * USD if unit == "usd" else amount
            assert await ledger.grant(project, unit, amount, {}) == model.grant(
                project, unit, amount
            )
        case "limits", [scope, texts]:
            await ledger.set_limits(scope, parse_limits(texts))
            model.limits[scope] = parse_limits(texts)
            model.tick()
        case _:
            raise AssertionError(name)


async def hold(
    ledger: Ledger,
    model: Model,
    call: str,
    amount: Amount,
    deadline_s: float,
    name: str,
    priced: bool,
) -> None:
    scopes, carried = WHOSE[call], {"provider": "openai", "model": name, **named(call)}
    in_money = any(limit.unit == "usd" for scope in scopes for limit in model.limits[scope])
    blocking = model.blocking(scopes, amount)
    try:
        result = await ledger.hold(
            call, scopes, amount, deadline_s=deadline_s, carried=carried, priced=priced
        )
    except ValueError:
        assert model.apply("hold", call, scopes, amount) == "ended"
        return
    if isinstance(result, Unpriced):
        assert (call in model.calls, priced, in_money) == (False, False, True)
        model.tick()
        return
    assert priced or not in_money or model.calls.get(call) == "held"
    answer = model.apply("hold", call, scopes, amount, deadline_s=deadline_s, record=carried)
    assert answer == ("held" if isinstance(result, Held) else "short")
    if isinstance(result, Short):
        assert_short(result, blocking)


async def extend(ledger: Ledger, model: Model, call: str, amount: Amount) -> None:
    blocking = model.blocking(WHOSE[call], amount, more=True) if call in model.entries else []
    answer = model.apply("extend", call, WHOSE[call], amount)
    try:
        result = await ledger.extend(call, WHOSE[call], amount)
    except ValueError:
        assert answer == "nothing"
        return
    assert answer == ("held" if isinstance(result, Held) else "short")
    if isinstance(result, Short):
        assert_short(result, blocking)


def assert_short(result: Short, blocking: list[tuple[Scope, str, str, int]]) -> None:
    assert (result.scope, result.limit_text, result.unit, result.left) in blocking
    least = {
        unit: min((left for _, _, of, left in blocking if of == unit), default=None)
        for unit in ("usd", "tokens")
    }
    others = any(unit not in least for _, _, unit, _ in blocking)
    assert (result.left_usd, result.left_tokens, result.others) == (
        least["usd"],
        least["tokens"],
        others,
    )


def expected(model: Model) -> dict[str, Any]:
    """What Redis should hold."""
    limits = {}
    for scope, each in model.limits.items():
        if scope.kind == "session" and scope not in model.begun:
            continue
        for limit in each:
            used, held = model.taken(scope, limit)
            extra = model.extra(scope, limit)
            limits[scope.name, limit.text.replace("/session", "/total")] = (
                used,
                held,
                max(limit.amount + extra - used - held, 0),
                extra,
            )
    entries = {
        call: (ms(entry.created), entry.amount, " ".join(scope.name for scope in entry.scopes))
        for call, entry in model.entries.items()
    }
    swept = {call for call, state in model.calls.items() if state == "swept"}
    assert model.last is not None
    return {
        "clock": (ms(model.last), *map(ms, model.gap)),
        "limits": limits,
        "holds": {call: entry for call, entry in entries.items() if call not in swept},
        "deadlines": {call: ms(at) for call, at in model.deadlines.items()},
        "ended": {call: ms(at) for call, at in model.ended.items()},
        "swept": {call: (*entries[call], *(model.entries[call].booked or ())) for call in swept},
        "sums": {project: dict(sums) for project, sums in model.sums().items() if sums},
        "records": model.records,
    }


async def told(both: Both) -> dict[str, Any]:
    """What Redis holds: of the limits as they are shown, of all else as it is kept."""
    redis, ledger = both.redis, both.ledgers[0]
    shown = [*await ledger.show(IN_SESSION), *await ledger.show((Q, TWO))]
    found: Any = {
        name: f"toll:{{acme}}:{name}"
        for name in ("clock", "holds", "deadlines", "settled", "swept", "calls")
    }
    sums = {}
    for project in ("p", "q"):
        fields: Any = await redis.hgetall(names.usage_key("acme", project))
        # How many names a day has sums of is another test's.
        kept = {
            name.decode(): int(value)
            for name, value in fields.items()
            if int(value) and name.split(b" ")[2] != b"-"
        }
        sums |= {project: kept} if kept else {}
    clock: Any = await redis.get(found["clock"])
    held: Any = await redis.hgetall(found["holds"])
    swept: Any = await redis.hgetall(found["swept"])
    records: Any = await redis.xrange(found["calls"])
    return {
        "clock": tuple(map(int, clock.split())),
        "limits": {
            (state.scope.name, row.limit.text): (row.used, row.held, row.left, row.granted)
            for state in shown
            for row in state.limits
        },
        "holds": {call.decode(): kept_hold(text)[:3] for call, text in held.items()},
        "deadlines": {
            call.decode(): at
            for call, at in await redis.zrange(found["deadlines"], 0, -1, withscores=True)
        },
        "ended": {
            call.decode(): at
            for call, at in await redis.zrange(found["settled"], 0, -1, withscores=True)
        },
        "swept": {
            call.decode(): (*hold[:3], *booked(hold[3]))
            for call, hold in ((c, kept_hold(t)) for c, t in swept.items() if not c.endswith(b"+"))
        },
        "sums": sums,
        "records": [
            {name.decode(): value.decode() for name, value in fields.items()}
            for _, fields in records
        ],
    }


def kept_hold(text: bytes) -> tuple[int, Amount, str, str]:
    numbers, scopes, rest = text.decode().split("\n", 2)
    created, *amount = map(int, numbers.split())
    # What was held later shows in the limits, as what is held of each.
    return created, Amount(*amount), scopes, rest.partition(LATER)[0]


def booked(rest: str) -> tuple[int, str, str, str]:
    day, model, token, session = (*rest.split("\x1f"), "")[:4]
    return int(day), model, token, session


def ms(seconds: float) -> int:
    return round(seconds * 1000)
