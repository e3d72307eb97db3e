"""Unchanged clients through the running gateway: the OpenAI SDK, curl, HTTP/2; what they get and what the provider got.

Each test runs on embedded stores and on real redis-server and OpenBao.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, OpenAI, omit
from tests.support.gateway import PLACEHOLDER, Road

from tollhouse.demo import standin_answers as answers
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Behaviour, Steps

URL = "https://api.openai.com/v1/chat/completions"
MESSAGES: Any = [
    {"role": "user", "content": "Who pays at the tollhouse? Même les poètes: 渡し守。"}
]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES}
TEXT = answers.answer_text(CHAT)
# gpt-4o's list price, USD per million tokens.
PRICE_IN, PRICE_OUT = Decimal("2.50"), Decimal("10")


@pytest.fixture
def in_environment(road: Road, monkeypatch: pytest.MonkeyPatch) -> Road:
    """The road, with this process as its workload: HTTPS_PROXY and SSL_CERT_FILE are set, nothing else."""
    for name, value in road.environ.items():
        monkeypatch.setenv(name, value)
    return road


def headers_for(road: Road) -> dict[str, str]:
    return {"X-Coreason-Project-ID": road.project, "X-Coreason-Trace-ID": "abc-123"}


def cost_of(document: dict[str, Any]) -> Decimal:
    usage = answers.chat_usage(document)
    return (
        Decimal(usage["prompt_tokens"] * PRICE_IN + usage["completion_tokens"] * PRICE_OUT)
        / 1_000_000
    )


def assert_clean(received: Received, road: Road) -> None:
    """The provider got the real key once, and no gate token, header of ours, proxy header or cookie in any place."""
    everything = received.everything()
    key = road.standin.key.encode()
    assert received.get_all("authorization") == [f"Bearer {road.standin.key}"]
    assert everything.count(key) == 1
    lowered = everything.lower()
    for word in (
        b"gate_",
        PLACEHOLDER.encode(),
        b"x-coreason",
        b"proxy-",
        b"cookie",
        b"forwarded",
        b"\r\nvia:",
    ):
        assert word not in lowered
    assert b"x-tollhouse" not in lowered
    assert road.project.encode() not in everything
    assert (received.sni, received.get("host")) == ("api.openai.com", "api.openai.com")


def assert_settled(road: Road, *documents: dict[str, Any]) -> None:
    """One line a call with the exact cost, the ledger's use is their sum, nothing is held, the book has as many."""
    lines = road.wait_lines(len(documents))
    assert [Decimal(line["cost_usd"]) for line in lines] == [
        cost_of(document) for document in documents
    ]
    for line in lines:
        assert (line["status"], line["decision"], line["reason"], line["charged_by"]) == (
            200,
            "allow",
            "",
            "usage",
        )
        assert (line["project"], line["tenant"], line["provider"]) == (
            road.project,
            "acme",
            "openai",
        )
    [state] = road.budget().values()
    assert Decimal(state["used"]) == sum(cost_of(document) for document in documents)
    assert Decimal(state["held"]) == 0
    assert len(road.standin.snapshot()) == len(documents) == len(road.lines())


def test_sync_plain(in_environment: Road) -> None:
    """A chat completion of the unchanged SDK comes back whole and is paid for, to the nano-dollar."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        answer = client.chat.completions.create(**CHAT, extra_headers=headers_for(road))
    assert answer.choices[0].message.content == TEXT
    [received] = road.standin.wait_count(1)
    assert_clean(received, road)
    assert received.document() == CHAT
    assert_settled(road, CHAT)
    assert road.lines()[0]["trace_id"] == "abc-123"


def test_sync_stream(in_environment: Road) -> None:
    """A stream is whole, and the count that the gateway asked for is not shown to a client that did not."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    [received] = road.standin.wait_count(1)
    assert_clean(received, road)
    assert received.document()["stream_options"] == {"include_usage": True}
    assert_settled(road, CHAT)


def test_stream_with_usage(in_environment: Road) -> None:
    """A client that asks for the count gets it, once, and the body is not touched."""
    road = in_environment
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    with OpenAI(api_key=PLACEHOLDER) as client:
        chunks = list(client.chat.completions.create(**asked))
    counts = [chunk.usage.total_tokens for chunk in chunks if chunk.usage]
    assert counts == [answers.chat_usage(CHAT)["total_tokens"]]
    assert road.standin.wait_count(1)[0].document() == asked
    assert_settled(road, CHAT)


async def test_async_plain_and_stream(in_environment: Road) -> None:
    """The async SDK does the same."""
    road = in_environment
    async with AsyncOpenAI(api_key=PLACEHOLDER) as client:
        answer = await client.chat.completions.create(**CHAT)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert answer.choices[0].message.content == text == TEXT
    for received in road.standin.wait_count(2):
        assert_clean(received, road)
    assert_settled(road, CHAT, CHAT)


