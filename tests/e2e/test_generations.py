"""What goes on over a reload and an upgrade: counters, HTTP/2 connections, and all of a configuration that stays in use."""

from __future__ import annotations

import base64
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.test_lifecycle import body, until_nothing_is_held
from tests.e2e.test_workers import PATIENCE_S, URL, balanced, shown, until
from tests.support.gateway import Road, open_road
from tests.support.raw import H2Client, RawClient
from tests.support.redis_server import RedisServer

from tollhouse.demo.gateway_process import GatewayProcessError
from tollhouse.demo.standin_script import Behaviour, Steps


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Road]:
    with open_road(tmp_path, stores="real", workers=2, limits=["100 usd/day"]) as made:
        yield made


# Counters.

Counters = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counters(road: Road) -> Counters:
    """All of them by name and labels. While a new program begins, its desk does, too: it is asked again."""
    found: list[str] = []

    def answered() -> bool:
        try:
            with urllib.request.urlopen(
                f"http://{road.gateway.admin}/metrics", timeout=20
            ) as answer:
                found.append(answer.read().decode())
        except OSError:
            return False
        return True

    until(answered, "the metrics are told")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(found[0])
        if family.type == "counter"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def called(counted: Counters) -> float:
    return sum(value for (name, _), value in counted.items() if name == "tollhouse_calls_total")


def ready_generations(road: Road) -> set[int]:
    """Of the workers that take connections; none while the desk is replaced."""
    try:
        return {row["generation"] for row in shown(road) if row["state"] == "ready"}
    except GatewayProcessError:
        return set()


def test_no_counter_goes_back_over_an_upgrade(two: Road) -> None:
    """Of workers that were killed, that have retired, and that run: the next program has what they counted."""

    def call() -> None:
        assert two.sdk(max_retries=5).chat.completions.create(**body("one more")).choices

    for _ in range(3):
        call()
    seen = counters(two)
    assert called(seen) == 3
    victim = two.gateway.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    until(
        lambda: len(pids := two.gateway.worker_pids()) == 2 and victim not in pids,
        "a successor is ready",
    )
    two.gateway.tollhouse("reload")
    until(lambda: len(shown(two)) == 2, "those of the first generation have ended")
    call()
    for generation in (3, 4):
        before = counters(two)
        assert before["tollhouse_worker_deaths_total", ()] == 1
        two.gateway.tollhouse("upgrade")
        looks = 0
        while ready_generations(two) != {generation} or not looks:
            after = counters(two)
            looks += 1
            assert {
                name: after.get(name, -1) for name in before if after.get(name, -1) < before[name]
            } == {}
            before = after
        call()
    until(lambda: called(counters(two)) == 6, "the last call is counted")
    assert len(balanced(two)) == 6


# A reload that is refused.

WAITING = '''
import asyncio, os, pathlib
HERE = pathlib.Path(__file__).parent
class Waiting:
    """The first worker that has it is number 1. Each waits until it may go on; {fails} does not."""
    async def running(self):
        number = 1
        while True:
            try:
                os.close(os.open(HERE / f"prepared-{{number}}", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                number += 1
        while not (HERE / f"go-{{number}}").exists():
            await asyncio.sleep(0.01)
        if number == {fails}:
            raise RuntimeError("the addon fails")
'''
CHANGED = """
[limits]
max_body_bytes = 2048
[addons]
load = ["waiting.py:Waiting"]
timeout_s = 120
[projects.proj_123]
tenant = "acme"
limits = ["1 usd/day"]
[projects.late]
tenant = "acme"
limits = ["2 usd/day"]
[tenants.acme]
limits = ["3 usd/month"]
"""


class Reload:
    """To a configuration with other limits, whose workers wait for leave to be prepared."""

    def __init__(self, road: Road, *, fails: int = 0) -> None:
        self._road = road
        self._directory = road.gateway.config.parent
        self.before = self.state()
        self._directory.chmod(0o700)
        addon = self._directory / "waiting.py"
        addon.write_text(WAITING.format(fails=fails))
        addon.chmod(0o644)
        text = road.gateway.config.read_text()
        assert "[limits]" not in text
        road.gateway.config.write_text(text + CHANGED)
        self._pool = ThreadPoolExecutor(1)
        self._command = self._pool.submit(road.gateway.tollhouse, "reload")

    def waits(self, number: int) -> None:
        """Until the worker of this number is about to be prepared."""
        until((self._directory / f"prepared-{number}").exists, f"worker {number} waits")

    def go(self, number: int) -> None:
        (self._directory / f"go-{number}").touch()

    def error(self) -> str:
        with pytest.raises(GatewayProcessError) as error:
            self._command.result(PATIENCE_S)
        self._pool.shutdown()
        return str(error.value)

    def done(self) -> None:
        self._command.result(PATIENCE_S)
        self._pool.shutdown()

    def state(self) -> tuple[Any, ...]:
        """What a configuration changes: the projects, their budgets, and who serves."""
        gateway = self._road.gateway
        scopes = json.loads(gateway.tollhouse("budget", "show", "proj_123", "--json"))["scopes"]
        return (
            json.loads(gateway.tollhouse("project", "list", "--json")),
            {scope["scope"]: [limit["limit"] for limit in scope["limits"]] for scope in scopes},
            [(row["worker"], row["pid"]) for row in shown(self._road) if row["state"] == "ready"],
        )


def long_call(road: Road) -> None:
    """One that the new configuration would refuse, over a connection of its own."""
    with road.http() as client:
        answer = client.post(URL, json=body("x" * 4096, max_completion_tokens=20))
    assert answer.status_code == 200, answer.headers.get("x-tollhouse-reason")


