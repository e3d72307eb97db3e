"""Several worker processes: a crash, a reload, an upgrade and a stop, with calls under way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.test_lifecycle import Leaver, body, until_nothing_is_held
from tests.support.gateway import REAL_KEY, Road, open_road, real_stores
from tests.support.redis_server import RedisServer

from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess, GatewayProcessError
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Latch, Steps

URL = "https://api.openai.com/v1/chat/completions"
PATIENCE_S = 60.0


def until(condition: Callable[[], object], what: str) -> None:
    """Looks again and again; each look takes its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        os.sched_yield()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Road]:
    """A gateway with two workers, on a real Redis and OpenBao."""
    with open_road(tmp_path, stores="real", workers=2, limits=["100 usd/day"]) as made:
        yield made


@pytest.fixture(params=["embedded", "real"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Road]:
    """One worker with embedded stores, or two with real ones."""
    workers = 1 if request.param == "embedded" else 2
    with open_road(tmp_path, stores=request.param, workers=workers, limits=["100 usd/day"]) as made:
        yield made


def shown(road: Road) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(road.gateway.tollhouse("workers", "--json"))
    return found


def metrics(road: Road) -> dict[str, float]:
    """Sums by name."""
    with urllib.request.urlopen(f"http://{road.gateway.admin}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return dict(found)


class Callers:
    """Clients that call again and again, each time over a new connection."""

    def __init__(self, road: Road, clients: int = 4) -> None:
        self._road = road
        self._context = road.context
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._running = [self._pool.submit(self._run) for _ in range(clients)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with httpx2.Client(
                    proxy=self._road.proxy_url, verify=self._context, trust_env=False, timeout=60
                ) as client:
                    answer = client.post(URL, json=body("again", max_completion_tokens=20))
                    outcome = str(answer.status_code)
                    if answer.status_code != 200:
                        outcome += f" {answer.headers.get('x-tollhouse-reason')}"
            except httpx2.HTTPError as error:
                outcome = f"{type(error).__name__}: {error}"
            with self._lock:
                self.outcomes[outcome] += 1

    def answered(self, count: int) -> None:
        """Until so many more calls were answered."""
        wanted = self.outcomes["200"] + count
        until(lambda: self.outcomes["200"] >= wanted, f"{count} more answers; {self.outcomes}")

    def end(self) -> Counter[str]:
        self._stop.set()
        for running in self._running:
            running.result(PATIENCE_S)
        self._pool.shutdown()
        return self.outcomes


def balanced(road: Road) -> list[dict[str, Any]]:
    """What the provider has answered, the lines and the ledger are the same."""
    until_nothing_is_held(road, PATIENCE_S)
    lines: list[dict[str, Any]] = []

    def equal() -> bool:
        # A line is written behind its settle, and read by a thread.
        lines[:] = road.lines()
        return road.used("100 usd/day") == sum(Decimal(line["cost_usd"]) for line in lines)

    until(equal, f"the ledger and the lines are the same: {road.budget()}")
    assert len({line["call_id"] for line in lines}) == len(lines)
    return lines


def test_two_workers_share_the_calls(two: Road) -> None:
    """Both take connections; metrics and lines are those of both."""
    callers = Callers(two)
    had: set[int] = set()

    def both() -> bool:
        had.update(row["worker"] for row in shown(two) if row["connections"])
        return had == {1, 2}

    until(both, "both have had a connection")
    callers.answered(50)
    outcomes = callers.end()
    assert set(outcomes) == {"200"}, outcomes
    assert {row["worker"] for row in shown(two)} == {1, 2}
    lines = balanced(two)
    assert len(lines) == outcomes.total()
    counted = metrics(two)
    assert counted["tollhouse_calls_total"] == len(lines)
    assert counted["tollhouse_workers"] == 2


def test_the_admin_api_of_several_workers(tmp_path: Path) -> None:
    """The desk takes it, a worker does it, and the log says whose token it was; a command's change names its user."""
    with open_road(tmp_path, stores="real", workers=2, settings={"admin": {"api": True}}) as road:
        made = json.loads(road.gateway.tollhouse("token", "create", "--admin", "--json"))
        api = httpx2.Client(
            base_url=f"http://{road.gateway.admin}/api/v1",
            headers={"Authorization": f"Bearer {made['token']}"},
            trust_env=False,
        )
        for status in (201, 200):
            put = api.put("/projects/several", json={"tenant": "acme", "limits": ["1 usd/day"]})
            assert put.status_code == status
        assert json.loads(road.gateway.tollhouse("project", "show", "several", "--json"))
        found = json.loads(road.gateway.tollhouse("audit", "--json"))
        by = {record["target"]: (record["via"], record["by"]) for record in found}
        assert by["project:several"] == ("api", made["id"])
        assert by[f"token:{made['id']}"] == ("command", f"uid:{os.getuid()}")
        assert api.get("/projects/nobody").status_code == 404
        until(lambda: '"target":"project:several"' in road.gateway.stderr, "a line of the log")
        assert made["token"] not in road.gateway.stderr
        # The desk has the file as it is after a reload.
        with road.gateway.config.open("a") as file:
            file.write('\n[projects.several]\ntenant = "acme"\n')
        road.gateway.tollhouse("reload")

        def of_the_file() -> bool:
            try:
                return bool(api.get("/projects/several").json()["source"] == "file")
            except httpx2.TransportError:
                return False

        until(of_the_file, "the desk knows that the project is the file's")
        assert api.delete("/projects/several").status_code == 409
        last = json.loads(road.gateway.tollhouse("audit", "--json"))[-1]
        assert (last["via"], last["target"]) == ("file", "project:several")
        assert (last["before"]["limits"], last["after"]["limits"]) == (["1 usd/day"], [])


def test_the_supervisor_has_one_thread_and_no_connection(two: Road) -> None:
    """Each child begins as a copy of it."""
    process = psutil.Process(two.gateway.pid)
    assert process.num_threads() == 1
    assert [c for c in process.net_connections("inet") if c.status != psutil.CONN_LISTEN] == []
    two.gateway.worker_pids()
    assert process.num_threads() == 1


def test_where_the_tasks_of_the_workers_wait(two: Road) -> None:
    """SIGUSR1: the log shows it for each worker, and nothing ends."""
    steps = Steps()
    two.standin.script(Behaviour(steps=steps))
    stream = Leaver.on(two, body("go on", stream=True))
    steps.release(2)
    stream.read_until(b"The")
    two.gateway.signal(signal.SIGUSR1)
    wanted = [f"this worker ({pid}) wait" for pid in two.gateway.worker_pids()]
    until(lambda: all(text in two.gateway.stderr for text in wanted), "both say it")
    until(lambda: "Journey.travel" in two.gateway.stderr, "the call is among the tasks")
    steps.release_all()
    stream.read_until(b"[DONE]")
    stream.socket.close()


def test_a_worker_that_is_killed(two: Road) -> None:
    """The other goes on, a new one takes its place, and what it has counted is not forgotten."""
    callers = Callers(two)
    callers.answered(20)
    before = metrics(two)["tollhouse_calls_total"]
    victim = two.gateway.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    until(
        lambda: len(pids := two.gateway.worker_pids()) == 2 and victim not in pids,
        "a successor is ready",
    )
    callers.answered(20)
    outcomes = callers.end()
    # What was in its hands is cut. Nobody is refused: what waits in its queue is its successor's.
    cut = {outcome: count for outcome, count in outcomes.items() if outcome != "200"}
    assert sum(cut.values()) <= 4, cut
    assert not any("refused" in outcome.lower() for outcome in cut), cut
    counted = metrics(two)
    assert counted["tollhouse_calls_total"] >= before
    assert counted["tollhouse_worker_deaths_total"] == 1
    assert "ended with SIGKILL; it is started again" in two.gateway.stderr


@pytest.mark.parametrize("store", ["redis", "vault"])
def test_a_worker_that_dies_while_a_store_is_away(tmp_path: Path, store: str) -> None:
    """Nobody waits in its queue for the store: its successor refuses with the reason, and goes on when the store is back."""
    with contextlib.ExitStack() as stack:
        standin = stack.enter_context(
            StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", "*.api.openai.com"))
        )
        settings: dict[str, dict[str, Any]] = {}
        bao = real_stores(stack, tmp_path, settings)
        (tmp_path / "kept").mkdir()
        redis = stack.enter_context(RedisServer(tmp_path / "kept", append_only=True))
        settings["redis"] = {"url": redis.url}
        bao.put("infrastructure/openai", {"api_key": REAL_KEY})
        gateway = stack.enter_context(
            GatewayProcess(write_config(tmp_path, standin, settings), workers=2)
        )
        gateway.make_project("proj_123", "10 usd/day")
        road = Road(gateway, standin, tmp_path, "proj_123", gateway.make_token("proj_123"))

        def called() -> str:
            with road.http() as client:
                answer = client.post(URL, json=body("now", max_completion_tokens=20))
            return f"{answer.status_code} {answer.headers.get('x-tollhouse-reason', '')}".strip()

        until(lambda: called() == "200", "a call is answered")
        victim = gateway.worker_pids()[0]
        (redis if store == "redis" else bao).pause()
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: len(pids := gateway.worker_pids()) == 2 and victim not in pids,
            "a successor takes connections",
        )
        reason = "ledger_unavailable" if store == "redis" else "credential_unavailable"
        with ThreadPoolExecutor(12) as threads:
            outcomes = Counter(threads.map(lambda _: called(), range(12)))
        assert set(outcomes) <= {"200", f"503 {reason}"}, outcomes
        until(lambda: called() == f"503 {reason}", "the successor refuses")
        (redis if store == "redis" else bao).resume()
        good = Counter[str]()

        def again() -> bool:
            outcome = called()
            good[outcome] += 1
            if outcome != "200":
                good.clear()
            return good["200"] == 12

        until(again, "both answer again")


def test_a_reload_under_load(either: Road) -> None:
    """No call is lost, a stream ends under the old configuration, and the new one counts for the next call."""
    steps = Steps()
    either.standin.script(Behaviour(steps=steps))
    stream = Leaver.on(either, body("go on", stream=True))
    steps.release(2)
    seen = stream.read_until(b"The")
    old = shown(either)
    callers = Callers(either)
    if old[0]["generation"] == 1 and len(old) == 2:
        callers.answered(10)
    text = either.gateway.config.read_text()
    either.gateway.config.write_text(text + "\n[limits]\nmax_body_bytes = 2048\n")
    reloading = threading.Thread(target=either.gateway.tollhouse, args=("reload",))
    reloading.start()
    if len(old) == 2:
        reloading.join(PATIENCE_S)
        callers.answered(10)
    steps.release_all()
    seen += stream.read_until(b"[DONE]")
    # Else the old worker would wait for this connection, for `drain_s`.
    stream.socket.close()
    reloading.join(PATIENCE_S)
    callers.answered(10)
    outcomes = callers.end()
    assert set(outcomes) == {"200"}, outcomes
    ready = [row for row in shown(either) if row["state"] == "ready"]
    assert {row["generation"] for row in ready} == {2}
    assert not {row["pid"] for row in ready} & {row["pid"] for row in old}
    with either.http() as client:
        answer = client.post(URL, json=body("x" * 4096))
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (413, "body_too_large")
    lines = balanced(either)
    assert len([line for line in lines if line["status"] == 200]) == outcomes.total() + 1


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("[limits]\nmax_body_bytes = 1\n", "limits.max_body_bytes"),
        ("[nonsense]\n", "nonsense"),
        ('[log]\ncalls = "none/calls.jsonl"\n', "log.calls"),
    ],
)
def test_a_configuration_that_is_wrong_changes_nothing(
    tmp_path: Path, broken: str, why: str
) -> None:
    """It is refused whole, with its reasons, and the workers stay."""
    with open_road(tmp_path, stores="real", workers=2) as road:
        before = shown(road)
        text = road.gateway.config.read_text()
        if "[log]" in broken:
            text = text.replace('[log]\ncalls = "-"\n', "")
        road.gateway.config.write_text(text + "\n" + broken)
        with pytest.raises(GatewayProcessError) as error:
            road.gateway.tollhouse("reload")
        assert why in str(error.value)
        road.gateway.config.write_text(text if "[log]" in text else text + '[log]\ncalls = "-"\n')
        after = [row for row in shown(road) if row["state"] == "ready"]
        assert [row["pid"] for row in after] == [row["pid"] for row in before]
        assert road.sdk().chat.completions.create(**body("still there")).choices


