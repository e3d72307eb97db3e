"""Whom a breaker pauses: through the running gateway, with two tenants who use one key."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from tests.support.attack import Attacked
from tests.support.clock import Clock
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside
from tests.support.raw_socket import RawSocket, handshake

from tollhouse.demo.standin_script import Behaviour, Latch, reply

URL = "https://api.openai.com/v1/chat/completions"
FAILS = reply(500, b'{"error":{"message":"ill"}}')
OTHER = "proj_other"


class Two:
    """Two tenants, and the clock of the gateway."""

    def __init__(self, inside: Inside, clock: Clock) -> None:
        self.inside = inside
        self.clock = clock
        made = inside.do(inside.gateway.operations.perform("token_create", {"projects": [OTHER]}))
        self._tokens = {PROJECT: inside.token, OTHER: str(made["token"])}

    def ask(self, project: str, model: str, times: int = 1) -> list[str]:
        """The status of each call, or our reason."""
        proxy = f"http://{project}:{self._tokens[project]}@{self.inside.gateway.addresses['proxy']}"
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        with httpx2.Client(
            proxy=proxy, verify=self.inside.context, trust_env=False, timeout=30
        ) as client:
            answers = [client.post(URL, json=body) for _ in range(times)]
        return [one.headers.get("x-tollhouse-reason", str(one.status_code)) for one in answers]

    def ill(self) -> None:
        self.inside.standin.always(FAILS)

    def well(self) -> None:
        self.inside.standin.always(Behaviour())


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    settings = {
        "providers.openai": {"attempts": 1},
        f"projects.{PROJECT}": {"tenant": TENANT, "limits": ["1000 requests/minute"]},
        f"projects.{OTHER}": {"tenant": "initech", "limits": ["1000 requests/minute"]},
    }
    clock = Clock()
    with open_inside(tmp_path, settings, clock=clock) as inside:
        yield Two(inside, clock)


def test_one_tenant_fails(two: Two) -> None:
    """Its own calls of that model are paused, and nothing else."""
    two.ill()
    assert two.ask(PROJECT, "gpt-4o", 11) == ["500"] * 10 + ["breaker_open"]
    two.well()
    assert two.ask(PROJECT, "gpt-4o") == ["breaker_open"]
    assert two.ask(PROJECT, "gpt-4o-mini") == ["200"]
    assert two.ask(OTHER, "gpt-4o") == ["200"]
    assert [line["breaker"] for line in two.inside.lines()[-4:]] == [
        "open",
        "open",
        "closed",
        "closed",
    ]


def test_handshakes_fail(two: Two) -> None:
    """A provider that refuses WebSockets with its own faults is paused for them too, and let be asked again."""
    attacked = Attacked(two.inside, 0)

    def shake() -> str:
        socket = RawSocket(attacked.tunnel(), handshake(path="/v1/realtime?model=gpt-realtime"))
        with socket.client:
            return dict(socket.answer.headers).get("x-tollhouse-reason", str(socket.answer.status))

    two.ill()
    assert [shake() for _ in range(11)] == ["500"] * 10 + ["breaker_open"]
    assert len(two.inside.standin.snapshot()) == 10
    two.well()
    assert shake() == "breaker_open"
    two.clock.now += 60
    assert shake() == "101"


def test_several_tenants_fail(two: Two) -> None:
    """It is the provider then: both are paused before either has found out alone, but for another model."""
    two.ill()
    for project in (PROJECT, OTHER):
        assert two.ask(project, "gpt-4o", 5) == ["500"] * 5
    for project in (PROJECT, OTHER):
        assert two.ask(project, "gpt-4o") == ["breaker_open"]
        assert two.ask(project, "gpt-4o-mini") == ["500"]


def test_a_model_that_a_project_names(two: Two) -> None:
    """It has no price, and a breaker of its own all the same."""
    perform = two.inside.gateway.operations.perform
    listed = {"project": PROJECT, "tenant": TENANT, "models": ["*", "own-1", "openai/own-2"]}
    two.inside.do(perform("project_set", listed))
    two.ill()
    assert two.ask(PROJECT, "own-1", 11)[9:] == ["500", "breaker_open"]
    assert two.ask(PROJECT, "own-2") == ["500"]
    assert two.ask(PROJECT, "not-named") == ["500"]


def test_names_that_nobody_knows(two: Two) -> None:
    """They share a breaker, so that a client can't have one made for each name that it thinks of."""
    two.ill()
    for number in range(10):
        assert two.ask(PROJECT, f"no-such-model-{number}") == ["500"]
    assert two.ask(PROJECT, "another-such-model") == ["breaker_open"]
    assert two.ask(PROJECT, "gpt-4o") == ["500"]


@pytest.mark.parametrize("status", [400, 404, 408, 413, 422, 429])
def test_what_the_request_is_at_fault_for(two: Two, status: int) -> None:
    """The provider lives: no breaker opens, of whichever tenant."""
    two.inside.standin.always(reply(status, b'{"error":{"message":"no"}}'))
    assert two.ask(PROJECT, "gpt-4o", 12) == [str(status)] * 12
    two.well()
    assert two.ask(OTHER, "gpt-4o") == two.ask(PROJECT, "gpt-4o") == ["200"]


def test_half_open(two: Two) -> None:
    """After 10 s three calls are let through at a time. One that fails is another pause, one that succeeds is the end of it."""
    two.ill()
    assert two.ask(PROJECT, "gpt-4o", 10) == ["500"] * 10
    two.clock.advance(9.9)
    assert two.ask(PROJECT, "gpt-4o") == ["breaker_open"]
    two.clock.advance(0.1)
    assert two.ask(PROJECT, "gpt-4o", 2) == ["500", "breaker_open"]
    two.clock.advance(10.0)
    gate, seen = Latch(), len(two.inside.standin.snapshot())
    two.inside.standin.always(Behaviour(wait=gate))
    with ThreadPoolExecutor(3) as pool:
        probes = [pool.submit(two.ask, PROJECT, "gpt-4o") for _ in range(3)]
        two.inside.standin.wait_count(seen + 3)
        assert two.ask(PROJECT, "gpt-4o") == ["breaker_open"]
        assert two.inside.lines()[-1]["breaker"] == "half_open"
        gate.open()
        assert [probe.result() for probe in probes] == [["200"]] * 3
    assert two.ask(PROJECT, "gpt-4o", 4) == ["200"] * 4
    assert two.inside.lines()[-1]["breaker"] == "closed"
