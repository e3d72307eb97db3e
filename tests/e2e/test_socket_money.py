"""What WebSocket sessions hold and are charged, and how they end: in good order, by the budget, by who leaves."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.support.attack import Attacked, watched
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import Closed
from tests.support.raw_socket import RawSocket, frame, handshake, text
from tests.support.redis_server import RedisServer

from tollhouse.demo.standin_script import Behaviour, Latch, Steps, reply

RESPONSES = "/v1/responses"
CLOSE = frame(8, b"\x03\xe8")
# gpt-realtime's list price in nano-dollars a token.
READ, WRITTEN, CACHED, HEARD, SAID = 4_000, 16_000, 400, 32_000, 64_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings: Any = {
        f"projects.{PROJECT}": {"limits": ["100 usd/day", "1000 requests/day"]},
        "limits": {"abandoned_read_s": 1},
    }
    with open_inside(tmp_path_factory.mktemp("money"), settings) as inside:
        yield inside


@pytest.fixture
def attacked(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    before = gateway.do(tasks())
    yield from watched(gateway, caplog)
    gateway.until(lambda _: not gateway.gateway.entrances.listeners.connections)
    gateway.do(nothing_but(before))


async def tasks() -> set[str]:
    return {repr(task.get_coro()).split(" at ")[0] for task in asyncio.all_tasks()}


async def nothing_but(before: set[str]) -> None:
    """Returns when no task is left that was not there before."""
    async with asyncio.timeout(10):
        while not await tasks() <= before | await tasks_of_here():  # noqa: ASYNC110 - after each turn
            await asyncio.sleep(0)


async def tasks_of_here() -> set[str]:
    """What asks."""
    current = asyncio.current_task()
    assert current is not None
    return {repr(current.get_coro()).split(" at ")[0]}


def opened(attacked: Attacked, path: str = "/v1/realtime?model=gpt-realtime") -> RawSocket:
    socket = RawSocket(attacked.tunnel(), handshake(path=path))
    assert socket.answer.status == 101
    if path != RESPONSES:
        socket.until("session.created")
    return socket


def used(attacked: Attacked, limit: str = "100 usd/day") -> Decimal:
    return Decimal(attacked.inside.budget()[limit]["used"])


def test_the_price_of_sound(attacked: Attacked) -> None:
    """By modality, cached and not, and what is written down by its own model."""
    before, requests = used(attacked), used(attacked, "1000 requests/day")
    socket = opened(attacked)
    writer = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    sound = base64.b64encode(bytes(48_000)).decode()
    with socket.client as client:
        client.send(text(type="session.update", session={"type": "realtime", **writer}))
        socket.until("session.updated")
        for _ in range(2):
            client.send(text(type="input_audio_buffer.append", audio=sound))
            client.send(text(type="input_audio_buffer.commit"))
            socket.until("response.done")
        client.send(CLOSE)
        socket.until("close")
    [line] = attacked.lines(1)
    text_read, heard = (30 + 60) - 10, (70 + 140) - 10
    own = text_read * READ + heard * HEARD + 20 * CACHED + (15 + 30) * WRITTEN + (45 + 90) * SAID
    # gpt-4o-transcribe: 6 USD for a million tokens of sound, 10 for those of text that it writes.
    written_down = 2 * (20 * 6_000 + 5 * 10_000)
    assert Decimal(line["cost_usd"]) * 10**9 == own + written_down
    assert [charge["model"] for charge in line["charges"]] == ["gpt-4o-transcribe", "gpt-realtime"]
    assert line["charged_by"] == "usage"
    assert used(attacked) - before == Decimal(line["cost_usd"])
    assert used(attacked, "1000 requests/day") - requests == 2


def test_what_is_held(attacked: Attacked) -> None:
    """From the handshake on for one answer, which the provider may begin by itself; for one more while one is under way."""
    steps = Steps()
    attacked.inside.standin.script(Behaviour(steps=steps))
    socket = RawSocket(attacked.tunnel(), handshake())
    held = [Decimal(attacked.inside.budget()["100 usd/day"]["held"])]
    steps.release(1)
    socket.until("session.created")
    with socket.client as client:
        client.send(text(type="response.create"))
        attacked.inside.standin.wait_for(lambda book: bool(book[0].messages))
        held.append(Decimal(attacked.inside.budget()["100 usd/day"]["held"]))
        steps.release_all()
        socket.until("response.done")
        client.send(CLOSE)
        socket.until("close")
    attacked.lines(1)
    one = Decimal(1_024 * HEARD + 4_096 * SAID) / 10**9
    assert held == [one, 2 * one]


@pytest.mark.parametrize("detection", ["on", "off"])
def test_the_budget_ends_in_the_middle(
    tmp_path: Any, caplog: pytest.LogCaptureFixture, detection: str
) -> None:
    """The answer that was held for is given whole. Behind it the client is told in the provider's own form, and closed with
    1008; no message more reaches the provider, and no more is spent than there is."""
    project = {f"projects.{PROJECT}": {"limits": ["0.4 usd/day"]}}
    with open_inside(tmp_path, project) as inside:
        attacked = Attacked(inside, 0)
        socket = opened(attacked)
        with socket.client as client:
            if detection == "off":
                session = {"audio": {"input": {"turn_detection": None}}}
                client.send(text(type="session.update", session=session))
                socket.until("session.updated")
            answers = 0
            while True:
                client.send(text(type="response.create"))
                came = socket.next()
                while came.event["type"] not in ("response.done", "error"):
                    came = socket.next()
                if came.event["type"] == "error":
                    break
                answers += 1
            assert came.event["error"]["code"] == "budget_exceeded"
            assert came.event["error"]["type"] == "insufficient_quota"
            close = socket.until("close")
        assert close.code == 1008
        assert str(close.data).startswith("The budget does not cover")
        [line] = attacked.lines(1)
        [received] = inside.standin.snapshot()
        assert (line["status"], line["reason"], line["gate"]) == (101, "budget_exceeded", "session")
        assert len(received.bills) == answers
        assert line["charged_by"] in ("usage", "none")
        assert 0 <= Decimal(line["cost_usd"]) <= Decimal("0.4")
        # With turn detection one more answer has to fit than was asked for.
        assert (answers > 0) is (detection == "off")


def test_a_response_that_is_too_dear(tmp_path: Any) -> None:
    """Each request is held before it leaves: with the cap that it has it does not fit, and with a smaller one it does."""
    project = {f"projects.{PROJECT}": {"limits": ["0.001 usd/day"]}}
    with open_inside(tmp_path, project) as inside:
        attacked = Attacked(inside, 0)
        socket = opened(attacked, RESPONSES)
        with socket.client as client:
            ask = {"type": "response.create", "model": "gpt-4o-mini", "input": "Hello"}
            client.send(text(**ask, max_output_tokens=100))
            assert socket.until("response.completed").event["response"]["status"] == "completed"
            client.send(text(**ask, max_output_tokens=16_000))
            failed = socket.until("response.failed").event["response"]["error"]
            assert socket.until("close").code == 1008
        assert failed["code"] == "insufficient_quota"
        [received] = inside.standin.snapshot()
        assert len(received.messages) == 1
        [line] = attacked.lines(1)
        assert line["reason"] == "budget_exceeded"
        assert line["tokens"]["input"] == received.bills[0]["input_tokens"]


@pytest.mark.parametrize("stage", ["handshake", "idle", "asked"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves(attacked: Attacked, stage: str, how: str) -> None:
    """Settled once, one line, no hold, no task, no connection left, and the provider's connection is closed. The other moments
    are those of `test_disconnects`."""
    before = used(attacked)
    steps, latch = Steps(), Latch()
    waits = latch if stage == "handshake" else None
    attacked.inside.standin.script(Behaviour(wait=waits, steps=steps))
    client = attacked.tunnel()
    if stage == "handshake":
        client.send(handshake())
        assert attacked.inside.standin.wait_for(lambda book: bool(book))
    else:
        socket = RawSocket(client, handshake())
        steps.release(1)
        socket.until("session.created")
        if stage != "idle":
            client.send(text(type="response.create"))
            assert attacked.inside.standin.wait_for(lambda book: bool(book[0].messages))
    client.reset() if how == "reset" else client.close()
    [line] = attacked.lines(1)
    latch.open()
    steps.release_all()
    assert attacked.inside.standin.wait_for(lambda book: book[0].outcome != "open")
    assert line["reason"] == "client_gone"
    assert used(attacked) - before == Decimal(line["cost_usd"])
    assert line["charged_by"] == ("disconnect" if stage == "asked" else "none")
    if stage == "asked":
        # The input that was estimated.
        assert line["cost_usd"] != "0"


@pytest.mark.parametrize("said", [CLOSE, text(type="nothing known"), frame(1, b"{}", mask=False)])
def test_a_client_that_ends_it_in_the_middle(attacked: Attacked, said: bytes) -> None:
    """However it does so: the answers under way are charged as those of a client that leaves."""
    steps = Steps()
    attacked.inside.standin.script(Behaviour(steps=steps))
    socket = opened_at_the_middle(attacked, steps)
    with socket.client as client:
        client.send(said)
        socket.until("close")
    steps.release_all()
    [line] = attacked.lines(1)
    assert line["reason"] == ("client_gone" if said == CLOSE else "bad_request")
    assert line["charged_by"] == "disconnect"


def opened_at_the_middle(attacked: Attacked, steps: Steps) -> RawSocket:
    socket = RawSocket(attacked.tunnel(), handshake())
    steps.release(1)
    socket.until("session.created")
    socket.client.send(text(type="response.create"))
    steps.release(3)
    socket.until("response.output_audio_transcript.delta")
    return socket


def test_an_answer_that_ends_behind_its_client(attacked: Attacked) -> None:
    """It is read on for its true count."""
    steps = Steps()
    attacked.inside.standin.script(Behaviour(steps=steps))
    socket = RawSocket(attacked.tunnel(), handshake())
    steps.release(2)
    socket.until("session.created")
    socket.client.send(text(type="response.create"))
    socket.until("response.created")
    socket.client.reset()
    attacked.alone()
    steps.release_all()
    [line] = attacked.lines(1)
    assert (line["reason"], line["charged_by"]) == ("client_gone", "usage")
    assert line["tokens"]["output"] == 60


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_provider_that_cuts(attacked: Attacked, after: int) -> None:
    """The client finds its connection ended without a close, as it would without a gateway."""
    attacked.inside.standin.script(Behaviour(cut_after=after))
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client as client:
        if after:
            socket.until("session.created")
            client.send(text(type="response.create"))
        with pytest.raises((Closed, ConnectionError)):
            socket.until("nothing more")
    [line] = attacked.lines(1)
    assert line["status"] == 101
    if after == 1:
        # The request may have left before.
        assert line["charged_by"] in ("estimate", "none")
    else:
        assert line["charged_by"] == ("estimate" if after else "none")


def test_a_handshake_that_the_provider_refuses(attacked: Attacked) -> None:
    """The provider's own answer is passed on, and costs nothing."""
    body = b'{"error": {"message": "No such model.", "type": "invalid_request_error", "code": "model_not_found"}}'
    attacked.inside.standin.script(reply(404, body))
    with attacked.tunnel() as client:
        answer = client.ask(handshake())
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["code"] == "model_not_found"
    [line] = attacked.lines(1)
    assert (line["status"], line["charged_by"]) == (404, "none")


