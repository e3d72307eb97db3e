"""Many calls over two workers, while everything fails that can fail; and the sums in the end.

``uv run python -m tests.e2e.faults_run [CALLS]`` prints them. `test_faults_run` makes a smaller run of it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self

import httpx2
from tests.support.gateway import REAL_KEY, Road
from tests.support.openbao import OpenBao
from tests.support.redis_server import RedisServer

from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Latch

URL: Final = "https://api.openai.com/v1/chat/completions"
CLIENTS: Final = 8
SMALL: Final = "0.05 usd/total"
"""The limit of a project whose money ends in the middle of the run."""
SWEPT_S: Final = 150.0
"""Holds of a worker that was killed are swept after 60 s."""


@dataclass
class Sums:
    """What the clients saw, what the provider served, the lines and the ledger."""

    calls: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    """Of the clients: the status and the reason, or the error."""
    served: int = 0
    """Calls that the provider answered in full, each once however often it was tried."""
    lines: int = 0
    swept: int = 0
    line_usd: str = ""
    ledger_usd: str = ""
    small_usd: str = ""
    held: int = 0
    refused_connections: int = 0
    served_and_not_charged: int = 0
    answered_without_a_line: int = 0
    faults: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What must not be."""


class _Run:
    def __init__(self, road: Road, small: str, calls: int) -> None:
        self.road = road
        self.calls = calls
        self.begun = 0
        self.lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.ids: dict[str, str] = {}
        """The call id that a client was told, by the text of its call."""
        self.answered: set[str] = set()
        """Texts of the calls that were answered with 200, whole."""
        self.said: list[str] = []
        """The faults so far."""
        self.now = "no fault yet"
        self._began = time.monotonic()
        self._context = road.context
        host, _, port = road.gateway.proxy.rpartition(":")
        self._proxies = [road.proxy_url, f"http://small:{small}@{host}:{port}"]

    def lasted(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def clients(self) -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(self._client, number) for number in range(CLIENTS)]:
                done.result()

    def _client(self, number: int) -> None:
        proxy = self._proxies[number % 4 == 3]
        client = self._new(proxy)
        while True:
            with self.lock:
                if self.begun >= self.calls:
                    break
                self.begun += 1
                mine = self.begun
            if mine % 7 == 0:
                # Also clients that come anew.
                client.close()
                client = self._new(proxy)
            outcome = self._call(client, f"call {mine}", stream=mine % 3 == 0)
            with self.lock:
                self.outcomes[outcome] += 1
            if outcome.startswith("503"):
                # As an SDK does before it calls again.
                threading.Event().wait(0.1)
        client.close()

    def _new(self, proxy: str) -> httpx2.Client:
        return httpx2.Client(proxy=proxy, verify=self._context, trust_env=False, timeout=60)

    def _call(self, client: httpx2.Client, text: str, *, stream: bool) -> str:
        body = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": text}],
            "max_completion_tokens": 20,
            "stream": stream,
        }
        try:
            with client.stream("POST", URL, json=body) as answer:
                with self.lock:
                    self.ids[text] = answer.headers.get("x-tollhouse-call-id", "")
                content = answer.read()
        except httpx2.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        if answer.status_code == 200:
            if stream and b"[DONE]" not in content:
                return "200, and the stream says why it ends"
            with self.lock:
                self.answered.add(text)
            return "200"
        reason = answer.headers.get("x-tollhouse-reason", "the provider's own")
        return f"{answer.status_code} {reason}"


class Overdue(Exception):
    """The run was ended because it took too long. The text says where it stood."""


