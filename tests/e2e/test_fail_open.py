"""``[redis] unsafe_fail_open`` through running gateways: who goes on while a real Redis is dead; all is charged, and once."""

from __future__ import annotations

import json
import signal
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.test_budget_faults import spent, until
from tests.support.fleet import PROJECT, Fleet, open_fleet, served
from tests.support.inproc import Inside, open_inside
from tests.support.redis_server import RedisServer

from tollhouse.control.client import StoreError, ask
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin_script import Behaviour, Latch, Steps

pytestmark = pytest.mark.requires("redis")

BODY = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hello"}],
    "max_completion_tokens": 100,
}
STREAM = {**BODY, "stream": True}
UNCAPPED = {"model": "gpt-4o", "messages": BODY["messages"], "stream": True}
SWITCH = {"redis": {"unsafe_fail_open": True}}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One gateway with the switch on, whose Redis keeps what it has; its token is proven."""
    with open_fleet(tmp_path, 1, append_only=True, settings=SWITCH) as made:
        assert [answer.status_code for answer in made.call(BODY, 1)] == [200]
        # Redis has answered by then: what a test stops is not in the middle of this call's settling.
        until(lambda: len(made.lines()) >= 1, "its line is there")
        made.standin.clear()
        yield made


def ready(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://{gateway.admin}/readyz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def let_through(fleet: Fleet) -> list[dict[str, Any]]:
    return [line for line in fleet.lines() if line.get("unsafe_fail_open")]


def refreshed(fleet: Fleet) -> int:
    """How often Redis was asked for several tokens or projects at once; while no call is held only what is remembered is."""
    with fleet.connection() as client:
        stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_hmget", {}).get("calls", 0))


def refused(fleet: Fleet, token: str) -> None:
    """503 as without the switch, and the provider saw nothing more."""
    before = len(fleet.standin.snapshot())
    url = f"http://localhost:{fleet.gateways[0].base_url.rpartition(':')[2]}/v1/chat/completions"
    answer = httpx2.post(
        url, json=BODY, headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    )
    assert answer.status_code == 503, answer.text
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert len(fleet.standin.snapshot()) == before
    call_id = answer.headers["x-tollhouse-call-id"]
    lines = fleet.gateways[0].wait_until(
        lambda lines: any(line["call_id"] == call_id for line in lines)
    )
    assert "unsafe_fail_open" not in next(line for line in lines if line["call_id"] == call_id)


def charged(fleet: Fleet) -> list[dict[str, Any]]:
    return [line for line in fleet.lines() if line["charged_by"] != "none"]


def all_is_charged(fleet: Fleet, count: int) -> None:
    """Every line that cost something is in the usage stream once, the limit has used their sum, and nothing is left over."""
    until(lambda: fleet.spooled() == 0, "the spool is empty")
    until(lambda: fleet.holds() == {}, "no hold is left")
    until(lambda: len(charged(fleet)) >= count, "every line is there")
    lines = charged(fleet)
    assert len(lines) == count
    assert sorted(record["call_id"] for record in fleet.records()) == sorted(
        line["call_id"] for line in lines
    )
    state = fleet.budget()["10000 usd/day"]
    assert (state["used"], state["held"]) == (spent(lines), 0)


def test_a_proven_identity_goes_on(fleet: Fleet) -> None:
    """Plain and streamed, with a cap and without; named in each line, warned of once; charged once when Redis is back."""
    [gateway] = fleet.gateways
    assert "UNSAFE: [redis] unsafe_fail_open" in gateway.stderr
    assert ready(gateway) == (200, {"ready": True})
    fleet.redis.stop()
    for body in (BODY, STREAM, UNCAPPED):
        answers = fleet.call(body, 5)
        assert [answer.status_code for answer in answers] == [200] * 5
        assert not [name for answer in answers for name in answer.headers if "fail" in name]
    assert len(fleet.standin.snapshot()) == 15
    gateway.wait_lines(16)
    lines = let_through(fleet)
    assert [(line["unsafe_fail_open"], line["charged_by"], line["decision"]) for line in lines] == [
        (True, "usage", "allow")
    ] * 15
    until(lambda: "warnings" in ready(gateway)[1], "it says what is wrong")
    status, body = ready(gateway)
    assert (status, body["ready"]) == (200, True)
    assert "unsafe_fail_open is in force" in body["warnings"][0]
    assert fleet.spooled() == 15
    fleet.redis.start()
    all_is_charged(fleet, 16)
    marked = [record for record in fleet.records() if record.get("unsafe_fail_open") == "true"]
    assert len(marked) == 15
    until(lambda: ready(gateway) == (200, {"ready": True}), "all is well again")
    until(lambda: "15 calls were let through" in gateway.stderr, "it is said that it is over")
    assert gateway.stderr.count("Redis is away and [redis] unsafe_fail_open is set") == 1
    assert [answer.status_code for answer in fleet.call(BODY, 1)] == [200]
    assert len(let_through(fleet)) == 15


def test_whom_it_does_not_let_through(fleet: Fleet) -> None:
    """A token that was never shown here, one that was revoked before, by a command that went to Redis alone, and one whose
    revocation by this gateway failed for want of Redis."""
    [gateway] = fleet.gateways
    never, before, meanwhile = (gateway.make_token(PROJECT) for _ in range(3))
    proven = fleet.token
    for token in (before, meanwhile):
        fleet.token = token
        assert fleet.call(BODY, 1)[0].status_code == 200
    _, first, second = (line["identity"] for line in gateway.wait_lines(3))
    gateway.tollhouse("token", "revoke", first)
    asked = refreshed(fleet)
    until(lambda: refreshed(fleet) >= asked + 4, "tokens and projects were read again, twice")
    fleet.redis.stop()
    with pytest.raises(StoreError):
        ask(gateway.config.parent / "state", "token_revoke", {"token_id": second})
    for token in (never, before, meanwhile):
        refused(fleet, token)
    fleet.token = proven
    assert fleet.call(BODY, 1)[0].status_code == 200
    fleet.redis.start()
    all_is_charged(fleet, 4)


def test_a_redis_that_hangs_and_comes_back_in_the_middle(fleet: Fleet) -> None:
    """A stream that began meanwhile is held as soon as Redis answers, and settled like any other."""
    steps = Steps()
    steps.release(3)
    fleet.redis.pause()
    fleet.standin.script(Behaviour(text=" word" * 50, steps=steps))
    load = fleet.in_background(UNCAPPED, 1)
    fleet.standin.wait_count(1, 60)
    assert fleet.spooled() == 1
    fleet.redis.resume()
    until(lambda: len(fleet.holds()) == 1, "it is held")
    until(lambda: fleet.spooled() == 0, "and spooled no more")
    steps.release_all()
    [answer] = load.result()
    assert (answer.status_code, answer.text.endswith("data: [DONE]\n\n")) == (200, True)
    all_is_charged(fleet, 2)
    [line] = let_through(fleet)
    assert line["charged_by"] == "usage"
    assert [record["settled_by"] for record in fleet.records()] == ["hold", "hold"]


@pytest.mark.parametrize("body", [BODY, UNCAPPED], ids=["plain", "streamed"])
def test_a_gateway_that_is_killed_in_the_middle(fleet: Fleet, body: dict[str, Any]) -> None:
    """The next start charges the whole estimate, once, and writes the line; a further start does nothing more."""
    [gateway] = fleet.gateways
    gate = Latch()
    fleet.redis.stop()
    fleet.standin.always(Behaviour(wait=gate))
    load = fleet.in_background(body, 3)
    fleet.standin.wait_count(3, 60)
    gateway.kill()
    gate.open()
    assert load.result() == []
    assert fleet.spooled() == 3
    for _ in range(2):
        fleet.redis.start()
        gateway.start()
        until(lambda: len(let_through(fleet)) >= 3, "their lines are there")
        swept = let_through(fleet)
        assert [(line["charged_by"], line["reason"], line["model"]) for line in swept] == [
            ("sweep", "swept", "gpt-4o")
        ] * 3
        assert len({line["cost_usd"] for line in swept}) == 1
        assert Decimal(swept[0]["cost_usd"]) > Decimal("0.001")
        all_is_charged(fleet, 4)
        gateway.kill()


def test_a_spool_that_cannot_be_written(fleet: Fleet) -> None:
    """Nothing leaves; when it can be written again, calls go on."""
    [gateway] = fleet.gateways
    spool = fleet.spool()
    fleet.redis.stop()
    spool.mkdir()
    refused(fleet, fleet.token)
    until(lambda: "it could not be spooled" in gateway.stderr, "it is said")
    spool.rmdir()
    assert fleet.call(BODY, 1)[0].status_code == 200
    fleet.redis.start()
    all_is_charged(fleet, 2)


def test_a_redis_that_answers_no_is_not_away(fleet: Fleet) -> None:
    """Out of memory, and a password that changed: 503, and nothing leaves."""
    with fleet.connection() as client:
        client.config_set("maxmemory", "1")
        refused(fleet, fleet.token)
        client.config_set("maxmemory", "0")
        client.config_set("requirepass", "another")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        refused(fleet, fleet.token)
        assert "warnings" not in ready(fleet.gateways[0])[1]
        client.config_set("requirepass", "")
    until(lambda: ready(fleet.gateways[0])[0] == 200, "it is ready again")
    assert let_through(fleet) == []


def test_two_gateways_that_share_nothing_but_redis(tmp_path: Path) -> None:
    """Each has its own spool; one is killed, and what both let through is charged once each."""
    with open_fleet(tmp_path, 2, append_only=True, settings=SWITCH) as fleet:
        assert served(fleet.call(BODY, 2)).total() == 2
        until(lambda: len(fleet.lines()) == 2, "they are settled")
        fleet.redis.stop()
        assert served(fleet.call(BODY, 10)).total() == 10
        fleet.gateways[1].signal(signal.SIGKILL)
        fleet.gateways[1].wait()
        fleet.redis.start()
        until(lambda: fleet.spooled(0) == 0, "the first has told its own")
        assert (len(fleet.records()), fleet.spooled(1)) == (7, 5)
        fleet.gateways[1].start()
        all_is_charged(fleet, 12)


# Faults of ours.


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inside, RedisServer]]:
    place = tmp_path_factory.mktemp("fail-open")
    (place / "redis").mkdir()
    with RedisServer(place / "redis", append_only=True) as server:
        settings = {"redis": {"url": server.url, "unsafe_fail_open": True}}
        with open_inside(place, settings) as inside:
            yield inside, server


@pytest.fixture
def outage(shared: tuple[Inside, RedisServer]) -> Iterator[Inside]:
    """A gateway whose Redis has just died, with a proven token."""
    inside, server = shared
    server.start()
    inside.until(
        lambda gateway: not gateway.readiness.reasons() and not gateway.readiness.warnings()
    )
    assert call(inside).status_code == 200
    inside.until(lambda gateway: not gateway.journey.under_way)
    inside.standin.clear()
    server.stop()
    # The answers of the last seconds serve without asking Redis, or us.
    inside.do(forget(inside))
    yield inside
    server.start()


async def forget(inside: Inside) -> None:
    inside.gateway.directory.forget()


def call(inside: Inside) -> httpx2.Response:
    context = ssl.create_default_context(cafile=str(inside.ca_file))
    with httpx2.Client(
        proxy=inside.proxy_url, verify=context, trust_env=False, timeout=30
    ) as client:
        return client.post("https://api.openai.com/v1/chat/completions", json=BODY)


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError("injected fault")


async def boom_later(*_: Any, **__: Any) -> Any:
    raise RuntimeError("injected fault")


async def nothing(*_: Any, **__: Any) -> Any:
    return None


FAULTS: dict[str, tuple[Callable[[Inside], Any], str, Callable[..., Any], str]] = {
    "the memory": (lambda i: i.gateway.remembered, "find", boom_later, "internal"),
    "the memory knows nothing": (
        lambda i: i.gateway.remembered,
        "find",
        nothing,
        "identity_unknown",
    ),
    "the memory's projects": (
        lambda i: i.gateway.remembered,
        "get_project",
        boom_later,
        "internal",
    ),
    "whether it may be asked": (lambda i: i.gateway.remembered, "serves", boom_later, "internal"),
    "whether Redis is away": (lambda i: i.gateway.outage, "confirmed", boom_later, "internal"),
    "that gives nothing": (lambda i: i.gateway.outage, "confirmed", nothing, "ledger_unavailable"),
    "how Redis is asked": (lambda i: i.gateway.outage, "ping", boom, "ledger_unavailable"),
    "the standing in": (lambda i: i.gateway.fail_open, "takes", boom_later, "ledger_unavailable"),
    "that decides nothing": (lambda i: i.gateway.fail_open, "takes", nothing, "ledger_unavailable"),
    "who is proven": (lambda i: i.gateway.fail_open, "vouches", boom, "ledger_unavailable"),
    "the spool": (lambda i: i.gateway.spool, "put", boom, "ledger_unavailable"),
    "the spool's file": (lambda i: i.gateway.spool.file, "run", boom, "ledger_unavailable"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_lets_nothing_out(
    outage: Inside, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Each step of the way around Redis raises, or decides nothing."""
    part, name, act, reason = FAULTS[fault]
    assert outage.gateway.fail_open is not None
    assert outage.gateway.outage is not None
    outage.gateway.outage.over()
    monkeypatch.setattr(part(outage), name, act)
    answer = call(outage)
    assert answer.status_code == (401 if reason == "identity_unknown" else 503)
    assert answer.headers["x-tollhouse-reason"] == reason
    assert outage.standin.snapshot() == []
    line = next(
        line for line in outage.lines() if line["call_id"] == answer.headers["x-tollhouse-call-id"]
    )
    assert line["cost_usd"] == "0"
    assert outage.gateway.fail_open.opened == {}
    assert outage.gateway.spool.live == set()


def test_the_way_is_open_without_faults(outage: Inside) -> None:
    """The same call without a fault goes out: the tests above can fail."""
    assert call(outage).status_code == 200
    assert len(outage.standin.snapshot()) == 1