def test_an_embedded_worker_comes_back_when_its_successor_cannot_start(tmp_path: Path) -> None:
    """It has to end before the successor can be tried; then the configuration that was in use is served again."""
    with open_road(tmp_path) as road:
        with road.sdk() as client:
            client.chat.completions.create(**body("before"))
        used = road.used()
        text = road.gateway.config.read_text()
        broken = text.replace('calls = "-"', 'calls = "none/calls.jsonl"')
        road.gateway.config.write_text(broken)
        with pytest.raises(GatewayProcessError, match=r"log\.calls"):
            road.gateway.tollhouse("reload")
        road.gateway.config.write_text(text)
        until(lambda: [row["state"] for row in shown(road)] == ["ready"], "a worker is ready")
        assert road.used() == used
        assert road.sdk().chat.completions.create(**body("still there")).choices


def test_a_port_that_a_reload_gives_up_is_closed(two: Road) -> None:
    """No process keeps a copy of its sockets: the kernel would take connections that nobody answers."""
    host, _, port = two.gateway.base_url.rpartition(":")
    text = two.gateway.config.read_text()
    assert 'base_url = "127.0.0.1:0"\n' in text
    two.gateway.config.write_text(
        text.replace('base_url = "127.0.0.1:0"', 'base_url = "127.0.0.2:0"')
    )
    two.gateway.tollhouse("reload")

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    until(refused, "the port is closed")
    for pid in two.gateway.worker_pids():
        listening = [
            found.laddr.port
            for found in psutil.Process(pid).net_connections("inet")
            if found.status == psutil.CONN_LISTEN
        ]
        assert len(listening) == 2, "a proxy and a base URL of its own"


