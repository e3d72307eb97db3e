"""Limits and sums by the session of an agent."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from tests.ledger.clock import RedisClock

from tollhouse.call import NOTHING, Amount
from tollhouse.ledger import names
from tollhouse.ledger.hold_reply import Held, Short, Unpriced
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits, session_record
from tollhouse.ledger.names import session_scope

USD = 10**9
TENANT = Scope("tenant", "acme", "acme")
PROJECT = Scope("project", "acme", "proj_123")
TOKEN = Scope("token", "acme", "tok_1")
TWO_USD = session_record(("2 usd/session",))
DAY = int(RedisClock.START // 86_400)
WEEK_MS = 604_800_000


def session(name: str, owner: Scope = PROJECT, limits: str = TWO_USD) -> Scope:
    return session_scope(owner, name, limits)


def scopes(*sessions: Scope) -> tuple[Scope, ...]:
    return (TENANT, PROJECT, *sessions, TOKEN)


@pytest.fixture
async def ready(ledger: Ledger) -> Ledger:
    await ledger.set_limits(PROJECT, parse_limits(["2 usd/session", "100 usd/day"]))
    return ledger


async def counted(ledger: Ledger, scope: Scope) -> dict[str, tuple[int, int]]:
    """Used and held of each limit that is shown."""
    [state] = await ledger.show([scope])
    return {row.limit.unit: (row.used, row.held) for row in state.limits}


async def test_each_session_has_the_limit_for_itself(ready: Ledger) -> None:
    """One ends at its limit, and the other goes on, as does a call without a session."""
    one, two = scopes(session("s-1")), scopes(session("s-2"))
    assert await ready.hold("c1", one, Amount(2 * USD)) == Held()
    short = await ready.hold("c2", one, Amount(USD))
    assert short == Short("2 usd/session", one[2], "usd", None, None, 0, left_usd=0)
    assert await ready.hold("c3", two, Amount(2 * USD)) == Held()
    assert await ready.hold("c4", scopes(), Amount(9 * USD)) == Held()
    # A settle gives back what was held too much.
    await ready.settle("c1", one, Amount(USD // 2), record={})
    short = await ready.hold("c5", one, Amount(2 * USD))
    assert isinstance(short, Short)
    assert (short.left, short.never_fits) == (3 * USD // 2, False)
    assert await ready.hold("c6", one, Amount(3 * USD // 2)) == Held()
    assert await ready.release("c6", one)
    assert await counted(ready, one[2]) == {"usd": (USD // 2, 0)}


async def test_of_a_project_and_of_a_token(ready: Ledger) -> None:
    """Both count, each for its own calls in the same session."""
    mine = session("s-1", TOKEN, session_record(("3 requests/session", "1000 tokens/session")))
    both = scopes(session("s-1"), mine)
    for n in range(3):
        assert await ready.hold(f"c{n}", both, Amount(USD // 4, 10)) == Held()
    short = await ready.hold("c3", both, Amount(USD // 4, 10))
    assert isinstance(short, Short)
    assert (short.limit_text, short.scope, short.others) == ("3 requests/session", mine, True)
    other = (TENANT, PROJECT, session("s-1"), Scope("token", "acme", "tok_2"))
    short = await ready.hold("c4", other, Amount(2 * USD))
    assert isinstance(short, Short)
    assert (short.limit_text, short.left) == ("2 usd/session", 5 * USD // 4)


async def test_the_owner_has_no_such_limit_itself(ledger: Ledger) -> None:
    """It holds for calls that name a session, and for no others."""
    await ledger.set_limits(PROJECT, parse_limits(["2 usd/session"]))
    assert await ledger.hold("c1", scopes(), Amount(50 * USD)) == Held()
    [state] = await ledger.show([PROJECT])
    assert state.limits == ()


async def test_a_stream_is_extended_within_the_sessions_limit(ready: Ledger) -> None:
    """And no further."""
    one = scopes(session("s-1"))
    await ready.hold("c1", one, Amount(USD, 10))
    assert await ready.extend("c1", one, Amount(USD, 10, 0)) == Held()
    short = await ready.extend("c1", one, Amount(1, 1, 0))
    assert isinstance(short, Short)
    assert (short.limit_text, short.left) == ("2 usd/session", 0)


async def test_a_place_is_not_refused_by_a_session(ready: Ledger) -> None:
    """It takes nothing that a session has limits of."""
    one = scopes(session("s-1", limits=session_record(("0 usd/session", "0 requests/session"))))
    assert await ready.hold("c1.place", one, NOTHING) == Held()
    assert await ready.release("c1.place", one)


async def test_a_model_without_a_price(ready: Ledger) -> None:
    """It is refused where a session's limit is in money."""
    await ready.set_limits(PROJECT, [])
    one = scopes(session("s-1"))
    assert await ready.hold("c1", one, Amount(), priced=False) == Unpriced(one[2])
    few = scopes(session("s-1", limits=session_record(("5 tokens/session",))))
    assert await ready.hold("c2", few, Amount(), priced=False) == Held()
    assert await ready.hold("c3", scopes(), Amount(), priced=False) == Held()


