"""What a call holds, what it is charged, and what it is told when it does not fit.

It is long because two truth tables, of charges and of refusals, stand in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.ledger.clock import Clock
from tests.support.redis_server import RedisServer

from tollhouse.budget.purse import Purse, scopes_of
from tollhouse.call import Amount, Attempt, Call, Identity, Project, RequestHead, Usage, new_call_id
from tollhouse.denial import Denial, error_headers
from tollhouse.ledger import names as keys
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import MAX_AMOUNT, parse_limit
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import connect
from tollhouse.prices.rates import PricedModel, PricedProvider, Rates
from tollhouse.prices.table import PriceTable
from tollhouse.providers.openai import OPENAI

HEAD = RequestHead("proxy", "1.1", "POST", "/v1/chat/completions", "https", None, None, ())
# USD for a million tokens: 1,000 and 10,000 nano-dollars a token.
PRICES = PriceTable({}, {"openai/priced": {"input": "1", "output": "10"}})
HELD = Amount(100 * 1_000 + 50 * 10_000, 150, 1)
FREE = Amount(0, 0, 1)
PROJECT = Scope("project", "acme", "proj_1")
TENANT = Scope("tenant", "acme", "acme")
CLAMPED = Project("proj_1", "acme", on_shortfall="clamp")


def a_call(path: str = "/v1/chat/completions", **more: Any) -> Call:
    """A call as it comes to the budget: 100 tokens in, at most 50 out."""
    call = Call(HEAD, new_call_id(), 0.0, 1_800_000_000.25)
    call.provider, call.host, call.path = OPENAI, "api.openai.com", path
    call.endpoint = OPENAI.endpoint("POST" if "models" not in path else "GET", path)
    call.identity = Identity("tok_1", "acme", ("proj_1",))
    call.project = Project("proj_1", "acme", ("10 usd/day",))
    call.model, call.input_estimate, call.output_cap, call.capped = "priced", 100, 50, True
    for name, value in more.items():
        setattr(call, name, value)
    return call


@pytest.fixture
def purse(ledger: Ledger, tmp_path: Path) -> Purse:
    return Purse(ledger, PRICES, Spool(tmp_path))


async def limit_to(ledger: Ledger, *limits: str, scope: Scope = PROJECT) -> None:
    """A project always has a limits record, if an empty one."""
    await ledger.set_limits(PROJECT, [])
    await ledger.set_limits(scope, [parse_limit(limit) for limit in limits])


async def state(ledger: Ledger, scope: Scope = PROJECT) -> dict[str, tuple[int, int]]:
    """Limit to what is used and what is held."""
    [shown] = await ledger.show([scope])
    return {limit.limit.text: (limit.used, limit.held) for limit in shown.limits}


# What is charged.

USAGE = Usage(input=90, output=7)
ENDINGS: Mapping[str, tuple[dict[str, Any], tuple[Amount, str] | None]] = {
    "refused before an attempt": ({}, None),
    "the breaker was open": ({"breaker": "open"}, None),
    "never connected": ({"attempts": [Attempt("upstream_unreachable", 1.0)]}, None),
    "left while it was still connecting": (
        {"ended": "client_gone", "attempts": [Attempt("cancelled", 1.0, True)]},
        None,
    ),
    "left while it was connecting once more": (
        {"ended": "client_gone", "attempts": [Attempt("500", 1.0), Attempt("cancelled", 1.0, True)]},
        (FREE, "none"),
    ),
    "left while an attempt was under way": (
        {"in_flight": True, "ended": "client_gone", "attempts": [Attempt("cancelled", 1.0, True)]},
        (HELD, "disconnect"),
    ),
    "left while the second attempt was under way": (
        {"in_flight": True, "ended": "client_gone", "attempts": [Attempt("500", 1.0), Attempt("cancelled", 1.0, True)]},
        (HELD, "disconnect"),
    ),
    "left between attempts": ({"ended": "client_gone", "attempts": [Attempt("500", 1.0)]}, (FREE, "none")),
    "only attempts without an answer": (
        {"attempts": [Attempt("upstream_timeout", 1.0, True)], "attempts_unknown": 1},
        (FREE, "none"),
    ),
    "an error status": ({"upstream_status": 400, "complete": True}, (FREE, "none")),
    "a refused key": ({"upstream_status": 401}, (FREE, "none")),
    "a redirect": ({"upstream_status": 302, "complete": True}, (FREE, "none")),
    "usage": (
        {"upstream_status": 200, "usage": USAGE, "complete": True},
        (Amount(90 * 1_000 + 7 * 10_000, 97, 1), "usage"),
    ),
    "more usage than was held": (
        {"upstream_status": 200, "usage": Usage(input=1_000, output=1_000), "complete": True},
        (Amount(11_000_000, 2_000, 1), "usage"),
    ),
    "usage, then cut": (
        {"upstream_status": 200, "usage": USAGE, "ended": "cut"},
        (Amount(160_000, 97, 1), "usage"),
    ),
    "usage that can't be true": (
        {"upstream_status": 200, "usage": Usage(input=10**30), "complete": True},
        (HELD, "hold"),
    ),
    "a whole answer without usage": ({"upstream_status": 200, "complete": True}, (HELD, "hold")),
    "cut": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "cut"},
        (Amount(150_000, 105, 1), "estimate"),
    ),
    "cut by a fault of ours": (
        {"upstream_status": 200, "stream": True, "output_seen": 5},
        (Amount(150_000, 105, 1), "estimate"),
    ),
    "left": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "client_gone"},
        (Amount(150_000, 105, 1), "disconnect"),
    ),
    "stopped": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "stopped"},
        (Amount(150_000, 105, 1), "disconnect"),
    ),
    "left, more seen than its cap": (
        {"upstream_status": 200, "stream": True, "output_seen": 70, "ended": "client_gone"},
        (Amount(600_000, 150, 1), "disconnect"),
    ),
    "left after a silence": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "client_gone", "silent_s": 0.2},
        (Amount(350_000, 125, 1), "disconnect"),
    ),
    "left after a long silence": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "client_gone", "silent_s": 60.0},
        (Amount(600_000, 150, 1), "disconnect"),
    ),
    "ended by the budget after a silence": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "budget", "silent_s": 0.2},
        (Amount(350_000, 125, 1), "estimate"),
    ),
    "cut after a silence": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "ended": "cut", "silent_s": 60.0},
        (Amount(150_000, 105, 1), "estimate"),
    ),
    "a whole stream without usage": (
        {"upstream_status": 200, "stream": True, "output_seen": 5, "complete": True},
        (HELD, "hold"),
    ),
    "a whole stream without usage, longer than its hold": (
        {"upstream_status": 200, "stream": True, "output_seen": 70, "complete": True, "capped": False},
        (Amount(800_000, 170, 1), "estimate"),
    ),
    "no stream, cut": ({"upstream_status": 200, "ended": "cut"}, (HELD, "estimate")),
    "no stream, left": ({"upstream_status": 200, "ended": "client_gone"}, (HELD, "disconnect")),
    "left, more seen than was held without a cap": (
        {"upstream_status": 200, "stream": True, "output_seen": 70, "ended": "client_gone", "capped": False},
        (Amount(800_000, 170, 1), "disconnect"),
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_each_ending_is_charged(ending: str) -> None:
    """One row for each way a call can end."""
    fields, charged = ENDINGS[ending]
    purse = Purse(None, PRICES, None)  # type: ignore[arg-type]
    assert purse.charge(a_call(estimate=HELD, **fields)) == charged


def test_a_free_endpoint_counts_as_a_request() -> None:
    """GET /v1/models holds and is charged one request and nothing else."""
    purse = Purse(None, PRICES, None)  # type: ignore[arg-type]
    call = a_call("/v1/models", upstream_status=200, complete=True)
    assert purse._charges.estimate(call) == FREE
    assert purse.charge(call) == (FREE, "none")


def test_a_served_model_without_a_price() -> None:
    """The price of the model that was asked for stands in."""
    purse = Purse(None, PRICES, None)  # type: ignore[arg-type]
    call = a_call(upstream_status=200, usage=USAGE, model_served="priced-2026-01-01", complete=True, estimate=HELD)
    assert purse.charge(call) == (Amount(160_000, 97, 1), "usage")


@pytest.mark.parametrize(
    ("limits", "unpriced", "held", "charged"),
    [
        (("5 requests/day",), "refuse", 0, 0),
        (("5 requests/day",), "dearest", 600_000, 160_000),
        (("10 usd/day",), "dearest", 600_000, 160_000),
    ],
    ids=["no money limit", "dearest", "dearest with a money limit"],
)
def test_a_model_without_a_price(limits: tuple[str, ...], unpriced: str, held: int, charged: int) -> None:
    """It costs nothing where no money is limited, or the dearest price by what it used."""
    purse = Purse(None, PRICES, None)  # type: ignore[arg-type]
    project = replace(Project("proj_1", "acme", limits), unpriced=unpriced)  # type: ignore[arg-type]
    call = a_call(model="unknown", project=project, upstream_status=200, usage=USAGE, complete=True)
    call.estimate = purse._charges.estimate(call)
    assert call.estimate == Amount(held, 150, 1)
    assert purse.charge(call) == (Amount(charged, 97, 1), "usage")


async def test_a_model_without_a_price_and_a_money_limit(purse: Purse, ledger: Ledger) -> None:
    """403, and nothing is held."""
    await limit_to(ledger, "10 usd/day")
    decision = await purse(a_call(model="unknown"), None)
    assert decision.denial is not None
    assert (decision.denial.code, decision.denial.status) == ("model_unpriced", 403)
    assert purse.held == {}
    assert await state(ledger) == {"10 usd/day": (0, 0)}


# Hold and settle.


async def test_hold_and_settle(purse: Purse, ledger: Ledger) -> None:
    """What was held is replaced by the cost, once, however often it is settled."""
    await limit_to(ledger, "10 usd/day", "5 requests/day")
    call = a_call()
    assert (await purse(call, None)).allowed
    assert call.estimate == HELD
    assert await state(ledger) == {"10 usd/day": (0, HELD.nano_usd), "5 requests/day": (0, 1)}
    call.charged = Amount(160_000, 97, 1)
    for _ in range(3):
        await purse.settle(call, {"call_id": call.id})
    assert await state(ledger) == {"10 usd/day": (160_000, 0), "5 requests/day": (1, 0)}
    assert purse.held == {}


async def test_a_call_that_never_left_gives_all_back(purse: Purse, ledger: Ledger) -> None:
    """The request count too, and no record is kept of it."""
    await limit_to(ledger, "10 usd/day", "5 requests/day")
    call = a_call()
    await purse(call, None)
    await purse.settle(call, {"call_id": call.id})
    assert await state(ledger) == {"10 usd/day": (0, 0), "5 requests/day": (0, 0)}


async def test_the_record_in_the_stream(purse: Purse, ledger: Ledger, redis: Redis) -> None:
    """The line, field by field: strings as they are, the rest as JSON that other systems can read."""
    await limit_to(ledger, "10 usd/day")
    call = a_call()
    await purse(call, None)
    call.charged = FREE
    await purse.settle(
        call, {"call_id": call.id, "tokens": {"input": 1}, "attempts": [], "ttft_ms": None, "stream": True, "n": 1.5}
    )
    [(_, found)] = await redis.xrange(keys.calls_key("acme"))
    record = {key.decode(): value.decode() for key, value in found.items()}
    assert (record["call_id"], record["settled_by"]) == (call.id, "hold")
    assert {key: json.loads(record[key]) for key in ("tokens", "attempts", "ttft_ms", "stream", "n")} == {
        "tokens": {"input": 1},
        "attempts": [],
        "ttft_ms": None,
        "stream": True,
        "n": 1.5,
    }


async def test_what_a_hold_carries_for_a_sweep(purse: Purse, ledger: Ledger, clock: Clock, redis: Redis) -> None:
    """A gateway that dies leaves enough to write the call's record from, its time in the line's own form."""
    await limit_to(ledger, "10 usd/day")
    call = a_call()
    await purse(call, None)
    await clock.add(20)
    await purse.renew()
    await clock.add(41)
    assert await ledger.sweep("acme") == 0, "it was renewed"
    await clock.add(20)
    assert await ledger.sweep("acme") == 1
    [(_, found)] = await redis.xrange(keys.calls_key("acme"))
    record = {key.decode(): value.decode() for key, value in found.items()}
    assert record["ts"] == "2027-01-15T08:00:00.250Z"
    assert (record["call_id"], record["project"], record["identity"], record["charged_by"]) == (
        call.id,
        "proj_1",
        "tok_1",
        "sweep",
    )


async def test_no_token_is_kept_of_a_model(purse: Purse, ledger: Ledger, clock: Clock, redis: Redis) -> None:
    """A workload that took its token for a model: what a sweep writes into the stream does not hold it."""
    await limit_to(ledger, "5 requests/day")
    call = a_call()
    call.model = f"gate_{'a' * 49}"
    await purse(call, None)
    for swept in (0, 0, 0, 1):
        await clock.add(20)
        assert await ledger.sweep("acme") == swept
    [(_, found)] = await redis.xrange(keys.calls_key("acme"))
    assert found[b"model"] == b"gate_[removed]"


async def test_every_hold_is_renewed(purse: Purse, ledger: Ledger, clock: Clock) -> None:
    """More than are sent at once."""
    await limit_to(ledger, "1000 concurrent")
    calls = [a_call() for _ in range(300)]
    for call in calls:
        assert (await purse(call, None)).allowed
    await clock.add(29)
    await purse.renew()
    await clock.add(59)
    assert await ledger.sweep("acme", 1_000) == 0
    await clock.add(2)
    assert await ledger.sweep("acme", 1_000) == 300


# Redis goes away.


async def test_no_hold_without_redis(tmp_path: Path) -> None:
    """`LedgerUnavailable` passes through, and nothing is remembered as held."""
    ledger = Ledger(connect(f"unix://{tmp_path}/nobody.sock", tmp_path))
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    call = a_call()
    with pytest.raises(LedgerUnavailable):
        await purse(call, None)
    assert (purse.held, call.estimate) == ({}, Amount(requests=0))
    await ledger.close()


async def test_a_settle_that_redis_missed_is_made_up_for(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Redis hangs at the settle: it raises nothing, and is told again until Redis has it, once."""
    redis = connect(redis_url, tmp_path)
    redis.connection_pool.connection_kwargs["socket_timeout"] = 0.5
    ledger = Ledger(redis)
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    await limit_to(ledger, "10 usd/day")
    left, never_left = a_call(), a_call()
    for call in (left, never_left):
        await purse(call, None)
    left.charged = Amount(160_000, 97, 1)
    redis_server.pause()
    for call in (left, never_left):
        await purse.settle(call, {"call_id": call.id})
    assert purse.held == {}
    await purse.retry()
    redis_server.resume()
    redis.connection_pool.connection_kwargs["socket_timeout"] = 2
    for _ in range(2):
        await purse.retry()
    assert await state(ledger) == {"10 usd/day": (160_000, 0)}
    await ledger.close()