def test_a_gateway_that_stops(tmp_path: Any) -> None:
    """The client is closed with 1001, and all is settled."""
    with open_inside(tmp_path, {"limits": {"drain_s": 0}}) as inside:
        attacked = Attacked(inside, 0)
        socket = opened(attacked)
        inside.do(inside.gateway.stop())
        assert socket.until("close").code == 1001
        [line] = inside.lines()
        assert (line["status"], line["reason"]) == (101, "stopped")


@pytest.mark.parametrize(
    ("limit", "hours", "why"),
    [
        ({}, 0.2, "No message came for 600 s"),
        ({"websocket_max_s": 60.0}, 0.1, "The session has lasted 60 s"),
    ],
)
def test_a_session_whose_time_is_over(
    tmp_path: Any, limit: dict[str, float], hours: float, why: str
) -> None:
    """It was silent, or long: it ends with 1001, after which clients come again."""
    later = Later()
    with open_inside(tmp_path, {"limits": limit}, clock=later) as inside:
        attacked = Attacked(inside, 0)
        socket = opened(attacked)
        later.seconds = hours * 3600
        close = socket.until("close")
        assert close.code == 1001
        assert why in str(close.data)
        [line] = attacked.lines(1)
        assert line["reason"] == "timeout"


class Later:
    """A clock that a test moves."""

    seconds = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.seconds