class _Limit:
    """Ends a run that takes longer than ``limit_s``: says on stderr where its own threads and the tasks of the workers stand, and
    kills the gateway, so that nothing waits for it any more."""

    def __init__(self, gateway: GatewayProcess, limit_s: float) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self._ended = threading.Event()
        self._limit_s = limit_s
        self._thread = threading.Thread(target=self._watch, name="limit", daemon=True)
        self.stands: Callable[[], str] = lambda: ""
        """How far the run is."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._over.is_set():
            raise Overdue(
                f"the run did not end in {self._limit_s:g} s; it stood at: {self.stands()}. The tasks of the workers:\n"
                f"{self._gateway.stderr[-20_000:]}"
            ) from error

    def _watch(self) -> None:
        if self._ended.wait(self._limit_s):
            return
        self._over.set()
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        seen = len(self._gateway.stderr)
        self._gateway.signal(signal.SIGUSR1)
        for _ in range(100):
            if self._ended.wait(0.1) or "wait:\n" in self._gateway.stderr[seen:]:
                break
        self._ended.wait(1)
        self._gateway.kill()


def run(directory: Path, calls: int, *, limit_s: float = 3_600) -> Sums:
    """Starts a gateway with two workers on a real Redis and OpenBao, and makes the calls. Raises `Overdue`."""
    with contextlib.ExitStack() as stack:
        standin = stack.enter_context(
            StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", "*.api.openai.com"))
        )
        for name in ("redis", "openbao"):
            (directory / name).mkdir()
        redis = stack.enter_context(RedisServer(directory / "redis", append_only=True))
        bao = OpenBao(directory / "openbao")
        stack.callback(bao.stop)
        bao.start()
        bao.put("infrastructure/openai", {"api_key": standin.key})
        files = {"role_id_file": str(bao.role_id_file), "secret_id_file": str(bao.secret_id_file)}
        settings: dict[str, dict[str, Any]] = {
            "redis": {"url": redis.url},
            "vault": {
                "address": bao.address,
                "auth": {"method": "approle", **files},
                "refresh_s": 5,
            },
            "providers.openai": {"answer_timeout_s": 2},
        }
        path = write_config(directory, standin, settings)
        gateway = stack.enter_context(GatewayProcess(path, workers=2))
        gateway.make_project("proj_123", "1000 usd/day")
        gateway.make_project("small", SMALL)
        road = Road(gateway, standin, directory, "proj_123", gateway.make_token("proj_123"))
        running = _Run(road, gateway.make_token("small"), calls)
        limit = stack.enter_context(_Limit(gateway, limit_s))
        faults = _faults(road, redis, bao)
        limit.stands = lambda: (
            f"{running.begun} calls begun, {running.said}, {running.now}; {running.lasted():.0f} s"
        )
        said = _with_faults(running, faults)
        running.now = f"the sums, from {running.lasted():.0f} s on"
        return _sums(running, said)


def _faults(road: Road, redis: RedisServer, bao: OpenBao) -> list[tuple[str, Callable[[], object]]]:
    """In their order; each begins when the next part of the calls has begun."""
    gateway, standin = road.gateway, road.standin

    def reload() -> None:
        gateway.tollhouse("reload")

    def rotate() -> None:
        new = REAL_KEY.replace("the-real-key", f"another-key-{time.monotonic_ns()}")
        standin.keys.add(new)
        bao.put("infrastructure/openai", {"api_key": new})
        standin.keys.discard(REAL_KEY)

    def redis_away() -> None:
        redis.stop()
        threading.Event().wait(1)
        redis.start()

    def kill() -> None:
        os.kill(gateway.worker_pids()[0], signal.SIGKILL)

    def resets() -> None:
        standin.script(*(Behaviour(cut_after=after) for after in (-1, 0, 1, 2, 3) * 4))

    def stalls() -> None:
        standin.script(*(Behaviour(wait=Latch()) for _ in range(4)))

    return [
        ("the configuration is reloaded", reload),
        ("the key rotates", rotate),
        ("Redis goes away for a second", redis_away),
        ("the provider resets 20 answers", resets),
        ("a worker is killed", kill),
        ("Vault goes away", bao.stop),
        ("the provider stalls 4 answers", stalls),
        ("Vault comes back", bao.start),
        ("the configuration is reloaded again", reload),
    ]


def _with_faults(running: _Run, faults: list[tuple[str, Callable[[], object]]]) -> list[str]:
    said = running.said
    ended = threading.Event()

    def happen() -> None:
        for number, (what, do) in enumerate(faults, 1):
            while running.begun < running.calls * number // (len(faults) + 1):
                if ended.wait(0.01):
                    break
            running.now = f"now {what}"
            do()
            said.append(f"{what}, {running.begun} calls begun after {running.lasted():.0f} s")

    with ThreadPoolExecutor(1) as pool:
        happening = pool.submit(happen)
        try:
            running.clients()
        finally:
            ended.set()
        happening.result()
    return said


def _sums(running: _Run, said: list[str]) -> Sums:
    road, gateway = running.road, running.road.gateway
    _until_nothing_is_held(road)
    lines = road.lines()
    used = Decimal(gateway.budget("proj_123")["1000 usd/day"]["used"])
    small = Decimal(gateway.budget("small")[SMALL]["used"])
    cost = sum((Decimal(line["cost_usd"]) for line in lines), Decimal(0))
    by_id = {line["call_id"]: line for line in lines}
    served = {
        json.loads(one.body)["messages"][0]["content"]
        for one in road.standin.snapshot()
        if one.outcome == "answered" and one.status == 200
    }
    told = {text: call_id for text, call_id in running.ids.items() if call_id}
    charged = {line["call_id"] for line in lines if Decimal(line["cost_usd"])}
    # Of a call that was cut before its head the client knows no id: such a call has one of the lines that no client knows.
    unknown = len([text for text in served if text not in told])
    spare = len(charged - set(told.values()))
    sums = Sums(
        calls=running.begun,
        outcomes=dict(running.outcomes.most_common()),
        served=len(served),
        lines=len(lines),
        swept=sum(line["reason"] == "swept" for line in lines),
        line_usd=str(cost),
        ledger_usd=str(used + small),
        small_usd=str(small),
        held=_held(road),
        refused_connections=sum(
            count for what, count in running.outcomes.items() if "refused" in what.lower()
        ),
        served_and_not_charged=len(
            [text for text in served if text in told and told[text] not in charged]
        )
        + max(0, unknown - spare),
        answered_without_a_line=len(
            [text for text in running.answered if told.get(text) not in by_id]
        ),
        faults=said,
    )
    limit = Decimal(SMALL.partition(" ")[0])
    # A hold whose answer was lost with Redis, and whose worker was killed then, is swept: that is a line beside the call's own.
    own = Counter(line["call_id"] for line in lines if line["reason"] != "swept")
    judged = {
        "a call has two lines": max(own.values(), default=0) > 1,
        "the lines and the ledger differ": cost != used + small,
        "a limit was overspent": small > limit,
        "a hold is left": sums.held != 0,
        "a connection was refused": sums.refused_connections != 0,
        "the provider served a call for nothing": sums.served_and_not_charged != 0,
        "an answer has no line": sums.answered_without_a_line != 0,
        "a refusal has no reason": any(what.endswith(" ") for what in running.outcomes),
    }
    sums.wrong = [what for what, so in judged.items() if so]
    return sums


def _held(road: Road) -> int:
    budgets = (road.gateway.budget(project) for project in ("proj_123", "small"))
    return sum(bool(Decimal(limit["held"])) for budget in budgets for limit in budget.values())


def _until_nothing_is_held(road: Road) -> None:
    deadline = time.monotonic() + SWEPT_S
    while _held(road) and time.monotonic() < deadline:
        threading.Event().wait(0.5)


def main() -> int:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        sums = run(Path(directory), calls)
    print(json.dumps(asdict(sums), indent=2))
    return 1 if sums.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