# What does not fit.


async def refused(purse: Purse, call: Call) -> tuple[Denial, dict[str, str]]:
    """The refusal and the headers that decide what an SDK does next."""
    decision = await purse(call, None)
    assert decision.denial is not None
    assert call.id not in purse.held
    assert call.estimate == Amount(requests=0)
    headers = dict(error_headers(decision.denial, call.id))
    kept = ("retry-after", "x-should-retry", "x-tollhouse-resets-at")
    return decision.denial, {name: headers[name] for name in kept if name in headers}


# Sunday 2026-08-30 12:00:00.25 UTC, and the ends of its windows.
NOW, MINUTE, HOUR, DAY = 1788091200.25, 1788091260, 1788094800, 1788134400


@pytest.mark.parametrize(
    ("limit", "code", "status", "headers"),
    [
        ("0.001 usd/minute", "budget_exceeded", 402, {"x-should-retry": "false", "x-tollhouse-resets-at": str(MINUTE)}),
        ("0.001 usd/day", "budget_exceeded", 402, {"x-should-retry": "false", "x-tollhouse-resets-at": str(DAY)}),
        ("0.001 usd/total", "budget_exceeded", 402, {"x-should-retry": "false"}),
        ("0.0005 usd/day", "budget_exceeded", 402, {"x-should-retry": "false"}),
        ("200 tokens/minute", "rate_limited", 429, {"retry-after": "60", "x-tollhouse-resets-at": str(MINUTE)}),
        ("200 tokens/hour", "rate_limited", 429, {"x-should-retry": "false", "x-tollhouse-resets-at": str(HOUR)}),
        ("200 tokens/total", "rate_limited", 429, {"x-should-retry": "false"}),
        ("149 tokens/minute", "rate_limited", 429, {"x-should-retry": "false"}),
        ("1 requests/minute", "rate_limited", 429, {"retry-after": "60", "x-tollhouse-resets-at": str(MINUTE)}),
        ("1 requests/day", "rate_limited", 429, {"x-should-retry": "false", "x-tollhouse-resets-at": str(DAY)}),
        ("1 concurrent", "concurrency_limited", 429, {}),
        ("0 concurrent", "concurrency_limited", 429, {"x-should-retry": "false"}),
    ],
)
async def test_refusals(
    purse: Purse, ledger: Ledger, clock: Clock, limit: str, code: str, status: int, headers: dict[str, str]
) -> None:
    """The second call does not fit, or one alone is more than the limit; nothing of it is held."""
    await clock.set(NOW)
    await limit_to(ledger, limit)
    if limit not in ("0.0005 usd/day", "149 tokens/minute", "0 concurrent"):
        assert (await purse(a_call(), None)).allowed
    before = await state(ledger)
    denial, told = await refused(purse, a_call())
    assert (denial.code, denial.status, told) == (code, status, headers)
    assert limit in denial.why
    assert await state(ledger) == before