def test_sighup_reloads(two: Road) -> None:
    """As the command does."""
    before = two.gateway.worker_pids()
    two.gateway.signal(signal.SIGHUP)
    until(
        lambda: (now := set(two.gateway.worker_pids())) and not now & set(before),
        "new workers are ready",
    )


def test_an_upgrade_under_load(either: Road) -> None:
    """The program is replaced in its process; connections are not refused, and a stream goes on to its end."""
    steps = Steps()
    either.standin.script(Behaviour(steps=steps))
    stream = Leaver.on(either, body("go on", stream=True))
    steps.release(2)
    seen = stream.read_until(b"The")
    pid, old = either.gateway.pid, shown(either)
    callers = Callers(either)
    upgrading = threading.Thread(target=either.gateway.tollhouse, args=("upgrade",))
    upgrading.start()
    if len(old) == 2:
        callers.answered(10)
        upgrading.join(PATIENCE_S)
    steps.release_all()
    seen += stream.read_until(b"[DONE]")
    stream.socket.close()
    upgrading.join(PATIENCE_S)
    callers.answered(10)
    outcomes = callers.end()
    assert set(outcomes) == {"200"}, outcomes
    assert either.gateway.pid == pid
    ready = [row for row in shown(either) if row["state"] == "ready"]
    assert {row["generation"] for row in ready} == {2}
    assert not {row["pid"] for row in ready} & {row["pid"] for row in old}
    assert len(balanced(either)) == outcomes.total() + 1


