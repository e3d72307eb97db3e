"""The stand-in against the real SDK, directly, and against raw bytes."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from tests.support.programs import Program

from tollhouse.demo import standin_answers as answers
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import (
    Behaviour,
    Latch,
    Steps,
    redirect,
    reply,
    reset_before_headers,
    reset_mid_body,
)
from tollhouse.demo.standin_tls import Certificate

MESSAGES: Any = [{"role": "user", "content": "How far is it to the next toll?"}]
CHAT = {"model": "gpt-4o", "messages": MESSAGES}


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(hosts=("localhost", "api.openai.com")) as running:
        yield running


@pytest.fixture
def context(standin: StandIn) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=standin.ca_pem.decode())


@pytest.fixture
def http(standin: StandIn, context: ssl.SSLContext) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        verify=context, trust_env=False, base_url=f"https://localhost:{standin.port}"
    ) as client:
        client.headers["authorization"] = f"Bearer {standin.key}"
        yield client


@pytest.fixture
def sdk(standin: StandIn, context: ssl.SSLContext) -> Iterator[OpenAI]:
    http_client = openai.DefaultHttpxClient(verify=context, trust_env=False)
    base_url = f"https://localhost:{standin.port}/v1"
    with OpenAI(
        api_key=standin.key, base_url=base_url, http_client=http_client, max_retries=0
    ) as client:
        yield client


def speak(
    standin: StandIn, context: ssl.SSLContext, data: bytes, sni: str = "api.openai.com"
) -> bytes:
    """Send ``data`` over TLS and read to the end of the connection."""
    with (
        socket.create_connection(("127.0.0.1", standin.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=sni) as tls,
    ):
        tls.sendall(data)
        got = b""
        while chunk := tls.recv(65536):
            got += chunk
        return got


def read_into(got: list[bytes], answer: httpx2.Response) -> None:
    """Keep what came before an error."""
    for chunk in answer.iter_raw():
        got.append(chunk)


def test_sdk_chat(standin: StandIn, sdk: OpenAI) -> None:
    """A chat completion of the SDK says what was asked back, with the usage of the stand-in's rule."""
    answer = sdk.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert answer.choices[0].message.content == answers.answer_text(CHAT)
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == answers.prompt_tokens(CHAT)
    assert answer.usage.completion_tokens == len(answers.pieces(CHAT)[0])
    assert standin.wait_for(lambda book: [one.outcome for one in book] == ["answered"])
    [received] = standin.snapshot()
    assert (received.method, received.target) == ("POST", "/v1/chat/completions")
    assert received.get("authorization") == f"Bearer {standin.key}"
    assert received.document()["messages"] == MESSAGES


@pytest.mark.parametrize("counted", [False, True])
def test_sdk_stream(sdk: OpenAI, counted: bool) -> None:
    """A stream of the SDK gives the same text, and usage only if it was asked for."""
    extra: Any = {"stream_options": {"include_usage": True}} if counted else {}
    chunks = list(
        sdk.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, **extra)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answers.answer_text(CHAT)
    used = [chunk.usage for chunk in chunks if chunk.usage]
    assert [usage.completion_tokens for usage in used] == (
        [len(answers.pieces(CHAT)[0])] if counted else []
    )


def test_include_usage_changes_nothing_else(http: httpx2.Client) -> None:
    """Taking the extra frame and each ``"usage":null`` out of a counted stream leaves the uncounted one."""
    plain = http.post("/v1/chat/completions", json={**CHAT, "stream": True}).content
    counted = http.post(
        "/v1/chat/completions",
        json={**CHAT, "stream": True, "stream_options": {"include_usage": True}},
    ).content
    assert plain.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in plain
    frames = [frame for frame in counted.split(b"\n\n") if b'"choices":[]' not in frame]
    assert b"\n\n".join(frames).replace(b'"usage":null,', b"") == plain
    assert counted.count(b'"usage":null') == plain.count(b"data: {")