async def test_a_wait_is_never_told_shorter_than_it_is(purse: Purse, ledger: Ledger, clock: Clock) -> None:
    """Rounded up: who comes back a moment too early is refused again."""
    await clock.set(MINUTE - 30.6)
    await limit_to(ledger, "1 requests/minute")
    await purse(a_call(), None)
    assert (await refused(purse, a_call()))[1]["retry-after"] == "31"
    await clock.set(MINUTE - 0.4)
    assert (await refused(purse, a_call()))[1]["retry-after"] == "1"


async def test_a_refusal_says_what_the_call_may_cost(purse: Purse, ledger: Ledger) -> None:
    """To the nano-dollar, which `6` decimals would show as nothing."""
    await limit_to(ledger, "0 usd/day")
    call = a_call(input_estimate=1, output_cap=0)
    decision = await purse(call, None)
    assert decision.denial is not None
    assert "this call may cost up to 0.000001 USD" in decision.denial.why


async def test_a_tenants_numbers_are_not_told(purse: Purse, ledger: Ledger) -> None:
    """Its limit is shared with other projects: neither its size nor what is left of it is in the answer."""
    await limit_to(ledger, "0.00123 usd/day", scope=TENANT)
    assert (await purse(a_call(), None)).allowed
    assert (await purse(a_call(), None)).allowed
    denial, told = await refused(purse, a_call())
    assert denial.code == "budget_exceeded"
    assert denial.why == "A limit of tenant acme has not enough left; this call may cost up to 0.0006 USD."
    assert told.keys() == {"x-should-retry", "x-tollhouse-resets-at"}