def test_a_program_that_would_not_start_does_not_take_over(two: Road) -> None:
    """It is asked first; what it says is the answer."""
    before = two.gateway.worker_pids()
    text = two.gateway.config.read_text()
    two.gateway.config.write_text(text + "[nonsense]\n")
    two.gateway.signal(signal.SIGUSR2)
    until(lambda: "not upgraded" in two.gateway.stderr, "it says so")
    assert "nonsense" in two.gateway.stderr
    two.gateway.config.write_text(text)
    assert two.gateway.worker_pids() == before


def test_an_upgrade_that_could_not_listen_or_use_its_ca_is_refused(two: Road) -> None:
    """Behind the exec it would be too late: all workers would end."""
    before = two.gateway.worker_pids()
    text = two.gateway.config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = text.replace('base_url = "127.0.0.1:0"', f'base_url = "{address}"')
        two.gateway.config.write_text(busy)
        with pytest.raises(GatewayProcessError, match=f"{address} cannot be listened on"):
            two.gateway.tollhouse("upgrade")
    added = text.replace("[providers.openai]\n", '[providers.openai]\nhosts = ["llm.example"]\n')
    assert added != text
    two.gateway.config.write_text(added)
    with pytest.raises(GatewayProcessError, match=r"does not cover llm\.example"):
        two.gateway.tollhouse("upgrade")
    with pytest.raises(GatewayProcessError, match=r"does not cover llm\.example"):
        two.gateway.tollhouse("run", "--judge")
    two.gateway.config.write_text(text)
    assert two.gateway.worker_pids() == before