def test_identical_calls_identical_bytes(http: httpx2.Client) -> None:
    """Two equal requests get equal bodies."""
    for path, document in (
        ("/v1/chat/completions", CHAT),
        ("/v1/embeddings", {"model": "e", "input": "a b"}),
    ):
        assert http.post(path, json=document).content == http.post(path, json=document).content


def test_cap_and_choices(sdk: OpenAI) -> None:
    """The request's own cap ends the answer, for each of its choices."""
    answer = sdk.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, max_completion_tokens=3, n=2
    )
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6


def test_embeddings_float_and_base64(http: httpx2.Client, sdk: OpenAI) -> None:
    """Both encodings carry the same numbers, and token arrays are inputs too."""
    asked = {"model": "text-embedding-3-small", "input": ["one", "two"], "encoding_format": "float"}
    floats = http.post("/v1/embeddings", json=asked).json()
    through_sdk = sdk.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [item.embedding for item in through_sdk.data] == [
        item["embedding"] for item in floats["data"]
    ]
    assert floats["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    tokens = http.post(
        "/v1/embeddings", json={"model": "e", "input": [[1, 2, 3]], "dimensions": 4}
    ).json()
    assert len(tokens["data"][0]["embedding"]) == 4
    assert tokens["usage"]["total_tokens"] == 3


def test_models(sdk: OpenAI) -> None:
    """Models are listed and found by id; an unknown one is OpenAI's 404."""
    assert "gpt-4o" in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        sdk.models.retrieve("gpt-none")


def test_wrong_key(sdk: OpenAI, standin: StandIn) -> None:
    """A key that is not the stand-in's gets OpenAI's 401 and is refused in the book."""
    with pytest.raises(openai.AuthenticationError) as caught:
        sdk.with_options(api_key="gate_0123456789abcdef").models.list()
    assert caught.value.code == "invalid_api_key"
    assert "0123456789" not in str(caught.value)
    assert [received.outcome for received in standin.wait_count(1)] == ["refused"]


def test_raw_bytes_are_written_down(standin: StandIn, context: ssl.SSLContext) -> None:
    """Target, header case, order, duplicates and body are kept byte for byte, with the name of the TLS hello."""
    got = speak(
        standin,
        context,
        b"POST /v1/%63hat//x?a=%2e HTTP/1.1\r\nhOST: api.openai.com\r\nX-Two: 1\r\nx-two: \xc3\xa9\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
    )
    assert got.startswith(b"HTTP/1.1 401 ")
    [received] = standin.wait_count(1)
    assert received.target == "/v1/%63hat//x?a=%2e"
    assert received.headers[:3] == [
        (b"hOST", b"api.openai.com"),
        (b"X-Two", b"1"),
        (b"x-two", b"\xc3\xa9"),
    ]
    assert (received.body, received.sni, received.connection) == (b"abc", "api.openai.com", 1)
    assert b"x-two: \xc3\xa9" in received.everything()
    assert json.loads(received.as_json())["body"] == base64.b64encode(b"abc").decode()


def test_requests_of_one_connection(http: httpx2.Client, standin: StandIn) -> None:
    """A connection that is used again is seen as one, and dialled once."""
    http.get("/v1/models")
    http.get("/v1/models")
    assert [received.connection for received in standin.wait_count(2)] == [1, 1]
    assert standin.dialled == 1


def test_edge_headers(http: httpx2.Client) -> None:
    """The answer carries what OpenAI's edge adds: a request id of its own, a cookie, Alt-Svc."""
    first, second = http.get("/v1/models").headers, http.get("/v1/models").headers
    assert first["x-request-id"] == "req_000000000001"
    assert second["x-request-id"] == "req_000000000002"
    assert "__cf_bm" in first["set-cookie"]
    assert "h3=" in first["alt-svc"]