async def test_a_record_ends_seven_days_after_its_last_hold(ready: Ledger, redis: Redis) -> None:
    """The session begins anew then, and what ends later is charged to nothing that is gone."""
    one = scopes(session("s-1"))
    key = names.scope_key(one[2])
    assert key.startswith("toll:{acme}:scope:session:project.proj_123.")
    await ready.hold("c1", one, Amount(USD))
    assert 0 <= WEEK_MS - await redis.pttl(key) < 600_000
    await redis.pexpire(key, 5_000_000)
    await ready.settle("c1", one, Amount(USD), record={})
    assert await redis.pttl(key) <= 5_000_000
    await ready.hold("c2", one, Amount(USD))
    assert 0 <= WEEK_MS - await redis.pttl(key) < 600_000
    # As if its time had come.
    await redis.delete(key)
    assert await ready.settle("c2", one, Amount(2 * USD), record={}) == "hold"
    assert await redis.exists(key) == 0
    assert await ready.hold("c3", one, Amount(2 * USD)) == Held()


async def test_a_limit_that_is_set_later_counts_what_was_used_before(ready: Ledger) -> None:
    """A session counts every unit, whatever its limits are in."""
    before = scopes(session("s-1", limits=session_record(("5 requests/session",))))
    await ready.hold("c1", before, Amount(USD, 100))
    await ready.settle("c1", before, Amount(USD, 70), record={})
    after = scopes(session("s-1"))
    short = await ready.hold("c2", after, Amount(USD + 1))
    assert isinstance(short, Short)
    assert (short.limit_text, short.left) == ("2 usd/session", USD)
    assert await ready.hold("c3", after, Amount(USD, 1)) == Held()
    tokens = scopes(session("s-1", limits=session_record(("71 tokens/session",))))
    short = await ready.hold("c4", tokens, Amount(0, 1))
    assert isinstance(short, Short)
    assert (short.limit_text, short.left) == ("71 tokens/session", 0)


async def test_a_sweep_charges_the_session(ready: Ledger, clock: RedisClock) -> None:
    """And a late settle corrects it, in the limits and in the sums."""
    one = scopes(session("s-1"))
    carried = {"provider": "openai", "model": "gpt-4o", "session": "s-1"}
    await ready.hold("c1", one, Amount(2 * USD, 9), deadline_s=1, carried=carried)
    await clock.add(2)
    assert await ready.sweep("acme") == 1
    assert await counted(ready, one[2]) == {"usd": (2 * USD, 0)}
    assert await by_session(ready) == {"s-1": (2 * USD, 9, 1)}
    assert await ready.settle("c1", one, Amount(USD, 4), record=carried) == "late"
    assert await counted(ready, one[2]) == {"usd": (USD, 0)}
    assert await by_session(ready) == {"s-1": (USD, 4, 1)}


async def by_session(ledger: Ledger) -> dict[str, tuple[int, int, int]]:
    rows = await ledger.usage("acme", "proj_123", by="session")
    return {row.key: (row.nano_usd, row.tokens, row.requests) for row in rows if row.requests}


async def charge(ledger: Ledger, call_id: str, name: str, amount: Amount) -> None:
    record = {"provider": "openai", "model": "gpt-4o", "session": name}
    await ledger.settle(call_id, scopes(), amount, record=record)


async def test_sums_by_session(ready: Ledger) -> None:
    """Of calls that name one and cost something; every call is in the sums by day."""
    await charge(ready, "c1", "s-1", Amount(5, 2))
    await charge(ready, "c2", "a session", Amount(7, 3))
    await charge(ready, "c3", "s-1", Amount(1, 1))
    await charge(ready, "c4", "", Amount(11, 1))
    await charge(ready, "c5", "s-3", Amount(0, 0))
    assert await by_session(ready) == {"a session": (7, 3, 1), "s-1": (6, 3, 2)}
    [day] = await ready.usage("acme", "proj_123")
    assert (day.nano_usd, day.tokens, day.requests) == (24, 7, 5)


async def test_what_an_earlier_version_swept_is_taken_back(
    ready: Ledger, redis: Redis, clock: RedisClock
) -> None:
    """Its text has no session. A call without one is written down in the same form now."""
    carried = {"provider": "openai", "model": "gpt-4o"}
    await ready.hold("c1", scopes(), Amount(9, 9), deadline_s=1, carried=carried)
    await clock.add(2)
    assert await ready.sweep("acme") == 1
    text = await redis.hget("toll:{acme}:swept", "c1")
    assert text is not None
    assert text.split(b"\n")[2] == b"%d\x1fopenai/gpt-4o\x1ftok_1" % DAY
    record = {**carried, "session": "s-1"}
    assert await ready.settle("c1", scopes(), Amount(5, 4), record=record) == "late"
    assert await by_session(ready) == {"s-1": (5, 4, 1)}
    [row] = await ready.usage("acme", "proj_123", by="token")
    assert (row.key, row.nano_usd, row.requests) == ("tok_1", 5, 1)