def fast() -> float:
    """A clock that goes on by 20 s in each second."""
    return time.monotonic() * 20


def test_what_is_waited_for_at_the_end(tmp_path: Any) -> None:
    """The answer under way when no more can be held, for 30 s; the provider's own close, for 5 s. A provider that is silent holds
    nobody up for longer."""
    project = {f"projects.{PROJECT}": {"limits": ["0.6 usd/day"]}}
    with open_inside(tmp_path, project, clock=fast) as inside:
        attacked = Attacked(inside, 0)
        for said, code, seconds, reason, rule in (
            (text(type="response.create"), 1008, 30, "budget_exceeded", "estimate"),
            (CLOSE, 1000, 5, "client_gone", "disconnect"),
        ):
            steps, seen = Steps(), len(inside.lines())
            inside.standin.clear()
            inside.standin.script(Behaviour(steps=steps))
            socket = opened_at_the_middle(attacked, steps)
            with socket.client as client:
                began = fast()
                client.send(said)
                assert socket.until("close").code == code
                assert fast() - began >= seconds
            inside.until(lambda gateway: not gateway.journey.under_way)
            [line] = inside.lines()[seen:]
            assert (line["reason"], line["charged_by"]) == (reason, rule)
            assert len(inside.standin.snapshot()[0].messages) == 1
            steps.release_all()
        assert inside.held() == []


