"""What a call holds, how that is settled, and what it is told when it does not fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.budget.priced import FREE, HELD, LIMITED, PRICES, PROJECT, TENANT, a_call
from tests.ledger.clock import RedisClock
from tests.support.redis_server import RedisServer
from tests.support.values import replace

from tollhouse.book import Book
from tollhouse.budget.afterwards import Afterwards
from tollhouse.budget.charges import Charges
from tollhouse.budget.hold import scopes_of
from tollhouse.budget.purse import Purse
from tollhouse.call import NOTHING, Amount, Covered, Pending, Requested
from tollhouse.denial import Denial, Refused, error_headers
from tollhouse.families.meters import Later
from tollhouse.families.operation import Operation
from tollhouse.families.units import Charge, Units
from tollhouse.ledger import names
from tollhouse.ledger.hold_reply import Short
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limit
from tollhouse.ledger.names import session_scope
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import connect
from tollhouse.outcome import End, LateUsage, Outcome
from tollhouse.parties import Project

CLAMPED = Project("proj_1", "acme", on_shortfall="clamp")
WORST = replace(CLAMPED, estimate="worst")
USED = Amount(160_000, 97, 1)


class Client:
    """The client's side, which a stream that is not covered any more is ended by."""

    def refuse(self, denial: Denial) -> None:
        raise AssertionError(denial)


async def held(purse: Purse, call: Requested) -> Covered:
    return await purse(call, Client())


@pytest.fixture
def purse(ledger: Ledger, tmp_path: Path) -> Purse:
    return Purse(ledger, PRICES, Spool(tmp_path))


def a_job(project: Project) -> Requested:
    """One that is held at five dollars."""
    call = a_call(project=project)
    provider = replace(call.admitted.provider, job_hold=5_000_000_000)
    job = Operation("race", "job", reads_body=True)
    return replace(call, admitted=replace(call.admitted, provider=provider, operation=job))


async def limit_to(ledger: Ledger, *limits: str, scope: Scope = PROJECT) -> None:
    """A project always has a limits record, if an empty one."""
    await ledger.set_limits(PROJECT, [])
    await ledger.set_limits(scope, [parse_limit(limit) for limit in limits])


async def state(ledger: Ledger, scope: Scope = PROJECT) -> dict[str, tuple[int, int]]:
    """Limit to what is used and what is held."""
    [shown] = await ledger.show([scope])
    return {limit.limit.text: (limit.used, limit.held) for limit in shown.limits}


# Hold and settle.


async def test_a_model_without_a_price_and_a_money_limit(purse: Purse, ledger: Ledger) -> None:
    """403, and nothing is held."""
    await limit_to(ledger, "10 usd/day")
    denial, _ = await refused(purse, a_call(model="unknown"))
    assert (denial.code, denial.status) == ("model_unpriced", 403)
    assert purse.held == {}
    assert await state(ledger) == {"10 usd/day": (0, 0)}


