"""Budgets that hold through crashes, outages and crowds: several running gateways on one real redis-server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.fleet import PROJECT, Fleet, open_fleet, served

from tollhouse.demo.gateway_process import GatewayProcessError
from tollhouse.demo.standin_script import Behaviour, Latch

pytestmark = pytest.mark.requires("redis")

BODY = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hello"}],
    "max_completion_tokens": 100,
}


def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Each look is a command or a connection, which takes its time: no sleep is needed between them."""
    over = threading.Event()
    timer = threading.Timer(seconds, over.set)
    timer.start()
    try:
        while not condition():
            assert not over.is_set(), f"not within {seconds:g} s: {what}"
    finally:
        timer.cancel()


def spent(records: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(record["cost_usd"]) for record in records), Decimal())


def under_way(fleet: Fleet, count: int) -> tuple[Latch, Any]:
    """``count`` calls that the provider has and does not answer before the gate is opened."""
    gate = Latch()
    fleet.standin.always(Behaviour(wait=gate))
    load = fleet.in_background(BODY, count, at_once=count)
    fleet.standin.wait_count(count, 60)
    return gate, load


def test_calls_that_end_while_redis_is_away_are_charged_when_it_is_back(tmp_path: Path) -> None:
    """They finish, their settles are spooled, new calls are refused; Redis back: each in the stream once, no hold left."""
    with open_fleet(tmp_path, 1, append_only=True) as fleet:
        gate, load = under_way(fleet, 30)
        assert len(fleet.holds()) == 30
        fleet.redis.stop()
        gate.open()
        answers = load.result()
        assert [answer.status_code for answer in answers] == [200] * 30
        until(lambda: fleet.spooled() == 30, "all are on disk")
        refused = fleet.call(BODY, 3)
        assert {(one.status_code, one.headers["x-tollhouse-reason"]) for one in refused} == {
            (503, "ledger_unavailable")
        }
        assert {one.headers["retry-after"] for one in refused} == {"1"}
        assert len(fleet.standin.snapshot()) == 30
        fleet.redis.start()
        until(lambda: fleet.spooled() == 0, "the spool is empty")
        records = fleet.records()
        assert sorted(record["call_id"] for record in records) == sorted(served(answers))
        assert {(record["settled_by"], record["charged_by"]) for record in records} == {
            ("hold", "usage")
        }
        assert fleet.holds() == {}
        until(lambda: len(fleet.lines()) == 33, "a line a call")
        state = fleet.budget()["10000 usd/day"]
        assert (state["used"], state["held"]) == (spent(fleet.lines()), 0)
        assert [answer.status_code for answer in fleet.call(BODY, 3)] == [200] * 3


def test_a_killed_gateway_tells_its_spool_at_its_next_start(tmp_path: Path) -> None:
    """kill -9 with a spool, half of a transaction behind it: when it is ready again all are in the stream, once each."""
    with open_fleet(tmp_path, 1, append_only=True) as fleet:
        [gateway] = fleet.gateways
        gate, load = under_way(fleet, 10)
        fleet.redis.stop()
        gate.open()
        assert len(served(load.result())) == 10
        until(lambda: fleet.spooled() == len(fleet.lines()) == 10, "all are on disk")
        gateway.kill()
        log = fleet.spool().with_name("spool.sqlite3-wal")
        with log.open("ab") as torn:
            torn.write(log.read_bytes()[:5000])
        fleet.redis.start()
        gateway.start()
        until(lambda: fleet.spooled() == 0, "the spool is empty")
        records = fleet.records()
        assert sorted(record["call_id"] for record in records) == sorted(
            line["call_id"] for line in gateway.lines()
        )
        assert fleet.holds() == {}
        assert fleet.budget()["10000 usd/day"]["used"] == spent(gateway.lines())


def test_a_gateway_whose_spool_is_damaged_does_not_start(tmp_path: Path) -> None:
    """It says what to do, and changes nothing; done so, it starts."""
    with open_fleet(tmp_path, 1, append_only=True) as fleet:
        [gateway] = fleet.gateways
        gateway.kill()
        fleet.spool().touch(0o600)
        fleet.spool().write_bytes(b"something else\n" * 1000)
        with pytest.raises(
            GatewayProcessError, match=r"spool\.sqlite3 cannot be used as the spool: file is not"
        ) as failed:
            gateway.start()
        assert "Move it to another directory" in str(failed.value)
        assert fleet.spool().read_bytes() == b"something else\n" * 1000
        fleet.spool().rename(tmp_path / "moved")
        gateway.start()
        assert [answer.status_code for answer in fleet.call(BODY, 1)] == [200]


def test_redis_killed_and_started_again_amid_five_hundred_calls(tmp_path: Path) -> None:
    """With appendonly: every call that the provider served is in the stream exactly once, and charged."""
    with open_fleet(tmp_path, 2, append_only=True) as fleet:
        load = fleet.in_background(BODY, 500, at_once=20)
        until(lambda: len(fleet.lines()) >= 150, "150 calls")
        fleet.redis.stop()
        until(
            lambda: sum(line["status"] == 503 for line in fleet.lines()) >= 20, "some are refused"
        )
        fleet.redis.start()
        answers = load.result()
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 503}
        until(lambda: not any(fleet.spooled(number) for number in (0, 1)), "the spools are empty")
        until(lambda: fleet.holds() == {}, "no hold is left")
        charged = served(answers)
        assert len(fleet.standin.snapshot()) == charged.total() > 200
        until(lambda: len(fleet.lines()) == 500, "a line a call")
        records = fleet.records()
        assert sorted(record["call_id"] for record in records) == sorted(charged)
        assert fleet.budget()["10000 usd/day"]["used"] == spent(records) == spent(fleet.lines())


