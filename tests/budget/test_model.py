"""Random schedules of several gateways, through the real scripts and through `model`, compared after each step."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from tests.budget.clock import Clock
from tests.budget.model import Model

from tollhouse.budget.ledger import Held, Ledger, Scope
from tollhouse.budget.limits import parse_limits
from tollhouse.budget.store import connect
from tollhouse.call import Amount

PROJECT = Scope("project", "acme", "p")
SCOPES = (Scope("tenant", "acme", "acme"), PROJECT, Scope("token", "acme", "tok_1"))
GATEWAYS = 3
EDITS = (
    ("20 usd/minute", "30 usd/day", "40 tokens/hour", "3 concurrent"),
    ("25 usd/minute", "60 usd/day", "9 tokens/hour", "1 concurrent"),
    (),
    ("60 usd/day",),
)
TENANT_LIMITS = ("45 usd/total", "12 requests/hour")

calls = st.sampled_from([f"c{n}" for n in range(6)])
gateways = st.integers(0, GATEWAYS - 1)
amounts = st.builds(Amount, st.integers(0, 12).map(lambda usd: usd * 10**9), st.integers(0, 10), st.integers(0, 2))
deadlines = st.sampled_from([20.0, 60.0, 90.0])
# A minute's edge is one second away at first; a silence of more than 30 s may have been an outage.
steps = st.sampled_from([0.5, 1.0, 19.0, 29.0, 61.0, 200.0, 3_600.0, 86_400.0])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), gateways, calls, amounts, deadlines),
        st.tuples(st.just("settle"), gateways, calls, amounts),
        st.tuples(st.just("extend"), gateways, calls, amounts),
        st.tuples(st.just("release"), gateways, calls),
        st.tuples(st.just("renew"), gateways, calls, deadlines),
        st.tuples(st.just("sweep"), gateways),
        st.tuples(st.just("advance"), gateways, steps),
        st.tuples(st.just("limits"), gateways, st.sampled_from(EDITS)),
        st.tuples(st.just("grant"), gateways, st.sampled_from(["usd", "tokens"]), st.integers(1, 20)),
    ),
    max_size=30,
)


@pytest.fixture(params=["embedded", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(schedule=operations)
def test_the_scripts_do_what_the_model_does(url: str, tmp_path: Path, schedule: list[Any]) -> None:
    """Whatever happens in whatever order, every limit's used and held, every answer and every sum are the model's."""
    asyncio.run(compare(url, tmp_path, schedule))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(estimates=st.lists(st.integers(1, 15), min_size=1, max_size=40), limit=st.integers(1, 60))
def test_holds_at_the_same_time_never_pass_a_limit(url: str, tmp_path: Path, estimates: list[int], limit: int) -> None:
    """However many gateways ask at once, what they were given fits, and what was refused did not."""

    async def run() -> None:
        async with store(url, tmp_path) as redis:
            ledgers = [Ledger(redis, clock=Clock.LUA) for _ in range(GATEWAYS)]
            await ledgers[0].set_limits(PROJECT, parse_limits([f"{limit} usd/day"]))
            results = await asyncio.gather(
                *(ledgers[n % GATEWAYS].hold(f"c{n}", SCOPES, Amount(usd * 10**9)) for n, usd in enumerate(estimates))
            )
            held = sum(usd for usd, result in zip(estimates, results, strict=True) if isinstance(result, Held))
            refused = [usd for usd, result in zip(estimates, results, strict=True) if not isinstance(result, Held)]
            assert held <= limit
            assert all(held + usd > limit for usd in refused)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def store(url: str, directory: Path) -> Any:
    redis = connect(url, directory / "none")
    await redis.flushall()
    await Clock(redis).set(Clock.START + 59)
    try:
        yield redis
    finally:
        await redis.aclose()


async def compare(url: str, directory: Path, schedule: list[Any]) -> None:
    async with store(url, directory) as redis:
        await run_both(redis, schedule)


async def run_both(redis: Redis, schedule: list[Any]) -> None:
    clock = Clock(redis)
    await clock.set(Clock.START + 59)
    ledgers = [Ledger(redis, clock=Clock.LUA) for _ in range(GATEWAYS)]
    model = Model({"project": parse_limits(EDITS[0]), "tenant": parse_limits(TENANT_LIMITS)}, clock.now)
    # Every pair is counted from the start: what a limit set later begins with is another test's.
    for edit in (EDITS[1], EDITS[0]):
        await ledgers[0].set_limits(PROJECT, parse_limits(edit))
    await ledgers[0].set_limits(SCOPES[0], parse_limits(TENANT_LIMITS))
    model.tick()
    for name, gateway, *rest in schedule:
        await step(name, rest, ledgers[gateway], model, clock)
        await assert_equal(ledgers[gateway], model)


async def step(name: str, rest: list[Any], ledger: Ledger, model: Model, clock: Clock) -> None:
    match name, rest:
        case "hold", [call, amount, deadline_s]:
            # A hold that meets an overdue one sweeps in the background; swept first, the order is known.
            assert await ledger.sweep("acme") == model.sweep()
            assert await hold(ledger, call, amount, deadline_s) == model.hold(call, amount, deadline_s)
        case "extend", [call, amount]:
            assert await extend(ledger, call, amount) == model.extend(call, amount)
        case "settle", [call, amount]:
            settled = await ledger.settle(call, SCOPES, amount, record={"call_id": call, "model": "m"})
            assert settled.by == model.settle(call, amount)
        case "release", [call]:
            assert await ledger.release(call, SCOPES) == model.release(call)
        case "renew", [call, deadline_s]:
            assert await ledger.renew(call, SCOPES, deadline_s) == model.renew(call, deadline_s)
        case "sweep", []:
            assert await ledger.sweep("acme") == model.sweep()
        case "advance", [seconds]:
            await clock.add(seconds)
            model.now = clock.now
        case "grant", [unit, amount]:
            amount = amount * 10**9 if unit == "usd" else amount
            assert await ledger.grant(PROJECT, unit, amount, {}) == model.grant(unit, amount)
        case "limits", [texts]:
            await ledger.set_limits(PROJECT, parse_limits(texts))
            model.limits["project"] = parse_limits(texts)
            model.tick()


async def hold(ledger: Ledger, call: str, amount: Amount, deadline_s: float) -> str:
    try:
        result = await ledger.hold(call, SCOPES, amount, deadline_s=deadline_s, carried={"model": "m"})
    except ValueError:
        return "ended"
    return "held" if isinstance(result, Held) else "short"


async def extend(ledger: Ledger, call: str, amount: Amount) -> str:
    try:
        result = await ledger.extend(call, SCOPES, amount)
    except ValueError:
        return "nothing"
    return "held" if isinstance(result, Held) else "short"


async def assert_equal(ledger: Ledger, model: Model) -> None:
    tenant, project = await ledger.show(SCOPES[:2])
    for state, limits in ((tenant, model.limits["tenant"]), (project, model.limits["project"])):
        scope = state.scope.kind
        shown = {row.limit.text: (row.used, row.held, row.left) for row in state.limits}
        expected = {}
        for limit in limits:
            used, held = model.taken(limit)
            expected[limit.text] = (used, held, max(limit.amount + model.extra(scope, limit) - used - held, 0))
        assert shown == expected
    charged = model.charged()
    for by in ("day", "model", "token"):
        rows = await ledger.usage("acme", "p", by=by)  # type: ignore[arg-type]
        total = Amount(sum(r.nano_usd for r in rows), sum(r.tokens for r in rows), sum(r.requests for r in rows))
        assert total == charged