def test_token_as_api_key_through_the_proxy(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials in the proxy's URL the token is the SDK's api_key, and never goes on."""
    monkeypatch.setenv("HTTPS_PROXY", road.bare_proxy_url)
    monkeypatch.setenv("SSL_CERT_FILE", str(road.ca_file))
    with OpenAI(api_key=road.token) as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == TEXT
    assert_clean(road.standin.wait_count(1)[0], road)
    assert_settled(road, CHAT)


def test_base_url(road: Road) -> None:
    """The snippet of the base URL listener, plain and streamed."""
    client = OpenAI(base_url=road.base_url, api_key=road.token)
    answer = client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        extra_headers={"X-Coreason-Project-ID": road.project, "X-Coreason-Trace-ID": "abc-123"},
    )
    stream = client.chat.completions.create(**CHAT, stream=True, extra_headers=headers_for(road))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert answer.choices[0].message.content == text == TEXT
    for received in road.standin.wait_count(2):
        assert_clean(received, road)
        assert received.target == "/v1/chat/completions"
    assert_settled(road, CHAT, CHAT)
    assert [line["trace_id"] for line in road.lines()] == ["abc-123", "abc-123"]
    assert {line["listener"] for line in road.lines()} == {"base_url"}


async def test_base_url_async(road: Road) -> None:
    """The async SDK over the base URL, plain and streamed."""
    async with AsyncOpenAI(base_url=road.base_url, api_key=road.token) as client:
        answer = await client.chat.completions.create(**CHAT)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert answer.choices[0].message.content == text == TEXT
    assert_settled(road, CHAT, CHAT)


def test_embeddings_and_models(in_environment: Road) -> None:
    """Embeddings are metered too (at 20 nano-dollars a token); models are free, and leave a line."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        vectors = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        assert "gpt-4o" in [model.id for model in client.models.list()]
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    assert [len(item.embedding) for item in vectors.data] == [1536, 1536]
    embedded, listed, found = road.wait_lines(3)
    assert Decimal(embedded["cost_usd"]) == Decimal("0.00000004") == road.used()
    assert [Decimal(line["cost_usd"]) for line in (listed, found)] == [0, 0]
    assert [line["charged_by"] for line in (embedded, listed, found)] == ["usage", "none", "none"]
    for received in road.standin.wait_count(3):
        assert_clean(received, road)


def test_a_file(in_environment: Road) -> None:
    """Its upload is answered with what has come of it; without a purpose it is an error of the SDK's own class."""
    road = in_environment
    content = b'{"a":1}\n\x00\r\n'
    with OpenAI(api_key=PLACEHOLDER) as sdk:
        file = sdk.files.create(file=("a.jsonl", content), purpose="batch")
        assert (file.filename, file.bytes, file.purpose) == ("a.jsonl", len(content), "batch")
        with pytest.raises(BadRequestError):
            sdk.files.create(file=("a.jsonl", content), purpose=omit)  # type: ignore[arg-type]
    lines = road.wait_lines(2)
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/v1/files", 200),
        ("/v1/files", 400),
    ]
    for received in road.standin.wait_count(2):
        assert_clean(received, road)


@pytest.mark.parametrize("listener", ["proxy", "base_url"])
@pytest.mark.parametrize("stream", [False, True])
def test_body_is_byte_identical(road: Road, listener: str, stream: bool) -> None:
    """The answer's body is that of the stand-in asked directly, plain and streamed, over both listeners."""
    document = {**CHAT, "stream": stream}
    with road.direct() as client:
        straight = client.post("/v1/chat/completions", json=document)
    with road.http() if listener == "proxy" else httpx2.Client(trust_env=False) as client:
        url = URL if listener == "proxy" else f"{road.base_url}/chat/completions"
        through = client.post(url, json=document, headers={"authorization": f"Bearer {road.token}"})
    assert through.status_code == straight.status_code == 200
    assert through.content == straight.content
    assert through.headers["content-type"] == straight.headers["content-type"]
    assert "set-cookie" not in through.headers
    assert "alt-svc" not in through.headers
    assert through.headers["x-tollhouse-call-id"] == road.wait_lines(1)[0]["call_id"]


@pytest.mark.parametrize("http2", [False, True])
def test_chunk_is_passed_on_before_the_next_is_sent(road: Road, http2: bool) -> None:
    """The client holds each frame of a stream before the provider has written the next one."""
    steps = Steps()
    road.standin.script(Behaviour(steps=steps, text="one two three"))
    steps.release()
    with (
        road.http(http2=http2) as client,
        client.stream("POST", URL, json={**CHAT, "stream": True}) as answer,
    ):
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        got = answer.iter_raw()
        for number, word in enumerate([b'"role"', b'"one"', b'" two"', b'" three"'], start=1):
            assert word in next(got)
            assert len(road.standin.book[0].sent) == number
            steps.release()
        steps.release_all()
        assert b"".join(got).endswith(b"data: [DONE]\n\n")
    [line] = road.wait_lines(1)
    assert line["charged_by"] == "usage"