async def test_a_day_has_sums_of_a_thousand_sessions(ready: Ledger, clock: RedisClock) -> None:
    """Further ones are summed under `other`, beside a thousand models; a sweep's booking is taken
    back from where it went."""
    await asyncio.gather(*(charge(ready, f"c{n}", f"s{n}", Amount(2, 1)) for n in range(1_000)))
    await charge(ready, "x0", "s1000", Amount(2, 1))
    await charge(ready, "x1", "s7", Amount(2, 1))
    found = await by_session(ready)
    assert (len(found), found["other"], found["s7"]) == (1_001, (2, 1, 1), (4, 2, 2))
    carried = {"provider": "openai", "model": "gpt-4o", "session": "s1002"}
    await ready.hold("x2", scopes(), Amount(50), deadline_s=1, carried=carried)
    await clock.add(2)
    assert await ready.sweep("acme") == 1
    assert (await by_session(ready))["other"] == (52, 1, 2)
    await ready.settle("x2", scopes(), Amount(7), record=carried)
    assert (await by_session(ready))["other"] == (9, 1, 2)
    [model] = await ready.usage("acme", "proj_123", by="model")
    assert (model.key, model.requests) == ("openai/gpt-4o", 1_003)


async def test_sums_of_sessions_are_kept_for_a_month(ready: Ledger, clock: RedisClock) -> None:
    """There are many more sessions than models; the sums of days stay."""
    await charge(ready, "c1", "s-1", Amount(5, 2))
    await clock.add(30 * 86_400)
    await charge(ready, "c2", "s-2", Amount(5, 2))
    assert set(await by_session(ready)) == {"s-1", "s-2"}
    await clock.add(86_400)
    await charge(ready, "c3", "s-3", Amount(5, 2))
    assert set(await by_session(ready)) == {"s-2", "s-3"}
    assert len(await ready.usage("acme", "proj_123")) == 3


async def test_ten_thousand_sessions_with_a_limit_begin_in_a_day(
    ready: Ledger, redis: Redis, clock: RedisClock
) -> None:
    """A program may invent any number of them. Those that have begun go on."""
    one, two = scopes(session("s-1")), scopes(session("s-2"))
    assert await ready.hold("c1", one, Amount(1)) == Held()
    usage = names.usage_key("acme", "proj_123")
    assert await redis.hget(usage, f"{DAY} begun -") == b"1"
    await redis.hset(usage, f"{DAY} begun -", "10000")
    midnight = (DAY + 1) * 86_400.0
    assert await ready.hold("c2", two, Amount(1)) == Short(
        "10000 requests/day", two[2], "requests", midnight, 43_200.0, 0, others=True
    )
    assert await redis.exists(names.scope_key(two[2])) == 0
    assert await ready.hold("c3", one, Amount(1)) == Held()
    assert await ready.hold("c4", scopes(), Amount(1)) == Held()
    await clock.add(43_200)
    assert await ready.hold("c5", two, Amount(1)) == Held()


async def test_the_longest_owner_and_odd_sessions(ready: Ledger) -> None:
    """A session's id becomes a hash, so that it may be any text."""
    owner = Scope("project", "acme", "p" * 128)
    await ready.set_limits(owner, [])
    long = (TENANT, owner, session('a:b c{d}"' * 12, owner), TOKEN)
    assert await ready.hold("c1", long, Amount(1)) == Held()
    assert await ready.settle("c1", long, Amount(1), record={}) == "hold"
    for wrong in ("proj_123", "tenant.acme." + "0" * 32, "project.a b." + "0" * 32):
        with pytest.raises(ValueError, match="id of a session"):
            names.scope_key(Scope("session", "acme", wrong))


async def test_scopes_are_read_back_from_their_names() -> None:
    """As a sweep reads them; the limits are in the session's record."""
    mine = scopes(session("s-1"), session("s-1", TOKEN))
    text = " ".join(scope.name for scope in mine)
    assert names.parse_scopes("acme", text) == tuple(s._replace(limits="") for s in mine)


def test_what_a_record_of_a_session_has() -> None:
    """Every unit, with the amount of its limit; nothing without a limit by session."""
    assert TWO_USD == "usd total 2000000000;tokens total -;requests total -"
    mixed = ("1 usd/day", "7 tokens/session", "9 requests/session", "2 concurrent")
    assert session_record(mixed) == "usd total -;tokens total 7;requests total 9"
    assert session_record(("1 usd/day",)) == session_record(()) == ""