class Noticed:
    """Who hears of what an operator can do something about."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def short(self, short: Short, project: Project) -> None:
        self.heard.append((short.limit_text, project.id))

    def unpriced(self, requested: Requested) -> None:
        self.heard.append((requested.asked.model, requested.admitted.project.id))


async def test_what_an_operator_hears_of(purse: Purse, ledger: Ledger) -> None:
    """A limit without room, and a model without a price whether its call is refused or not; nothing of a call that fits."""
    purse.notices = noticed = Noticed()
    await limit_to(ledger, "1 requests/day")
    await held(purse, a_call(model="unknown"))
    assert noticed.heard == [("unknown", PROJECT.id)]
    await refused(purse, a_call())
    assert noticed.heard[1:] == [("1 requests/day", PROJECT.id)]
    await limit_to(ledger, "10 usd/day")
    await held(purse, a_call())
    assert len(noticed.heard) == 2
    await refused(purse, a_call(model="unknown"))
    assert noticed.heard[2:] == [("unknown", PROJECT.id)]


async def test_hold_and_settle(purse: Purse, ledger: Ledger) -> None:
    """What was held is replaced by the cost, once, however often it is settled."""
    await limit_to(ledger, "10 usd/day", "5 requests/day")
    covered = await held(purse, a_call())
    assert covered.hold.amount == HELD
    assert await state(ledger) == {"10 usd/day": (0, HELD.nano_usd), "5 requests/day": (0, 1)}
    call_id = covered.requested.admitted.id
    for _ in range(3):
        await purse.settle(call_id, USED, {"call_id": call_id})
    assert await state(ledger) == {"10 usd/day": (160_000, 0), "5 requests/day": (1, 0)}
    assert purse.held == {}


async def test_a_call_that_never_left_gives_all_back(purse: Purse, ledger: Ledger) -> None:
    """The request count too, and no record is kept of it."""
    await limit_to(ledger, "10 usd/day", "5 requests/day")
    call = a_call()
    await held(purse, call)
    await purse.settle(call.admitted.id, NOTHING, {"call_id": call.admitted.id})
    assert await state(ledger) == {"10 usd/day": (0, 0), "5 requests/day": (0, 0)}


async def test_the_record_in_the_stream(purse: Purse, ledger: Ledger, redis: Redis) -> None:
    """The line, field by field: strings as they are, the rest as JSON that other systems can read."""
    await limit_to(ledger, "10 usd/day")
    call = a_call()
    await held(purse, call)
    line = {
        "call_id": call.admitted.id,
        "tokens": {"input": 1},
        "attempts": [],
        "ttft_ms": None,
        "stream": True,
    }
    await purse.settle(call.admitted.id, FREE, line | {"n": 1.5})
    [(_, found)] = await redis.xrange(names.calls_key("acme"))
    record = {key.decode(): value.decode() for key, value in found.items()}
    assert (record["call_id"], record["settled_by"]) == (call.admitted.id, "hold")
    assert {
        key: json.loads(record[key]) for key in ("tokens", "attempts", "ttft_ms", "stream", "n")
    } == {
        "tokens": {"input": 1},
        "attempts": [],
        "ttft_ms": None,
        "stream": True,
        "n": 1.5,
    }


async def test_what_a_hold_carries_for_a_sweep(
    purse: Purse, ledger: Ledger, clock: RedisClock, redis: Redis
) -> None:
    """A gateway that dies leaves enough to write the call's record from, its time in the line's own form."""
    await limit_to(ledger, "10 usd/day")
    call = a_call()
    await held(purse, call)
    await clock.add(20)
    await purse.renew()
    await clock.add(41)
    assert await ledger.sweep("acme") == 0, "it was renewed"
    await clock.add(20)
    assert await ledger.sweep("acme") == 1
    [(_, found)] = await redis.xrange(names.calls_key("acme"))
    record = {key.decode(): value.decode() for key, value in found.items()}
    assert record["ts"] == "2027-01-15T08:00:00.250Z"
    assert (record["call_id"], record["project"], record["identity"], record["charged_by"]) == (
        call.admitted.id,
        "proj_1",
        "tok_1",
        "sweep",
    )


async def test_no_token_is_kept_of_a_model(
    purse: Purse, ledger: Ledger, clock: RedisClock, redis: Redis
) -> None:
    """A workload that took its token for a model: what a sweep writes into the stream does not hold it."""
    await limit_to(ledger, "5 requests/day")
    await held(purse, a_call(model=f"gate_{'a' * 49}"))
    for swept in (0, 0, 0, 1):
        await clock.add(20)
        assert await ledger.sweep("acme") == swept
    [(_, found)] = await redis.xrange(names.calls_key("acme"))
    assert found[b"model"] == b"gate_[removed]"


async def test_every_hold_is_renewed(purse: Purse, ledger: Ledger, clock: RedisClock) -> None:
    """More than are sent at once."""
    await limit_to(ledger, "1000 concurrent")
    calls = [a_call() for _ in range(300)]
    for call in calls:
        await held(purse, call)
    await clock.add(29)
    await purse.renew()
    await clock.add(59)
    assert await ledger.sweep("acme", 1_000) == 0
    await clock.add(2)
    assert await ledger.sweep("acme", 1_000) == 300


# Redis goes away.


async def test_no_hold_without_redis(tmp_path: Path) -> None:
    """503, and nothing is remembered as held."""
    ledger = Ledger(connect(f"unix://{tmp_path}/nobody.sock", tmp_path))
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    denial, told = await refused(purse, a_call())
    assert (denial.code, denial.status, told) == ("ledger_unavailable", 503, {"retry-after": "1"})
    assert purse.held == {}
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
        await held(purse, call)
    redis_server.pause()
    for call, charged in ((left, USED), (never_left, NOTHING)):
        await purse.settle(call.admitted.id, charged, {"call_id": call.admitted.id})
    assert purse.held == {}
    await purse.retry()
    redis_server.resume()
    redis.connection_pool.connection_kwargs["socket_timeout"] = 2
    for _ in range(2):
        await purse.retry()
    assert await state(ledger) == {"10 usd/day": (160_000, 0)}
    await ledger.close()


# What does not fit.


async def refused(purse: Purse, call: Requested) -> tuple[Denial, dict[str, str]]:
    """The refusal and the headers that decide what an SDK does next."""
    with pytest.raises(Refused) as caught:
        await held(purse, call)
    denial = caught.value.denial
    assert call.admitted.id not in purse.held
    headers = dict(error_headers(denial, call.admitted.id))
    kept = ("retry-after", "x-should-retry", "x-tollhouse-resets-at")
    return denial, {name: headers[name] for name in kept if name in headers}


# Sunday 2026-08-30 12:00:00.25 UTC, and the ends of its windows.
NOW, MINUTE, HOUR, DAY = 1788091200.25, 1788091260, 1788094800, 1788134400


@pytest.mark.parametrize(
    ("limit", "code", "status", "headers"),
    [
        (
            "0.001 usd/minute",
            "budget_exceeded",
            402,
            {"x-should-retry": "false", "x-tollhouse-resets-at": str(MINUTE)},
        ),
        (
            "0.001 usd/day",
            "budget_exceeded",
            402,
            {"x-should-retry": "false", "x-tollhouse-resets-at": str(DAY)},
        ),
        ("0.001 usd/total", "budget_exceeded", 402, {"x-should-retry": "false"}),
        ("0.0005 usd/day", "budget_exceeded", 402, {"x-should-retry": "false"}),
        (
            "200 tokens/minute",
            "rate_limited",
            429,
            {"x-should-retry": "false", "x-tollhouse-resets-at": str(MINUTE)},
        ),
        (
            "200 tokens/hour",
            "rate_limited",
            429,
            {"x-should-retry": "false", "x-tollhouse-resets-at": str(HOUR)},
        ),
        ("200 tokens/total", "rate_limited", 429, {"x-should-retry": "false"}),
        ("149 tokens/minute", "rate_limited", 429, {"x-should-retry": "false"}),
        (
            "1 requests/minute",
            "rate_limited",
            429,
            {"x-should-retry": "false", "x-tollhouse-resets-at": str(MINUTE)},
        ),
        (
            "1 requests/day",
            "rate_limited",
            429,
            {"x-should-retry": "false", "x-tollhouse-resets-at": str(DAY)},
        ),
        ("1 concurrent", "concurrency_limited", 429, {}),
        ("0 concurrent", "concurrency_limited", 429, {"x-should-retry": "false"}),
    ],
)
async def test_refusals(
    purse: Purse,
    ledger: Ledger,
    clock: RedisClock,
    limit: str,
    code: str,
    status: int,
    headers: dict[str, str],
) -> None:
    """The second call does not fit, or one alone is more than the limit; nothing of it is held."""
    await clock.set(NOW)
    await limit_to(ledger, limit)
    if limit not in ("0.0005 usd/day", "149 tokens/minute", "0 concurrent"):
        await held(purse, a_call())
    before = await state(ledger)
    denial, told = await refused(purse, a_call())
    assert (denial.code, denial.status, told) == (code, status, headers)
    assert limit in denial.why
    assert await state(ledger) == before


async def test_a_wait_is_never_told_shorter_than_it_is(
    purse: Purse, ledger: Ledger, clock: RedisClock
) -> None:
    """Rounded up: who comes back a moment too early is refused again. Above 5 s no wait is told."""
    await clock.set(MINUTE - 5.1)
    await limit_to(ledger, "1 requests/minute")
    await held(purse, a_call())
    assert "retry-after" not in (await refused(purse, a_call()))[1]
    await clock.set(MINUTE - 4.6)
    assert (await refused(purse, a_call()))[1]["retry-after"] == "5"
    await clock.set(MINUTE - 0.4)
    assert (await refused(purse, a_call()))[1]["retry-after"] == "1"


async def test_a_refusal_says_what_the_call_may_cost(purse: Purse, ledger: Ledger) -> None:
    """To the nano-dollar, which `6` decimals would show as nothing."""
    await limit_to(ledger, "0 usd/day")
    denial, _ = await refused(purse, a_call(into=1, out=0))
    assert "this call may cost up to 0.000001 USD" in denial.why


async def test_a_tenants_numbers_are_not_told(purse: Purse, ledger: Ledger) -> None:
    """Its limit is shared with other projects: neither its size nor what is left of it is in the answer."""
    await limit_to(ledger, "0.00123 usd/day", scope=TENANT)
    await held(purse, a_call())
    await held(purse, a_call())
    denial, told = await refused(purse, a_call())
    assert denial.code == "budget_exceeded"
    assert (
        denial.why
        == "A limit of tenant acme has not enough left; this call may cost up to 0.0006 USD."
    )
    assert told.keys() == {"x-should-retry", "x-tollhouse-resets-at"}


async def test_a_cap_beyond_all_counting_is_only_dear(purse: Purse, ledger: Ledger) -> None:
    """A cap that no ledger could add up is more than any limit, and no fault of ours."""
    await limit_to(ledger, "9000000 usd/total")
    denial, _ = await refused(purse, a_call(out=128 * (2**31 - 1) * 10**6))
    assert denial.code == "budget_exceeded"


async def test_a_prediction_is_held_for_as_output(purse: Purse, ledger: Ledger) -> None:
    """Beside the cap, by its own price; clamping lowers the cap alone, by what the prediction may cost."""
    await limit_to(ledger, "0.0013 usd/day")
    covered = await held(purse, a_call(predicted=40))
    assert covered.hold.amount == Amount(100 * 1_000 + 90 * 10_000, 190, 1)
    assert covered.hold.clamped is None
    await purse.settle(covered.requested.admitted.id, NOTHING, {})
    body = {"model": "priced", "messages": [], "max_tokens": 100}
    covered = await held(purse, a_call(predicted=40, body=body, out=100, project=CLAMPED))
    assert covered.hold.clamped == 80
    assert covered.hold.amount == Amount(100 * 1_000 + 120 * 10_000, 220, 1)
    assert covered.requested.body is not None
    assert json.loads(covered.requested.body) == body | {"max_tokens": 80}


async def test_a_clamp_is_of_each_choice(purse: Purse, ledger: Ledger) -> None:
    """What is left is shared among the choices."""
    await limit_to(ledger, "0.0013 usd/day")
    body = {"model": "priced", "messages": [], "max_tokens": 100, "n": 3}
    covered = await held(purse, a_call(body=body, out=300, choices=3, project=CLAMPED))
    assert covered.hold.clamped == 40
    assert covered.hold.amount == Amount(100 * 1_000 + 120 * 10_000, 220, 1)
    assert covered.requested.body is not None
    assert json.loads(covered.requested.body) == body | {"max_tokens": 40}


async def test_a_cap_is_not_lowered_below_the_least(purse: Purse, ledger: Ledger) -> None:
    """What is left would be enough for 40 tokens: fewer than the request needs are no use to it."""
    await limit_to(ledger, "0.0005 usd/day")
    body = {"model": "priced", "messages": [], "max_tokens": 100}
    call = a_call(body=body, out=100, project=CLAMPED)
    with pytest.raises(Refused) as refused:
        await held(purse, replace(call, asked=call.asked._replace(least_cap=41)))
    assert refused.value.denial.code == "budget_exceeded"
    covered = await held(purse, replace(call, asked=call.asked._replace(least_cap=40)))
    assert covered.hold.clamped == 40


async def test_a_stream_without_a_cap_does_not_grow_at_worst(purse: Purse, ledger: Ledger) -> None:
    """What it can come to is held from the start, and is the most that is charged when it breaks off."""
    await limit_to(ledger, "10 usd/day")
    typical = await held(purse, a_call(stream=True, capped=False))
    worst = await held(purse, a_call(stream=True, capped=False, project=WORST))
    assert (typical.hold.grows, worst.hold.grows) == (True, False)
    cut = Outcome(End.CUT, 200, metered=True, streamed=True, output_seen=70)
    assert purse.charge(worst.requested.admitted.id, cut) == (HELD, "estimate")


async def test_nothing_is_charged_that_is_not_held(purse: Purse) -> None:
    """A call that was refused, or was settled before."""
    assert purse.charge("call_1", Outcome(End.WHOLE, 200, metered=True)) is None


# Attempts of unknown fate.


async def test_a_repeat_needs_nothing_more(purse: Purse, ledger: Ledger) -> None:
    """Where the likely cost is held, an unknown attempt is charged once a call."""
    await limit_to(ledger, "0.0006 usd/day")
    covered = await held(purse, a_call())
    assert await covered.hold.covers_repeat()
    assert await state(ledger) == {"0.0006 usd/day": (0, HELD.nano_usd)}


async def test_a_repeat_at_worst_is_held_for(purse: Purse, ledger: Ledger) -> None:
    """By another hold of one attempt each time; without room for it there is no repeat. It is no request more."""
    await limit_to(ledger, "0.0018 usd/day", "1 requests/day")
    covered = await held(purse, a_call(project=WORST))
    repeats = [await covered.hold.covers_repeat() for _ in range(3)]
    assert repeats == [True, True, False]
    assert covered.hold.amount == Amount(3 * HELD.nano_usd, 450, 1)
    assert await state(ledger) == {
        "0.0018 usd/day": (0, 3 * HELD.nano_usd),
        "1 requests/day": (0, 1),
    }


@pytest.mark.parametrize("project", [LIMITED, WORST])
async def test_a_job_is_not_repeated(purse: Purse, ledger: Ledger, project: Project) -> None:
    """The first attempt may have started it."""
    await limit_to(ledger, "10 usd/day")
    covered = await held(purse, a_job(project))
    assert not await covered.hold.covers_repeat()
    assert await state(ledger) == {"10 usd/day": (0, 5_000_000_000)}


async def test_a_job_that_does_not_fit(purse: Purse, ledger: Ledger) -> None:
    """No shorter input and no lower cap helps, so none is named."""
    await limit_to(ledger, "4 usd/day")
    with pytest.raises(Refused) as refused:
        await held(purse, a_job(LIMITED))
    denial = refused.value.denial
    assert (denial.code, purse.held) == ("budget_exceeded", {})
    assert "may cost up to 5 USD" in denial.message
    assert denial.message.endswith("Ask for a higher limit or a grant.")
    assert await state(ledger) == {"4 usd/day": (0, 0)}


LATER = Outcome(End.WHOLE, 200, metered=True, later=Later("resp_1", "/v1/responses/resp_1", ""))


class Waited:
    """A call that is held, whose usage comes later, and a Redis that can hang."""

    def __init__(self, server: RedisServer, ledger: Ledger, directory: Path) -> None:
        self.lines = directory / "calls.jsonl"
        self.afterwards = Afterwards(ledger, Charges(PRICES), Book(self.lines))
        self.purse = Purse(ledger, PRICES, Spool(directory), afterwards=self.afterwards)
        self.call = a_call()
        self.id = self.call.admitted.id
        self._server = server

    async def cut(self, work: Coroutine[Any, Any, object]) -> None:
        """Cancels ``work`` when it has written to Redis, which reads that afterwards."""
        self._server.pause()
        task = asyncio.ensure_future(work)
        for _ in range(20):  # It is written within these turns of the loop.
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self._server.resume()

    async def until_waiting(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(await self.afterwards.waiting("acme")) != count:  # noqa: ASYNC110 - until Redis has read it
                await asyncio.sleep(0)

    async def pending(self) -> Pending:
        found = await self.afterwards.find("acme", "openai", "resp_1")
        assert found is not None
        return found


@pytest.fixture
async def slow_ledger(redis_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(connect(f"{redis_url}?socket_timeout=60", tmp_path))
    await limit_to(ledger, "10 usd/day")
    yield ledger
    await ledger.close()


@pytest.fixture
async def waited(redis_server: RedisServer, slow_ledger: Ledger, tmp_path: Path) -> Waited:
    made = Waited(redis_server, slow_ledger, tmp_path)
    await held(made.purse, made.call)
    return made


async def test_a_call_that_ends_while_redis_is_told_that_its_usage_comes_later(
    waited: Waited, slow_ledger: Ledger
) -> None:
    """Redis keeps it, and we do not hear of that: it is still held here, and charged once, whatever is seen later."""
    await waited.cut(waited.purse.keep(waited.id, LATER))
    assert list(waited.purse.held) == [waited.id]
    await waited.until_waiting(1)
    pending = await waited.pending()
    await waited.purse.settle(waited.id, USED, {})
    other = LateUsage((Charge("priced", Units(input=5, requests=1)),))
    await waited.afterwards.settle(pending, other)
    assert await state(slow_ledger) == {"10 usd/day": (USED.nano_usd, 0)}
    await waited.until_waiting(0)
    assert waited.lines.read_bytes() == b""


async def test_what_an_earlier_call_used_has_its_line_though_nobody_waits_for_it(
    waited: Waited, slow_ledger: Ledger
) -> None:
    """The call that saw it is cut while Redis settles: Redis would not let it be settled again."""
    assert await waited.purse.keep(waited.id, LATER)
    used = LateUsage((Charge("priced", Units(input=90, output=7, requests=1)),))
    await waited.cut(waited.purse.seen(await waited.pending(), used))
    await waited.until_waiting(0)
    [line] = map(json.loads, waited.lines.read_bytes().splitlines())
    assert (line["reason"], line["charged_by"], line["cost_usd"]) == ("later", "usage", "0.00016")
    assert await state(slow_ledger) == {"10 usd/day": (USED.nano_usd, 0)}


async def test_no_repeat_at_worst_while_redis_is_away(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """It can't be held for."""
    ledger = Ledger(connect(f"{redis_url}?socket_timeout=0.3", tmp_path))
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    await limit_to(ledger, "10 usd/day")
    covered = await held(purse, a_call(project=WORST))
    redis_server.pause()
    assert not await covered.hold.covers_repeat()
    assert covered.hold.amount == HELD
    redis_server.resume()
    await ledger.close()