def test_an_answer_that_thinks(tmp_path: Any) -> None:
    """A model may reason for minutes without a word: its hold grows with the time. When the budget is over, the client is told
    and closed with 1008, and what may have been reasoned by then is charged."""
    later, steps = Later(), Steps()
    project = {f"projects.{PROJECT}": {"limits": ["0.2 usd/day"]}}
    with open_inside(tmp_path, project, clock=later) as inside:
        attacked = Attacked(inside, 0)
        inside.standin.script(Behaviour(steps=steps))
        socket = opened(attacked, RESPONSES)
        with socket.client as client:
            client.send(text(type="response.create", model="gpt-5", input="Hello"))
            inside.standin.wait_for(lambda book: bool(book[0].messages))
            first = Decimal(inside.budget()["0.2 usd/day"]["held"])
            later.seconds = 60
            # gpt-5 writes for 10 USD a million tokens, and 100 tokens a second are taken for granted.
            assert first < Decimal("0.06")
            until = time.monotonic() + 20
            while Decimal(inside.budget()["0.2 usd/day"]["held"]) < Decimal("0.06"):
                assert time.monotonic() < until
            later.seconds = 201
            failed = socket.until("response.failed")
            assert socket.until("close").code == 1008
        assert "insufficient_quota" in json.dumps(failed.event)
        [line] = attacked.lines(1)
        assert line["reason"] == "budget_exceeded"
        # It is looked at once a second: what was reasoned since then is charged as well.
        assert Decimal("0.2") < Decimal(line["cost_usd"]) < Decimal("0.25")
        assert inside.held() == []


def test_a_token_that_is_revoked(attacked: Attacked) -> None:
    """Its session ends within seconds."""
    inside = attacked.inside
    made = inside.do(
        inside.gateway.operations.perform(
            "token_create", {"projects": [PROJECT], "label": "for a while"}
        )
    )
    basic = base64.b64encode(f"{PROJECT}:{made['token']}".encode()).decode()
    client = attacked.tunnel(headers=(f"Proxy-Authorization: Basic {basic}",))
    socket = RawSocket(client, handshake())
    with client:
        socket.until("session.created")
        inside.do(inside.gateway.operations.perform("token_revoke", {"token_id": made["id"]}))
        assert socket.until("error").event["error"]["code"] == "identity_revoked"
        assert socket.until("close").code == 1008
    attacked.lines(1)