def test_an_upgrade_while_a_worker_retires(two: Road) -> None:
    """The new program watches that worker as well, so a stop waits for its stream and what it counted is not lost."""
    steps = Steps()
    two.standin.script(Behaviour(steps=steps))
    stream = Leaver.on(two, body("go on", stream=True))
    steps.release(2)
    stream.read_until(b"The")
    two.gateway.tollhouse("reload")
    [retiring] = [row["pid"] for row in shown(two) if row["calls"]]
    two.gateway.tollhouse("upgrade")

    def upgraded() -> bool:
        with contextlib.suppress(GatewayProcessError):
            return {row["generation"] for row in shown(two) if row["state"] == "ready"} == {3}
        return False

    until(upgraded, "the third generation is ready")
    assert (retiring, "retiring") in {(row["pid"], row["state"]) for row in shown(two)}
    steps.release_all()
    stream.read_until(b"[DONE]")
    stream.socket.close()
    until(lambda: retiring not in {row["pid"] for row in shown(two)}, "it has ended")
    assert len(balanced(two)) == 1
    assert metrics(two)["tollhouse_calls_total"] == 1


def test_a_second_sigterm_ends_streams_with_an_event(two: Road) -> None:
    """The first one waits for them. The second one does not; the client is told, and what was seen is charged."""
    steps = Steps()
    two.standin.script(Behaviour(steps=steps))
    stream = Leaver.on(two, body("go on", stream=True))
    steps.release(3)
    stream.read_until(b"The")

    def counted() -> bool:
        shown = json.loads(two.gateway.tollhouse("workers", "--json"))
        return any(worker["calls"] for worker in shown)

    until(counted, "the call is counted")
    two.gateway.signal(signal.SIGTERM)

    def stopping() -> bool:
        try:
            urllib.request.urlopen(f"http://{two.gateway.admin}/readyz", timeout=20)
        except urllib.error.HTTPError as answer:
            return "stopping" in answer.read().decode()
        return False

    until(stopping, "it is not ready")
    host, _, port = two.gateway.proxy.rpartition(":")

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    until(refused, "nothing is listened on")
    two.gateway.signal(signal.SIGTERM)
    last = stream.read_until(b"draining")
    assert b"data:" in last
    steps.release_all()
    assert two.gateway.wait() == 0
    assert "stopping: 1 call(s) under way may go on for 30 s" in two.gateway.stderr
    [line] = two.lines()
    assert (line["reason"], line["status"]) == ("stopped", 200)
    assert Decimal(line["cost_usd"]) > 0