def test_whose_limits_are_asked() -> None:
    """Tenant, project and token, all of the project's tenant."""
    assert scopes_of(a_call().admitted) == (TENANT, PROJECT, Scope("token", "acme", "tok_1"))


def test_whose_limits_are_asked_in_a_session() -> None:
    """The session's as well, for the project and for the token, where they have limits by session.
    The token is the last."""
    token = Scope("token", "acme", "tok_1")
    project = replace(a_call().admitted.project, limits=("2 usd/session", "10 usd/day"))
    given = a_call().admitted._replace(project=project)
    assert scopes_of(given) == (TENANT, PROJECT, token)
    given = given._replace(arrival=given.arrival._replace(session="s-1"))
    of_project = session_scope(
        PROJECT, "s-1", "usd total 2000000000;tokens total -;requests total -"
    )
    assert scopes_of(given) == (TENANT, PROJECT, of_project, token)
    identity = replace(given.identity, limits=("9 requests/session",), charged_as="tok_0")
    first = Scope("token", "acme", "tok_0")
    of_token = session_scope(first, "s-1", "usd total -;tokens total -;requests total 9")
    both = given._replace(identity=identity)
    assert scopes_of(both) == (TENANT, PROJECT, of_project, of_token, first)
    neither = both._replace(project=replace(project, limits=()), identity=given.identity)
    assert scopes_of(neither) == (TENANT, PROJECT, token)