def test_many_sessions(attacked: Attacked) -> None:
    """A hundred at once, and a call of another kind is answered among them."""
    sockets = [opened(attacked) for _ in range(100)]
    for socket in sockets:
        socket.client.send(text(type="response.create"))
    with attacked.tunnel() as client:
        assert client.ask(b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n").status == 200
    for socket in sockets:
        socket.until("response.done")
        socket.client.send(CLOSE)
        assert socket.until("close").code == 1000
        socket.client.close()
    lines = [line for line in attacked.lines(101) if line["status"] == 101]
    assert {line["charged_by"] for line in lines} == {"usage"}
    assert {line["cost_usd"] for line in lines} == {lines[0]["cost_usd"]}


@pytest.mark.requires("redis")
def test_redis_away_in_the_middle(tmp_path: Any) -> None:
    """No message leaves that would have to be held for. The client is told, and what was counted is charged when Redis is
    back."""
    (tmp_path / "redis").mkdir()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path / "redis", append_only=True))
        inside = stack.enter_context(open_inside(tmp_path, {"redis": {"url": redis.url}}))
        attacked = Attacked(inside, 0)
        socket = opened(attacked)
        with socket.client as client:
            client.send(text(type="response.create"))
            socket.until("response.done")
            redis.stop()
            for _ in range(2):
                # The first may still be held for.
                client.send(text(type="response.create"))
            assert socket.until("error").event["error"]["code"] == "ledger_unavailable"
            assert socket.until("close").code == 1008
        inside.until(lambda gateway: not gateway.journey.under_way)
        [received] = inside.standin.snapshot()
        [line] = inside.lines()
        assert len(received.messages) == len(received.bills)
        assert (line["reason"], line["charged_by"]) == ("ledger_unavailable", "usage")
        redis.start()
        inside.until(lambda gateway: not gateway.spool.size)
        assert used(attacked, "10 usd/day") == Decimal(line["cost_usd"])
        assert inside.held() == []


def test_a_key_that_the_provider_refuses(tmp_path: Any) -> None:
    """The handshake is refused as a call is: the workload can't mend our key."""
    with open_inside(tmp_path) as inside:
        attacked = Attacked(inside, 0)
        inside.standin.keys.clear()
        with attacked.tunnel() as client:
            answer = client.ask(handshake())
        assert (answer.status, answer.reason) == (502, "credential_refused")
        [line] = attacked.lines(1)
        assert line["charged_by"] == "none"


def test_an_error_beside_what_was_asked_for(attacked: Attacked) -> None:
    """It is about another message: the answer is charged, though its client leaves before it has begun."""
    steps = Steps()
    attacked.inside.standin.script(Behaviour(steps=steps))
    steps.release(2)
    socket = opened(attacked)
    socket.client.send(text(type="conversation.item.delete", item_id="item_0"))
    socket.client.send(text(type="response.create"))
    socket.until("error")
    attacked.inside.standin.wait_for(lambda book: len(book[0].messages) == 2)
    socket.client.reset()
    attacked.alone()
    steps.release_all()
    [line] = attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    [bill] = received.bills
    assert (line["reason"], line["charged_by"]) == ("client_gone", "usage")
    assert line["tokens"]["input"] == bill["input_tokens"]
    assert line["tokens"]["output"] == bill["output_tokens"]


def test_an_answer_that_is_refused(attacked: Attacked) -> None:
    """It costs nothing, and neither does the session."""
    socket = opened(attacked)
    with socket.client as client:
        client.send(text(type="response.create", response={"voice": "none"}))
        socket.until("error")
        client.send(CLOSE)
        socket.until("close")
    [line] = attacked.lines(1)
    assert (line["cost_usd"], line["charged_by"], line["reason"]) == ("0", "none", "")


def test_an_error_before_a_request_that_waits(attacked: Attacked) -> None:
    """The answer that broke is charged what was worked on, and the one behind it its count."""
    attacked.inside.standin.script(Behaviour(text=" ".join(["sixteen.letters"] * 8)))
    socket = opened(attacked, RESPONSES)
    ask = {"type": "response.create", "model": "gpt-4o", "input": "Hello there " * 40}
    with socket.client as client:
        client.send(text(**ask, metadata={"standin": "break"}) + text(**ask))
        assert socket.until("error").event["status"] == 500
        socket.until("response.completed")
        client.send(CLOSE)
        socket.until("close")
    [line] = attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    broke, whole = received.bills
    read, written = line["tokens"]["input"], line["tokens"]["output"]
    assert (line["charged_by"], line["reason"]) == ("usage", "")
    # Of the one that broke the input is estimated, and its words are counted as they passed.
    assert read - whole["input_tokens"] == pytest.approx(broke["input_tokens"], rel=0.2)
    assert 3 <= written - whole["output_tokens"] <= 3 * 5


INTENT = "/v1/realtime?intent=transcription"
GA = {
    "type": "transcription",
    "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
}
BETA = {"input_audio_transcription": {"model": "whisper-1"}}