async def test_a_cap_beyond_all_counting_is_only_dear(purse: Purse, ledger: Ledger) -> None:
    """A cap that no ledger could add up is more than any limit, and no fault of ours."""
    await limit_to(ledger, "9000000 usd/total")
    denial, _ = await refused(purse, a_call(output_cap=128 * (2**31 - 1) * 10**6))
    assert denial.code == "budget_exceeded"


def test_an_estimate_is_an_amount_that_the_ledger_takes() -> None:
    """The largest is the largest limit."""
    purse = Purse(None, PRICES, None)  # type: ignore[arg-type]
    assert purse._charges.estimate(a_call(output_cap=10**30)) == Amount(MAX_AMOUNT, MAX_AMOUNT, 1)


async def test_a_prediction_is_held_for_as_output(purse: Purse, ledger: Ledger) -> None:
    """Beside the cap, by its own price; clamping lowers the cap alone, by what the prediction may cost."""
    await limit_to(ledger, "0.0013 usd/day")
    call = a_call(predicted=40)
    assert (await purse(call, None)).allowed
    assert call.estimate == Amount(100 * 1_000 + 90 * 10_000, 190, 1)
    await purse.settle(call, {})
    call = a_call(predicted=40, body=b'{"max_tokens":100}', output_cap=100, project=CLAMPED)
    assert (await purse(call, None)).allowed
    assert (call.clamped, call.output_cap) == (80, 80)
    assert call.estimate == Amount(100 * 1_000 + 120 * 10_000, 220, 1)


