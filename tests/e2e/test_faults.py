"""Fail closed: a fault in any gate of the running gateway, and nothing has left."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from tests.support.inproc import Inside, open_inside

from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.denial import Decision
from tollhouse.ledger.store.client import LedgerUnavailable

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module", params=["embedded", "real"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway on embedded stores, then one on redis-server and OpenBao."""
    with open_inside(tmp_path_factory.mktemp("inside"), stores=request.param) as inside:
        yield inside


@pytest.fixture
def inside(shared: Inside) -> Inside:
    shared.standin.clear()
    return shared


def call(inside: Inside) -> httpx2.Response:
    context = ssl.create_default_context(cafile=str(inside.ca_file))
    with httpx2.Client(proxy=inside.proxy_url, verify=context, trust_env=False, timeout=30) as client:
        return client.post("https://api.openai.com/v1/chat/completions", json=BODY)


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError("injected fault")


async def boom_later(*_: Any, **__: Any) -> Any:
    await asyncio.sleep(0)
    raise RuntimeError("injected fault")


async def nothing(*_: Any, **__: Any) -> Any:
    return None


async def no_ledger(*_: Any, **__: Any) -> Any:
    raise LedgerUnavailable("injected fault")


async def no_key(*_: Any, **__: Any) -> Any:
    raise CredentialUnavailable("injected fault")


def nothing_left(inside: Inside, answer: httpx2.Response, reason: str, gate: str) -> None:
    """The provider received nothing, the client was told, the hold is gone, and the line names the gate."""
    assert answer.status_code == 503
    assert answer.headers["x-tollhouse-reason"] == reason
    assert answer.json()["error"]["code"] == reason
    assert inside.standin.snapshot() == []
    line = next(line for line in inside.lines() if line["call_id"] == answer.headers["x-tollhouse-call-id"])
    assert (line["reason"], line["gate"], line["cost_usd"]) == (reason, gate, "0")
    assert inside.held() == []
    assert {limit["held"] for limit in inside.budget().values()} == {"0"}


@pytest.mark.parametrize("fault", [boom, boom_later, nothing], ids=["raises", "raises later", "gives nothing"])
@pytest.mark.parametrize("number", [0, 1, 2, 3], ids=["admit", "read", "models", "budget"])
def test_a_faulty_gate_lets_nothing_out(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, number: int, fault: Callable[..., Any]
) -> None:
    """Each gate in turn raises, at once or after a wait, or returns no decision."""
    gate = inside.gateway.gates[number]

    class Faulty:
        name = gate.name
        __call__ = staticmethod(fault)

    gates = list(inside.gateway.gates)
    gates[number] = Faulty()  # type: ignore[call-overload]
    monkeypatch.setattr(inside.gateway.journey, "_gates", tuple(gates))
    nothing_left(inside, call(inside), "internal", gate.name)


@pytest.mark.parametrize("fault", [boom, boom_later, nothing], ids=["raises", "raises later", "gives nothing"])
def test_a_faulty_credential_gate_gives_the_hold_back(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any]
) -> None:
    """The last gate fails when the hold is already taken: it is released, the request count too."""
    before = inside.budget()
    monkeypatch.setattr(inside.gateway.keys, "get", fault)
    nothing_left(inside, call(inside), "internal", "credential")
    assert {k: v["used"] for k, v in inside.budget().items()} == {k: v["used"] for k, v in before.items()}


def test_a_ledger_that_is_away_is_said(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis gone at the hold: 503 with Retry-After."""
    monkeypatch.setattr(inside.gateway.ledger, "hold", no_ledger)
    answer = call(inside)
    nothing_left(inside, answer, "ledger_unavailable", "budget")
    assert answer.headers["retry-after"] == "1"


def test_a_directory_that_is_away_is_said(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis gone when the token is looked up: nobody is let in unseen."""
    monkeypatch.setattr(inside.gateway.directory, "find", no_ledger)
    nothing_left(inside, call(inside), "ledger_unavailable", "admit")


def test_a_key_that_cannot_be_had_is_said(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vault gone and the cache over: 503, the hold given back."""
    monkeypatch.setattr(inside.gateway.keys, "get", no_key)
    nothing_left(inside, call(inside), "credential_unavailable", "credential")


def test_dispatch_takes_nothing_but_a_clearance(inside: Inside) -> None:
    """A call that was never cleared cannot be handed to the relay at all."""
    relay = inside.gateway.journey._relay
    with pytest.raises(TypeError):
        relay.delivery(object(), object())  # type: ignore[arg-type]
    assert inside.standin.snapshot() == []


def test_a_fault_in_the_way_out_is_ours(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of dispatch itself, before anything was sent, is a 503 of ours and costs nothing."""
    monkeypatch.setattr(inside.gateway.upstream, "send", boom_later)
    answer = call(inside)
    assert answer.status_code == 503
    assert answer.headers["x-tollhouse-reason"] == "internal"
    assert inside.standin.snapshot() == []
    assert inside.held() == []


@pytest.mark.parametrize("hook", ["tollhouse_connect", "tollhouse_handshake"])
def test_a_faulty_addon_opens_no_tunnel(inside: Inside, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """mitmproxy logs what an addon raises and goes on: without its decision the tunnel is refused."""
    tunnel = inside.gateway.tunnel
    monkeypatch.setattr(tunnel, hook, boom)
    with pytest.raises((httpx2.ProxyError, httpx2.ConnectError)):
        call(inside)
    assert inside.standin.dialled == 0


def test_a_journey_that_fails_whole_answers_nothing(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coroutine of a call itself raises: the client's connection is cut, the provider saw nothing."""
    monkeypatch.setattr(inside.gateway.journey, "travel", boom_later)
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        call(inside)
    assert inside.standin.snapshot() == []


def test_the_way_is_open_without_faults(inside: Inside) -> None:
    """The same call without a fault goes out: the tests above can fail."""
    answer = call(inside)
    assert answer.status_code == 200
    [received] = inside.standin.wait_count(1)
    assert received.document()["model"] == "gpt-4o"
    assert inside.held() == []


def test_decisions_have_no_default() -> None:
    """A refusal without a reason and an allowance with one cannot be made."""
    with pytest.raises(ValueError, match="refusal"):
        Decision(False, "admit", None)
    with pytest.raises(TypeError):
        Decision()  # type: ignore[call-arg]