@pytest.mark.parametrize(
    ("kind", "session", "model", "nano_usd", "held"),
    [
        # 6 USD for a million tokens of sound, 10 for those of text that it writes; 0.006 USD a minute.
        ("session", GA, "gpt-4o-transcribe", 2 * (20 * 6_000 + 5 * 10_000), 1_000 * 16_000),
        ("transcription_session", BETA, "whisper-1", 2 * 750_000, 10_000_000),
    ],
)
def test_a_session_of_transcriptions(
    attacked: Attacked, kind: str, session: Any, model: str, nano_usd: int, held: int
) -> None:
    """It is held for and charged at the price of what writes it down, and each piece of sound is a request."""
    before = used(attacked, "1000 requests/day")
    socket = opened(attacked, INTENT)
    sound = base64.b64encode(bytes(48_000)).decode()
    with socket.client as client:
        client.send(text(type=f"{kind}.update", session=session))
        socket.until(f"{kind}.updated")
        for _ in range(2):
            client.send(text(type="input_audio_buffer.append", audio=sound))
            client.send(text(type="input_audio_buffer.commit"))
            socket.until("conversation.item.input_audio_transcription.completed")
        client.send(CLOSE)
        socket.until("close")
    [line] = attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    assert [bill["model"] for bill in received.bills] == [model] * 2
    assert Decimal(line["cost_usd"]) * 10**9 == nano_usd
    # Beside what was counted, 100 s at most.
    assert held <= Decimal(line["held_usd"]) * 10**9 <= held + nano_usd
    assert (line["model"], line["charged_by"]) == (model, "usage")
    assert used(attacked, "1000 requests/day") - before == 2


def test_who_leaves_a_transcription(attacked: Attacked) -> None:
    """It comes word by word: the rest of it is charged by the seconds that were heard."""
    steps = Steps()
    attacked.inside.standin.script(Behaviour(steps=steps))
    steps.release(2)
    socket = opened(attacked, INTENT)
    with socket.client as client:
        client.send(text(type="session.update", session=GA))
        socket.until("session.updated")
        steps.release(2)
        # Ten seconds of sound are 100 tokens.
        sound = base64.b64encode(bytes(480_000)).decode()
        client.send(text(type="input_audio_buffer.append", audio=sound))
        client.send(text(type="input_audio_buffer.commit"))
        socket.until("conversation.item.input_audio_transcription.delta")
        client.send(CLOSE)
        socket.until("close")
    steps.release_all()
    [line] = attacked.lines(1)
    assert (line["reason"], line["charged_by"]) == ("client_gone", "disconnect")
    assert Decimal(line["cost_usd"]) * 10**9 == pytest.approx(100 * 6_000 + 40 * 10_000, rel=0.02)


def test_a_cap_that_is_lowered(tmp_path: Any) -> None:
    """Where the project clamps: to what is left, in each message that does not fit; nothing is overspent."""
    project = {f"projects.{PROJECT}": {"limits": ["0.35 usd/day"], "on_shortfall": "clamp"}}
    with open_inside(tmp_path, project) as inside:
        attacked = Attacked(inside, 0)
        socket = opened(attacked)
        with socket.client as client:
            session = {"audio": {"input": {"turn_detection": None}}}
            client.send(text(type="session.update", session=session))
            socket.until("session.updated")
            caps: list[Any] = ["inf"]
            while caps[-1] == "inf":
                client.send(text(type="response.create", response={"max_output_tokens": "inf"}))
                socket.until("response.done")
                [received] = inside.standin.snapshot()
                caps.append(json.loads(received.messages[-1])["response"]["max_output_tokens"])
            client.send(CLOSE)
            socket.until("close")
        [line] = attacked.lines(1)
        assert (line["clamped"], line["reason"], line["charged_by"]) == (caps[-1], "", "usage")
        assert 0 < caps[-1] < 4_096
        assert Decimal(line["held_usd"]) <= Decimal("0.35")
        ask = {"type": "response.create", "model": "gpt-5-pro", "input": "Hi"}
        for number, cap in enumerate((None, 100_000), 2):
            socket = RawSocket(attacked.tunnel(), handshake(path=RESPONSES))
            with socket.client as client:
                client.send(text(**ask, **({} if cap is None else {"max_output_tokens": cap})))
                socket.until("response.completed")
                client.send(CLOSE)
                socket.until("close")
            sent = json.loads(inside.standin.snapshot()[-1].messages[-1])
            lowered = sent.pop("max_output_tokens", None)
            line = attacked.lines(number)[-1]
            assert sent == ask
            assert (line["clamped"], line["reason"]) == (lowered, "")
            assert cap is None or 0 < lowered < 5_000
            assert Decimal(line["held_usd"]) <= Decimal("0.35")