def test_a_reload_whose_second_worker_fails_changes_nothing(two: Road) -> None:
    """Neither the projects nor the limits of its file count, and the first worker has taken no call."""
    reload = Reload(two, fails=2)
    reload.waits(1)
    reload.go(1)
    reload.waits(2)
    until(lambda: "prepared" in [row["state"] for row in shown(two)], "the first one is prepared")
    for _ in range(20):
        long_call(two)
    reload.go(2)
    assert "running" in reload.error()
    until(lambda: len(shown(two)) == 2, "the workers of the new file have ended")
    assert reload.state() == reload.before
    long_call(two)
    assert len(balanced(two)) == 21


def test_a_reload_while_the_ledger_is_away_changes_nothing(tmp_path: Path) -> None:
    """All workers are ready when Redis goes away: the projects can't be written, and the answer says so."""
    (tmp_path / "redis").mkdir()
    with (
        RedisServer(tmp_path / "redis", append_only=True) as redis,
        open_road(tmp_path / "gateway", {"redis": {"url": redis.url}}, workers=2) as road,
    ):
        reload = Reload(road)
        reload.waits(1)
        reload.go(1)
        reload.waits(2)
        redis.stop()
        reload.go(2)
        assert "the store can't be reached" in reload.error()
        redis.start()
        until(lambda: len(shown(road)) == 2, "the workers of the new file have ended")
        until(lambda: all(not row["reasons"] for row in shown(road)), "those in use see Redis")
        assert reload.state() == reload.before
        long_call(road)
        until_nothing_is_held(road, PATIENCE_S)
        assert len(road.wait_lines(1)) == 1


def test_a_reload_that_is_taken_counts_as_a_whole(two: Road) -> None:
    """When it is answered the projects are written, and every worker has the new configuration."""
    reload = Reload(two)
    for number in (1, 2):
        reload.waits(number)
        reload.go(number)
    reload.done()
    projects, budgets, workers = reload.state()
    assert [project["project"] for project in projects] == ["late", "proj_123"]
    assert budgets == {"tenant:acme": ["3 usd/month"], "project:proj_123": ["1 usd/day"]}
    assert not {pid for _, pid in workers} & {pid for _, pid in reload.before[2]}
    with two.http() as client:
        answer = client.post(URL, json=body("x" * 4096))
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (413, "body_too_large")


def test_a_reload_that_moves_a_project_to_another_tenant_changes_nothing(two: Road) -> None:
    """The file can be read, and its workers are prepared; the ledger refuses it, and takes back what comes before."""
    before = (two.gateway.tollhouse("project", "list", "--json"), two.gateway.worker_pids())
    text = two.gateway.config.read_text()
    projects = '[projects.early]\ntenant = "acme"\n[projects.proj_123]\ntenant = "other"\n'
    two.gateway.config.write_text(text + projects)
    with pytest.raises(GatewayProcessError, match="belongs to tenant acme"):
        two.gateway.tollhouse("reload")
    two.gateway.config.write_text(text)
    after = (two.gateway.tollhouse("project", "list", "--json"), two.gateway.worker_pids())
    assert after == before


# HTTP/2.


def test_an_http2_client_over_a_reload(two: Road) -> None:
    """Its open stream ends whole, and its next request goes to the new workers over another connection."""
    steps = Steps()
    two.standin.script(Behaviour(steps=steps, text="one two three"))
    with two.http(http2=True) as client:
        chat = body("go on", stream=True)
        with client.stream("POST", URL, json=chat) as answer:
            steps.release(2)
            pieces = answer.iter_raw()
            seen = next(pieces)
            first = answer.extensions["network_stream"].get_extra_info("client_addr")
            two.gateway.tollhouse("reload")
            steps.release_all()
            seen += b"".join(pieces)
        assert answer.http_version == "HTTP/2"
        assert seen.endswith(b"data: [DONE]\n\n")
        assert b"three" in seen
        again = client.post(URL, json=body("again"))
        assert (again.status_code, again.http_version) == (200, "HTTP/2")
        assert again.extensions["network_stream"].get_extra_info("client_addr") != first
    until(lambda: ready_generations(two) == {2} and len(shown(two)) == 2, "the old ones end")
    assert len(balanced(two)) == 2


def test_an_idle_http2_client_over_a_reload(two: Road) -> None:
    """Its connection is given up between two requests, and it sees no error."""
    with two.http(http2=True) as client:
        for number in range(3):
            answer = client.post(URL, json=body(f"call {number}"))
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            two.gateway.tollhouse("reload")
    assert len(balanced(two)) == 3


def test_an_http2_client_is_told_to_go_away(two: Road) -> None:
    """Behind the end of its last stream, and with that stream's number: what comes later belongs on another connection."""
    steps = Steps()
    two.standin.script(Behaviour(steps=steps, text="one two three"))
    host, _, port = two.gateway.proxy.rpartition(":")
    credentials = base64.b64encode(f"{two.project}:{two.token}".encode()).decode()
    with RawClient((host, int(port)), two.ca_file) as raw:
        raw.connect("api.openai.com:443", f"Proxy-Authorization: Basic {credentials}")
        raw.tls("api.openai.com", ("h2",))
        client = H2Client(raw)
        stream = client.request(
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "api.openai.com"),
                (":path", "/v1/chat/completions"),
                ("content-type", "application/json"),
            ],
            json.dumps(body("go on", stream=True)).encode(),
        )
        two.standin.wait_count(1)
        two.gateway.tollhouse("reload")
        steps.release_all()
        answer = client.answer(stream)
        assert answer.status == 200
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert client.until_goaway() == stream
    until(lambda: len(shown(two)) == 2, "the old workers have ended")
    assert len(balanced(two)) == 1