def test_a_gateway_killed_with_thirty_calls_under_way(tmp_path: Path) -> None:
    """The idle one sweeps: each dead call is charged its full hold and gets its line there; the other's calls are charged
    what the provider served; a late settle corrects a sweep; no hold is left."""
    with open_fleet(tmp_path, 2) as fleet:
        dying, other = fleet.gateways
        gate, load = under_way(fleet, 30)
        held = fleet.budget(1)["10000 usd/day"]["held"]
        assert len(fleet.holds()) == 30
        dying.kill()
        mine = set(fleet.holds())
        gate.open()
        answers = load.result()
        survivors = served(answers)
        assert survivors.total() == 15
        until(lambda: len(fleet.holds()) == 15, "the other's are settled")
        dead = set(fleet.holds())
        assert dead == mine - set(survivors)
        assert len(dead) == 15
        fleet.let_deadlines_pass()
        lines = other.wait_until(
            lambda lines: sum(line["charged_by"] == "sweep" for line in lines) == 15, 60
        )
        swept = [line for line in lines if line["charged_by"] == "sweep"]
        assert {line["call_id"] for line in swept} == dead
        assert {
            (line["project"], line["model"], line["reason"], line["status"]) for line in swept
        } == {(PROJECT, "gpt-4o", "swept", 0)}
        assert spent(swept) == held / 2
        # A swept charge names no table of prices: its gateway did not live to say one.
        # Nobody knows any more what it was held for.
        assert set(swept[0]) | {"price", "held_for"} == set(lines[0]) | {"price", "held_for"}
        assert fleet.holds() == {}
        state = fleet.budget(1)["10000 usd/day"]
        assert (state["used"], state["held"]) == (spent(lines), 0)
        assert sorted(record["call_id"] for record in fleet.records()) == sorted(
            dead | set(survivors)
        )


def test_two_hundred_calls_from_four_gateways_against_money_for_twenty(tmp_path: Path) -> None:
    """Exactly 20 are let out while none is settled; when all are, what they did not use can be used again."""
    with open_fleet(tmp_path, 4) as fleet:
        assert fleet.call(BODY, 1)[0].status_code == 200
        until(lambda: len(fleet.lines()) == 1, "its line")
        [line] = fleet.lines()
        each, cost = Decimal(line["held_usd"]), Decimal(line["cost_usd"])
        fleet.gateways[0].make_project(PROJECT, f"{cost + 20 * each} usd/day")
        limit = f"{cost + 20 * each} usd/day"
        fleet.standin.clear()
        gate = Latch()
        fleet.standin.always(Behaviour(wait=gate))
        load = fleet.in_background(BODY, 200, at_once=200)
        until(
            lambda: sum(line["status"] == 402 for line in fleet.lines()) == 180,
            "180 are refused",
            60,
        )
        assert fleet.budget()[limit]["left"] == 0
        assert len(fleet.standin.wait_count(20)) == 20
        gate.open()
        answers = load.result()
        assert sorted(answer.status_code for answer in answers) == [200] * 20 + [402] * 180
        state = fleet.budget()[limit]
        assert (state["used"], state["held"]) == (21 * cost, 0)
        # One at a time: each needs room for its hold, and none is refused while there is.
        room = int((state["left"] - each) / cost) + 1
        statuses = [answer.status_code for answer in fleet.call(BODY, room + 5, at_once=1)]
        assert statuses == [200] * room + [402] * 5
        assert fleet.budget()[limit]["left"] < each


def test_a_late_settle_corrects_what_was_swept(tmp_path: Path) -> None:
    """The gateway that died with a spool comes back after its holds were swept in full: what counts is the usage."""
    with open_fleet(tmp_path, 2, append_only=True) as fleet:
        dying, other = fleet.gateways
        gate, load = under_way(fleet, 10)
        fleet.redis.stop()
        gate.open()
        assert served(load.result()).total() == 10
        until(lambda: (fleet.spooled(0), fleet.spooled(1)) == (5, 5), "all are on disk")
        until(lambda: len(fleet.lines()) == 10, "each has its line")
        dying.kill()
        fleet.redis.start()
        until(lambda: fleet.spooled(1) == 0, "the other's are told")
        fleet.let_deadlines_pass()
        lines = other.wait_until(
            lambda lines: sum(line["charged_by"] == "sweep" for line in lines) == 5, 60
        )
        assert fleet.budget(1)["10000 usd/day"]["used"] == spent(lines)
        dying.start()
        # It tells them before it is ready, and a second later what Redis was too slow for then.
        until(lambda: fleet.spooled() == 0, "the spool is empty")
        by = sorted(record["settled_by"] for record in fleet.records())
        assert by == ["hold"] * 5 + ["late"] * 5 + ["sweep"] * 5
        usage = [line for line in fleet.lines() if line["charged_by"] == "usage"]
        assert len(usage) == 10
        assert fleet.budget()["10000 usd/day"]["used"] == spent(usage)