async def test_a_stream_without_a_cap_does_not_grow_at_worst(purse: Purse, ledger: Ledger) -> None:
    """What it can come to is held from the start, and is the most that is charged when it breaks off."""
    await limit_to(ledger, "10 usd/day")
    typical = a_call(stream=True, capped=False)
    await purse(typical, None)
    worst = a_call(stream=True, capped=False, project=replace(CLAMPED, estimate="worst"))
    await purse(worst, None)
    assert list(purse.growing) == [typical.id]
    worst.upstream_status, worst.ended, worst.output_seen = 200, "cut", 70
    assert purse.charge(worst) == (HELD, "estimate")


def test_the_price_held_is_that_of_the_calls_time() -> None:
    """As the charge is: a price that falls between the two would be charged above the hold."""
    rates = [Rates(input=rate * 9 * 10**9, output=9 * 10**9) for rate in (2, 1)]
    model = PricedModel(("in", ("timed",)), ((None, rates[0]), (("from", 1_800_000_001), rates[1])), ())
    table = PriceTable({"openai": PricedProvider((), (model,))}, clock=lambda: 1_800_000_002.0)
    purse = Purse(None, table, None)  # type: ignore[arg-type]
    call = a_call(model="timed", usage=Usage(100, output=50), upstream_status=200, complete=True)
    assert purse._charges.estimate(call) == Amount(100 * 2_000 + 50 * 1_000, 150, 1)
    assert purse.charge(call) == (purse._charges.estimate(call), "usage")


def test_at_worst_the_providers_settings_choose_the_tier() -> None:
    """The dearest there is, unless the standard one is asked for by name."""
    rates = [Rates(input=rate * 9 * 10**9, output=9 * 10**9) for rate in (1, 3)]
    model = PricedModel(("in", ("tiered",)), ((None, rates[0]),), (("priority", None, rates[1]),))
    purse = Purse(None, PriceTable({"openai": PricedProvider((), (model,))}), None)  # type: ignore[arg-type]
    worst = replace(CLAMPED, estimate="worst")
    for project, tier, rate in ((CLAMPED, "", 1), (worst, "", 3), (worst, "auto", 3), (worst, "default", 1)):
        call = a_call(model="tiered", project=project, service_tier=tier)
        assert purse._charges.estimate(call).nano_usd == 100 * rate * 1_000 + 50 * 1_000


def test_whose_limits_are_asked() -> None:
    """Tenant, project and token, all of the project's tenant."""
    assert scopes_of(a_call()) == (TENANT, PROJECT, Scope("token", "acme", "tok_1"))
