"""SECURITY.md row 25: a fault in any gate of the running gateway, and nothing has left."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from tests.support.inproc import Inside, open_inside

from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.ledger.store.client import LedgerUnavailable

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module", params=["embedded", "real"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    """A gateway on embedded stores, then one on redis-server and OpenBao."""
    with open_inside(tmp_path_factory.mktemp("inside"), stores=request.param) as inside:
        yield inside


@pytest.fixture
def inside(shared: Inside) -> Inside:
    shared.standin.clear()
    return shared


def call(inside: Inside) -> httpx2.Response:
    context = ssl.create_default_context(cafile=str(inside.ca_file))
    with httpx2.Client(
        proxy=inside.proxy_url, verify=context, trust_env=False, timeout=30
    ) as client:
        return client.post("https://api.openai.com/v1/chat/completions", json=BODY)


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError("injected fault")


async def boom_later(*_: Any, **__: Any) -> Any:
    await asyncio.sleep(0)
    raise RuntimeError("injected fault")


async def nothing(*_: Any, **__: Any) -> Any:
    return None


async def yes(*_: Any, **__: Any) -> Any:
    return True


async def no_ledger(*_: Any, **__: Any) -> Any:
    raise LedgerUnavailable("injected fault")


async def no_key(*_: Any, **__: Any) -> Any:
    raise CredentialUnavailable("injected fault")


def used(inside: Inside) -> dict[str, str]:
    """What is charged so far, by limit."""
    return {limit: shown["used"] for limit, shown in inside.budget().items()}


def nothing_left(inside: Inside, answer: httpx2.Response, reason: str, gate: str) -> None:
    """The provider received nothing, the client was told, the hold is gone, and the line names the gate."""
    assert answer.status_code == 503
    assert answer.headers["x-tollhouse-reason"] == reason
    assert answer.json()["error"]["code"] == reason
    assert inside.standin.snapshot() == []
    line = next(
        line for line in inside.lines() if line["call_id"] == answer.headers["x-tollhouse-call-id"]
    )
    assert (line["reason"], line["gate"], line["cost_usd"]) == (reason, gate, "0")
    assert inside.held() == []
    assert {limit["held"] for limit in inside.budget().values()} == {"0"}


GATES = (
    *("Locate", "Aim", "Identify", "Bill", "Open", "CallLimits", "Place"),
    *("ReadBody", "ByModel", "Models", "Recall", "Purse"),
)
FAULTS = {"raises": boom, "raises later": boom_later, "gives nothing": nothing, "gives True": yes}


def test_no_gate_is_left_out(inside: Inside) -> None:
    """The tests below go through all of them, and the credential gate has tests of its own."""
    assert tuple(type(gate).__name__ for gate in inside.gateway.journey.gates) == GATES


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("number", range(len(GATES)), ids=GATES)
def test_a_faulty_gate_lets_nothing_out(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, number: int, fault: Callable[..., Any]
) -> None:
    """Each gate in turn raises, at once or after a wait, or gives what is no stage of a call."""
    gates = list(inside.gateway.journey.gates)
    gate = gates[number]

    class Faulty:
        name = gate.name
        gives = gate.gives
        __call__ = staticmethod(fault)

    gates[number] = Faulty()
    monkeypatch.setattr(inside.gateway.journey, "gates", tuple(gates))
    before = used(inside)
    nothing_left(inside, call(inside), "internal", gate.name)
    assert used(inside) == before


@pytest.mark.parametrize("number", range(len(GATES)), ids=GATES)
def test_a_missing_gate_lets_nothing_out(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A road without one of its gates: the next one gets a stage that it can do nothing with. Five gates have nothing to
    add: there is room for the call, the body is there at once, the host names the provider, the project has no list of models,
    and no answer is waited for."""
    gates = list(inside.gateway.journey.gates)
    del gates[number]
    monkeypatch.setattr(inside.gateway.journey, "gates", tuple(gates))
    answer = call(inside)
    if GATES[number] in ("CallLimits", "Place", "ByModel", "Models", "Recall"):
        assert answer.status_code == 200
        return
    after = gates[number].name if number < len(gates) else "credential"
    nothing_left(inside, answer, "internal", after)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_faulty_credential_gate_gives_the_hold_back(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any]
) -> None:
    """The last gate fails when the hold is already taken: it is released, the request count too."""
    before = used(inside)
    monkeypatch.setattr(inside.gateway.keys, "get", fault)
    nothing_left(inside, call(inside), "internal", "credential")
    assert used(inside) == before


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
    with pytest.raises(TypeError):
        inside.gateway.relay.delivery(object())  # type: ignore[arg-type]
    assert inside.standin.snapshot() == []


def test_a_fault_in_the_way_out_is_ours(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of dispatch itself, before anything was sent, is a 503 of ours and costs nothing."""
    before = used(inside)
    monkeypatch.setattr(inside.gateway.upstream, "send", boom_later)
    answer = call(inside)
    assert answer.status_code == 503
    assert answer.headers["x-tollhouse-reason"] == "internal"
    assert inside.standin.snapshot() == []
    assert inside.held() == []
    assert used(inside) == before


ENDINGS: dict[str, tuple[Callable[[Inside], Any], str]] = {
    "the charge": (lambda inside: inside.gateway.purse, "charge"),
    "the line's fields": (lambda inside: inside.gateway.book, "clock"),
    "the line's file": (lambda inside: inside.gateway.book, "write"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_fault_in_the_end_of_a_refused_call(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """A call that may not leave does not leave, and nothing stays held for it, whatever else is broken."""
    part, name = ENDINGS[ending]
    before = used(inside)
    monkeypatch.setattr(inside.gateway.keys, "get", no_key)
    monkeypatch.setattr(part(inside), name, boom)
    with contextlib.suppress(httpx2.RemoteProtocolError, httpx2.ReadError):
        call(inside)
    assert inside.standin.snapshot() == []
    assert inside.held() == []
    assert used(inside) == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_fault_in_the_end_of_a_call(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """One request was sent, and nothing stays held for it."""
    part, name = ENDINGS[ending]
    monkeypatch.setattr(part(inside), name, boom)
    with contextlib.suppress(httpx2.RemoteProtocolError, httpx2.ReadError):
        assert call(inside).status_code == 200
    assert len(inside.standin.snapshot()) == 1
    assert inside.held() == []


@pytest.mark.parametrize("verdict", ["connect", "context"])
def test_a_faulty_judge_opens_no_tunnel(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    """Without its decision the tunnel is refused."""
    tunnel = inside.gateway.entrances.tunnel
    monkeypatch.setattr(tunnel, verdict, boom)
    with pytest.raises((httpx2.ProxyError, httpx2.ConnectError)):
        call(inside)
    assert inside.standin.dialled == 0


def test_a_journey_that_fails_whole_answers_nothing(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
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