def test_scripted_replies_in_order(http: httpx2.Client, standin: StandIn) -> None:
    """Queued behaviours are taken one a request; after them the ordinary answer comes."""
    standin.script(
        reply(429, b"{}", [("retry-after", "1")]), redirect("https://elsewhere.example/")
    )
    first, second, third = (http.post("/v1/chat/completions", json=CHAT) for _ in range(3))
    assert (first.status_code, first.headers["retry-after"], first.content) == (429, "1", b"{}")
    assert (second.status_code, second.headers["location"]) == (302, "https://elsewhere.example/")
    assert third.status_code == 200


def test_extra_headers_text_and_no_usage(http: httpx2.Client, standin: StandIn) -> None:
    """The ordinary answer can be given other headers, other words and no usage."""
    standin.always(
        Behaviour(headers=[("x-tollhouse-reason", "forged")], text="Only this.", usage=False)
    )
    answer = http.post("/v1/chat/completions", json=CHAT)
    assert answer.headers["x-tollhouse-reason"] == "forged"
    assert "usage" not in answer.json()
    assert answer.json()["choices"][0]["message"]["content"] == "Only this."


def test_gate_delays_the_answer(http: httpx2.Client, standin: StandIn) -> None:
    """A request is in the book while its answer waits for the test."""
    gate = Latch()
    standin.script(Behaviour(wait=gate))
    answers_got: list[int] = []
    call = threading.Thread(target=lambda: answers_got.append(http.get("/v1/models").status_code))
    call.start()
    [received] = standin.wait_count(1)
    assert received.outcome == "open"
    assert answers_got == []
    gate.open()
    call.join(10)
    assert answers_got == [200]


def test_steps_release_one_frame_each(http: httpx2.Client, standin: StandIn) -> None:
    """Each frame leaves only when the test says so: the client has one before the next is written."""
    steps = Steps()
    standin.script(Behaviour(steps=steps, text="one two"))
    steps.release()
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        got = answer.iter_raw()
        assert b'"role":"assistant"' in next(got)
        assert len(standin.book[0].sent) == 1
        steps.release()
        assert b'"content":"one"' in next(got)
        assert len(standin.book[0].sent) == 2
        steps.release_all()
        assert b"".join(got).endswith(b"data: [DONE]\n\n")


def test_reset_before_headers(http: httpx2.Client, standin: StandIn) -> None:
    """The connection is reset before anything was answered."""
    standin.script(reset_before_headers())
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        http.post("/v1/chat/completions", json=CHAT)
    assert standin.book[0].outcome == "cut"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_cut_in_the_body(http: httpx2.Client, standin: StandIn, how: str, stream: bool) -> None:
    """The connection breaks in the body: after two frames of a stream, half-way through a plain answer."""
    pieces = 2 if stream else 0
    standin.script(
        reset_mid_body(pieces) if how == "reset" else Behaviour(cut_after=pieces, cut="close")
    )
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": stream}) as answer:
        assert answer.status_code == 200
        got: list[bytes] = []
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            read_into(got, answer)
    assert standin.wait_for(lambda book: book[0].outcome == "cut")
    assert b"".join(got).count(b"data: ") == pieces


def test_stream_without_done(http: httpx2.Client, standin: StandIn) -> None:
    """A stream can end in good order but without its last frame."""
    standin.script(Behaviour(done=False))
    body = http.post("/v1/chat/completions", json={**CHAT, "stream": True}).content
    assert body.endswith(b"\n\n")
    assert b"[DONE]" not in body


def test_client_gone(http: httpx2.Client, standin: StandIn) -> None:
    """A client that leaves in the middle is written down as gone, without waiting for the next frame."""
    steps = Steps()
    standin.script(Behaviour(steps=steps))
    steps.release()
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        next(answer.iter_raw())
    assert standin.wait_for(lambda book: book[0].outcome == "client_gone")


def test_raw_answer(standin: StandIn, context: ssl.SSLContext) -> None:
    """Bytes that are no HTTP answer can be sent in place of one."""
    standin.script(Behaviour(raw=b"HTTP/1.1 101 Surprise\r\n\r\n"))
    request = b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"
    assert speak(standin, context, request) == b"HTTP/1.1 101 Surprise\r\n\r\n"