def test_a_crash_of_the_embedded_store_forgets_a_second_at_most(tmp_path: Path) -> None:
    """The worker that had the ledger in its memory is killed: its successor knows what was spent."""
    with open_road(tmp_path) as road:
        road.sdk().chat.completions.create(**body("before the crash"))
        used = road.used()
        assert used > 0
        spend = road.directory / "state" / "spend.json"

        def written() -> bool:
            road.budget()
            return spend.exists() and b" usd day" in spend.read_bytes()

        until(written, "it is on the disk")
        os.kill(road.gateway.worker_pids()[0], signal.SIGKILL)
        assert road.sdk(max_retries=5).chat.completions.create(**body("after it")).choices
        until(lambda: road.used() > used, "both are counted")

        def equal() -> bool:
            return road.used() == sum(Decimal(line["cost_usd"]) for line in road.lines())

        until(equal, "the ledger and the lines are the same")


def test_the_workers_end_with_their_supervisor(two: Road) -> None:
    """Nobody is left who would hold a port or a key."""
    workers = [psutil.Process(pid) for pid in two.gateway.worker_pids()]
    children = psutil.Process(two.gateway.pid).children()
    os.kill(two.gateway.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs([*workers, *children], timeout=PATIENCE_S)
    assert alive == []
    assert len(gone) == 3


def test_the_desk_is_started_again(two: Road) -> None:
    """Probes and commands do not depend on one process."""
    root = psutil.Process(two.gateway.pid)
    workers = set(two.gateway.worker_pids())
    [desk] = [child for child in root.children() if child.pid not in workers]
    desk.kill()
    until(lambda: desk.pid not in {child.pid for child in root.children()}, "it has ended")
    until(lambda: len(root.children()) == 3, "there is another one")

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://{two.gateway.admin}/readyz", timeout=20) as answer:
                return bool(json.load(answer)["ready"])
        except urllib.error.HTTPError:
            return False

    until(ready, "it answers")
    assert set(two.gateway.worker_pids()) == workers


def test_a_call_that_waits_in_the_queue_of_a_dead_worker(tmp_path: Path) -> None:
    """It is answered by the successor."""
    with open_road(tmp_path, stores="real", workers=1) as road:
        [pid] = road.gateway.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        gate = Latch()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(lambda: road.sdk().chat.completions.create(**body("later")))
            host, _, port = road.gateway.proxy.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=20):
                os.kill(pid, signal.SIGKILL)
                assert call.result(PATIENCE_S).choices
        gate.open()


def test_a_secret_id_that_is_unwrapped_once(tmp_path: Path) -> None:
    """Every worker logs in with it: the first ones, a successor, and those of a reload and of a new program."""
    with contextlib.ExitStack() as stack:
        standin = stack.enter_context(
            StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", "*.api.openai.com"))
        )
        settings: dict[str, dict[str, Any]] = {}
        bao = real_stores(stack, tmp_path, settings)
        settings["vault"]["auth"]["wrapped"] = True
        bao.put("infrastructure/openai", {"api_key": REAL_KEY})
        answer = httpx2.post(
            f"{bao.address}/v1/auth/approle/role/tollhouse/secret-id",
            headers={
                "X-Vault-Token": bao.root_token_file.read_text().strip(),
                "X-Vault-Wrap-TTL": "300s",
            },
            json={},
            trust_env=False,
        )
        bao.secret_id_file.write_text(answer.json()["wrap_info"]["token"])
        path = write_config(tmp_path, standin, settings)
        gateway = stack.enter_context(GatewayProcess(path, workers=2))
        gateway.make_project("proj_123", "10 usd/day")
        road = Road(gateway, standin, tmp_path, "proj_123", gateway.make_token("proj_123"))
        victim = gateway.worker_pids()[1]
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: len(pids := gateway.worker_pids()) == 2 and victim not in pids,
            "a successor is ready",
        )
        gateway.tollhouse("reload")
        gateway.tollhouse("upgrade")
        gateway.tollhouse("reload")
        assert road.sdk().chat.completions.create(**body("with the key")).choices
        assert b'"secret_id"' not in Path(f"/proc/{gateway.pid}/environ").read_bytes()