def test_headers_come_before_the_first_chunk(road: Road) -> None:
    """The head of a streamed answer reaches the client while the provider has not sent a byte of the body."""
    steps = Steps()
    road.standin.script(Behaviour(steps=steps))
    with road.http() as client, client.stream("POST", URL, json={**CHAT, "stream": True}) as answer:
        assert answer.status_code == 200
        assert road.standin.book[0].sent == []
        steps.release_all()
        answer.read()


def test_http2_by_httpx2(road: Road) -> None:
    """Several calls over one HTTP/2 connection inside the tunnel."""
    with road.http(http2=True) as client:
        found = [client.post(URL, json=CHAT) for _ in range(3)]
    assert [(answer.status_code, answer.http_version) for answer in found] == [(200, "HTTP/2")] * 3
    assert [answer.json()["choices"][0]["message"]["content"] for answer in found] == [TEXT] * 3
    for received in road.standin.wait_count(3):
        assert_clean(received, road)
    assert_settled(road, CHAT, CHAT, CHAT)


@pytest.mark.requires("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("stream", [False, True])
def test_curl_through_the_proxy(road: Road, version: str, stream: bool) -> None:
    """curl with HTTPS_PROXY and SSL_CERT_FILE alone, over HTTP/1.1 and HTTP/2."""
    body = json.dumps({**CHAT, "stream": stream})
    shown = ["-w", "\n%{http_version}", "-H", "content-type: application/json", "-d", body]
    text, _, used = road.curl(version, *shown, URL).stdout.rpartition(b"\n")
    assert used == (b"2" if version == "--http2" else b"1.1")
    with road.direct() as client:
        assert text == client.post("/v1/chat/completions", content=body).content
    assert_clean(road.standin.wait_count(1)[0], road)
    [line] = road.wait_lines(1)
    assert Decimal(line["cost_usd"]) == cost_of(CHAT) == road.used()


@pytest.mark.requires("curl")
@pytest.mark.parametrize("stream", [False, True])
def test_curl_over_the_base_url(road: Road, stream: bool) -> None:
    """curl with the gate token as bearer, over plain http on loopback."""
    body = json.dumps({**CHAT, "stream": stream})
    bearer = f"authorization: Bearer {road.token}"
    got = road.curl(
        "-H", bearer, "-d", body, f"{road.base_url}/chat/completions", environ={}
    ).stdout
    with road.direct() as client:
        assert got == client.post("/v1/chat/completions", content=body).content
    assert_clean(road.standin.wait_count(1)[0], road)
    assert Decimal(road.wait_lines(1)[0]["cost_usd"]) == cost_of(CHAT)


@pytest.mark.requires("curl")
def test_curl_uploads_megabytes(road: Road, tmp_path: Path) -> None:
    """A body of megabytes, for which curl asks leave by ``Expect``, arrives byte for byte."""
    document = {
        **CHAT,
        "messages": [{"role": "user", "content": "x" * 4_000_000}],
        "max_completion_tokens": 5,
    }
    body = tmp_path / "body.json"
    body.write_text(json.dumps(document))
    got = json.loads(
        road.curl("-H", "content-type: application/json", "--data-binary", f"@{body}", URL).stdout
    )
    assert got["usage"]["prompt_tokens"] > 1_000_000
    assert road.standin.wait_count(1)[0].body == body.read_bytes()
    assert_settled(road, document)


def test_everything_hostile_to_strip_is_stripped(road: Road) -> None:
    """Cookies, proxy and forwarding headers, other credential slots and who-pays headers never reach the provider."""
    extra = {
        "Cookie": "session=1",
        "Proxy-Authorization": "Basic Zm9vOmJhcg==",
        "Forwarded": "for=10.0.0.1",
        "X-Forwarded-For": "10.0.0.1",
        "x-api-key": "sk-other",
        "api-key": "sk-other",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
        **headers_for(road),
    }
    with road.sdk() as client:
        client.chat.completions.create(**CHAT, extra_headers=extra)
    [received] = road.standin.wait_count(1)
    assert_clean(received, road)
    assert b"sk-other" not in received.everything()
    assert {name.lower() for name, _ in received.headers}.isdisjoint(
        {b"openai-organization", b"openai-project"}
    )


def test_refusal_reaches_the_sdk(road: Road) -> None:
    """A refusal inside the tunnel is the SDK's own error class, with our code, and is not retried."""
    with road.sdk() as client, pytest.raises(APIStatusError) as caught:
        client.get("/engines", cast_to=object)
    assert (caught.value.status_code, caught.value.code) == (403, "path_not_allowed")
    assert caught.value.response.headers["x-tollhouse-reason"] == "path_not_allowed"
    [line] = road.wait_lines(1)
    assert (line["reason"], line["status"], line["decision"]) == ("path_not_allowed", 403, "deny")
    assert road.standin.snapshot() == []