def test_a_body_that_never_ends_is_in_the_book(standin: StandIn, context: ssl.SSLContext) -> None:
    """A request of which only the head came is in the book too: a leak would not be overlooked."""
    with (
        socket.create_connection(("127.0.0.1", standin.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
        )
        assert standin.wait_for(lambda book: len(book) == 1)
        assert not standin.book[0].complete
    assert standin.wait_for(lambda book: book[0].outcome == "client_gone")


@pytest.mark.parametrize("certificate", ["expired", "wrong_name", "self_signed", "untrusted"])
def test_bad_certificates(certificate: Certificate) -> None:
    """Each bad certificate fails the handshake, and nothing is in the book but that somebody dialled."""
    with StandIn(certificate=certificate) as standin:
        context = ssl.create_default_context(cadata=standin.ca_pem.decode())
        with pytest.raises(ssl.SSLCertVerificationError):
            speak(standin, context, b"GET / HTTP/1.1\r\n\r\n")
        assert (standin.dialled, standin.book) == (1, [])


def test_large_body_with_expect(http: httpx2.Client, standin: StandIn) -> None:
    """A body of megabytes is taken whole, after the 100 that curl waits for."""
    content = "x" * 3_000_000
    document = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}
    assert (
        http.post(
            "/v1/chat/completions", json=document, headers={"expect": "100-continue"}
        ).status_code
        == 200
    )
    assert standin.book[0].document() == document


def test_without_tls() -> None:
    """It can speak plain http, for providers of one's own."""
    with StandIn(tls=False) as standin:
        url = f"http://{standin.address}/v1/models"
        answer = httpx2.get(
            url, headers={"authorization": f"Bearer {standin.key}"}, trust_env=False
        )
        assert answer.status_code == 200


async def test_inside_a_running_loop() -> None:
    """It can live in the caller's own loop."""
    standin = StandIn(tls=False)
    await standin.listen()
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{standin.address}/v1/models")
        assert answer.status_code == 401
    finally:
        await standin.close()


def test_stop_ends_what_waits(http: httpx2.Client, standin: StandIn) -> None:
    """Stopping breaks an answer that still waits, and says so in the book."""
    standin.script(Behaviour(wait=Latch()))
    failed: list[type[Exception]] = []

    def call() -> None:
        try:
            http.get("/v1/models")
        except httpx2.HTTPError as error:
            failed.append(type(error))

    thread = threading.Thread(target=call)
    thread.start()
    standin.wait_count(1)
    standin.stop()
    thread.join(10)
    assert len(failed) == 1
    assert standin.book[0].outcome == "stopped"


def test_alone(tmp_path: Path) -> None:
    """As a program it keeps key, CA and book in its state directory."""
    command = [sys.executable, "-m", "tollhouse.demo.standin", "--state", str(tmp_path / "s")]
    with Program("the stand-in") as process:
        address = (
            process.start(command, ready="standin: ready ").removeprefix("standin: ready ").strip()
        )
        key = (tmp_path / "s/key").read_text().strip()
        context = ssl.create_default_context(cafile=str(tmp_path / "s/ca.pem"))
        context.check_hostname = False
        answer = httpx2.get(
            f"https://{address}/v1/models",
            headers={"authorization": f"Bearer {key}"},
            verify=context,
            trust_env=False,
        )
        process.stop()
    assert answer.status_code == 200
    [line] = (tmp_path / "s/book.jsonl").read_text().splitlines()
    assert json.loads(line)["target"] == "/v1/models"
    assert (tmp_path / "s/key").stat().st_mode & 0o777 == 0o600


async def test_steps_opened_ahead_and_at_once() -> None:
    """Permits given before anybody waits count, and all later pieces pass after `release_all`."""
    steps = Steps()
    steps.release(2)
    await steps.passed(0)
    await steps.passed(1)
    waiting = asyncio.ensure_future(steps.passed(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    steps.release_all()
    await waiting
    await steps.passed(7)
