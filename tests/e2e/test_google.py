"""Google's own SDK, unchanged, through the running gateway: what it gets, and what is charged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from openai import OpenAI
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road, open_road

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo import standin_google
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Steps, reply

MODEL = "gemini-2.5-flash"
URL = f"https://generativelanguage.googleapis.com/v1beta/models/{MODEL}"
TEXT = "The toll is paid, and the road is open."
WORDS = 9
THOUGHTS = standin_google.THOUGHTS
SAID = "Who pays at the tollhouse?"
SAID_TOKENS = 7
# gemini-2.5-flash's list price in nano-dollars a token.
IN, OUT = 300, 2_500
COST = Decimal(SAID_TOKENS * IN + (WORDS + THOUGHTS) * OUT) / 10**9
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d4944415478da63fcffff3f030005fe02fea7d6055b0000000049454e44ae426082"
)

TO_STORE = "POST /upload/v1/fileSearchStores/*:uploadToFileSearchStore"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A gateway whose Gemini is the stand-in."""
    standin = StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", *standin_google.HOSTS))
    with standin:
        entry = {"connect_to": standin.address, "allow_private": True, "ca_file": "provider-ca.pem"}
        tool = {"input": "0", "output": "0", "request": "0.035"}
        settings: Any = {
            "providers.gemini": {**entry, "allow": [TO_STORE], "job_hold_usd": "0.5"},
            "providers.vertex": entry,
            'prices."gemini/google_search"': tool,
        }
        with open_road(
            tmp_path_factory.mktemp("google"), settings, standin=standin, limits=("10 usd/day",)
        ) as road:
            for provider in ("gemini", "vertex"):
                road.gateway.tollhouse("key", "set", provider, stdin=REAL_KEY)
            yield road


@pytest.fixture
def road(google: Road, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Road:
    """A project of the test's own, with this process as its workload."""
    google.standin.clear()
    project = f"proj_{request.node.name[:40]}".replace("[", "_").replace("]", "")
    limits = getattr(request.node.get_closest_marker("limits"), "args", ("10 usd/day",))
    config = load_config(google.gateway.config)
    perform(config, "project_set", {"project": project, "tenant": "acme", "limits": list(limits)})
    token = str(perform(config, "token_create", {"projects": [project], "label": "test"})["token"])
    made = Road(
        google.gateway,
        google.standin,
        google.directory,
        project,
        token,
        _seen=len(google.gateway.lines()),
    )
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def client(road: Road) -> Iterator[genai.Client]:
    with genai.Client(api_key=PLACEHOLDER) as made:
        yield made


def assert_charged(road: Road, *costs: Decimal, provider: str = "gemini") -> list[dict[str, Any]]:
    lines = road.wait_lines(len(costs))
    assert [Decimal(line["cost_usd"]) for line in lines] == list(costs)
    assert {line["provider"] for line in lines} == {provider}
    [state] = road.budget().values()
    assert (Decimal(state["used"]), Decimal(state["held"])) == (sum(costs), 0)
    return lines


def test_generate(road: Road, client: genai.Client) -> None:
    """The answer is whole, thoughts are paid for, and the provider gets our key alone."""
    answer = client.models.generate_content(model=MODEL, contents=SAID)
    assert answer.text == TEXT
    [received] = road.standin.wait_count(1)
    assert received.get_all("x-goog-api-key") == [REAL_KEY]
    everything = received.everything()
    assert everything.count(REAL_KEY.encode()) == 1
    assert PLACEHOLDER.encode() not in everything
    assert road.token.encode() not in everything
    assert received.document()["contents"] == [{"parts": [{"text": SAID}], "role": "user"}]
    [line] = assert_charged(road, COST)
    assert line["tokens"] == {"input": 7, "output": 16, "reasoning": 7}
    assert (line["model"], line["charged_by"]) == (MODEL, "usage")


def test_stream(road: Road, client: genai.Client) -> None:
    """Each word comes on its own, and the last count is charged, not the sum."""
    chunks = list(client.models.generate_content_stream(model=MODEL, contents=SAID))
    assert "".join(chunk.text or "" for chunk in chunks) == TEXT
    assert len(chunks) == WORDS
    assert_charged(road, COST)


async def test_async(road: Road) -> None:
    """The async client does the same."""
    async with genai.Client(api_key=PLACEHOLDER).aio as client:
        answer = await client.models.generate_content(model=MODEL, contents=SAID)
        stream = await client.models.generate_content_stream(model=MODEL, contents=SAID)
        text = "".join([chunk.text or "" async for chunk in stream])
    assert answer.text == text == TEXT
    assert_charged(road, COST, COST)


def test_embed_and_count(road: Road, client: genai.Client) -> None:
    """Vectors cost 150 nano-dollars a token; counting costs nothing."""
    made = client.models.embed_content(model="gemini-embedding-001", contents=[SAID, "a"])
    counted = client.models.count_tokens(model=MODEL, contents=SAID)
    assert [len(vector.values or ()) for vector in made.embeddings or ()] == [8, 8]
    assert counted.total_tokens == SAID_TOKENS
    assert_charged(road, Decimal(8 * 150) / 10**9, Decimal(0))


def test_a_function_is_called(road: Road, client: genai.Client) -> None:
    """Functions of the client's own go through."""
    function = types.FunctionDeclaration(
        name="toll", parameters_json_schema={"type": "object", "properties": {}}
    )
    answer = client.models.generate_content(
        model=MODEL,
        contents=SAID,
        config={"tools": [types.Tool(function_declarations=[function])]},
    )
    assert answer.function_calls is not None
    assert answer.function_calls[0].args == {"place": "the bridge"}
    assert_charged(road, COST)


def test_an_image(road: Road, client: genai.Client) -> None:
    """An inline image goes out byte for byte, and counts as the provider says."""
    image = types.Part.from_bytes(data=PNG, mime_type="image/png")
    client.models.generate_content(model=MODEL, contents=[SAID, image])
    [received] = road.standin.wait_count(1)
    assert len(received.document()["contents"][0]["parts"]) == 2
    cost = (SAID_TOKENS + 258) * IN + (WORDS + THOUGHTS) * OUT
    assert_charged(road, Decimal(cost) / 10**9)


def test_searches_are_charged(road: Road, client: genai.Client) -> None:
    """A grounded prompt of Gemini 2.5 is one charge, however many queries it made."""
    answer = {
        "candidates": [
            {
                "content": {"parts": [{"text": "Rain."}], "role": "model"},
                "groundingMetadata": {"webSearchQueries": ["rain", "toll", ""]},
            }
        ],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9},
        "modelVersion": MODEL,
    }
    headers = [("content-type", "application/json")]
    road.standin.script(reply(200, json.dumps(answer).encode(), headers))
    search = types.Tool(google_search=types.GoogleSearch())
    client.models.generate_content(model=MODEL, contents=SAID, config={"tools": [search]})
    assert_charged(road, Decimal(7 * IN + 2 * OUT) / 10**9 + Decimal("0.035"))


def test_an_error(road: Road, client: genai.Client) -> None:
    """An error of the provider's is the SDK's own class, and costs nothing."""
    error = {"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}}
    road.standin.script(reply(404, json.dumps(error).encode()))
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=MODEL, contents=SAID)
    assert (caught.value.code, caught.value.message) == (404, "no such model")
    assert_charged(road, Decimal(0))


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal(road: Road, client: genai.Client, stream: bool) -> None:
    """A budget that does not cover the call is the SDK's own error, with our code."""
    config = load_config(road.gateway.config)
    perform(
        config,
        "project_set",
        {"project": road.project, "tenant": "acme", "limits": ["0.000001 usd/day"]},
    )
    models = client.models
    call = models.generate_content_stream if stream else models.generate_content
    with pytest.raises(errors.ClientError) as caught:
        list(call(model=MODEL, contents=SAID))
    assert (caught.value.code, caught.value.status) == (402, "RESOURCE_EXHAUSTED")
    assert "[tollhouse: budget_exceeded, call" in (caught.value.message or "")
    assert road.standin.snapshot() == []


def test_an_endpoint_that_is_closed(road: Road) -> None:
    """What no route names is refused in Google's form."""
    with road.http() as http:
        answer = http.post("https://generativelanguage.googleapis.com/v1beta/corpora", json={})
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (403, "PERMISSION_DENIED")
    assert "[tollhouse: path_not_allowed, call" in error["message"]
    assert road.standin.snapshot() == []


@pytest.mark.parametrize("framing", ["sse", "array"])
def test_the_budget_ends_in_a_stream(road: Road, client: genai.Client, framing: str) -> None:
    """The client reads why, in the stream's own framing, and what came is charged."""
    config = load_config(road.gateway.config)
    # 2,048 tokens of a first slice cost 0.00512 USD, and nothing more fits.
    perform(
        config,
        "project_set",
        {"project": road.project, "tenant": "acme", "limits": ["0.006 usd/day"]},
    )
    steps = Steps()
    road.standin.script(Behaviour(steps=steps, text="word " * 4_000))
    steps.release_all()
    if framing == "sse":
        with pytest.raises(errors.ClientError) as caught:
            list(client.models.generate_content_stream(model=MODEL, contents=SAID))
        assert caught.value.code == 402
        text = caught.value.message or ""
    else:
        body = {"contents": [{"parts": [{"text": SAID}]}]}
        with road.http() as http:
            answer = http.post(f"{URL}:streamGenerateContent", json=body)
        *pieces, last = answer.json()
        assert all("candidates" in piece for piece in pieces)
        text = last["error"]["message"]
    assert "[tollhouse: budget_exceeded, call" in text
    [line] = road.wait_lines(1)
    assert line["reason"] == "budget_exceeded"
    assert Decimal(line["cost_usd"]) >= Decimal("0.00512")


def test_a_json_array_is_charged(road: Road) -> None:
    """A stream without ``alt=sse`` is one array; its bytes are the provider's."""
    body = {"contents": [{"parts": [{"text": SAID}]}]}
    with road.http() as http:
        answer = http.post(f"{URL}:streamGenerateContent", json=body)
    pieces = answer.json()
    assert "".join(p["candidates"][0]["content"]["parts"][0]["text"] for p in pieces) == TEXT
    assert_charged(road, COST)


def test_a_lowered_cap(road: Road, client: genai.Client) -> None:
    """Where the project asks for it a cap that does not fit is lowered."""
    config = load_config(road.gateway.config)
    perform(
        config,
        "project_set",
        {
            "project": road.project,
            "tenant": "acme",
            "limits": ["0.006 usd/day"],
            "on_shortfall": "clamp",
        },
    )
    client.models.generate_content(model=MODEL, contents=SAID, config={"max_output_tokens": 60_000})
    [received] = road.standin.wait_count(1)
    cap = received.document()["generationConfig"]["maxOutputTokens"]
    assert 0 < cap < 2_400
    assert_charged(road, COST)


def test_openai_format(road: Road) -> None:
    """OpenAI's SDK at Google's URL for it: a stream is made to tell its usage."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi."}}], "model": MODEL}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 16}
    usage["completion_tokens_details"] = {"reasoning_tokens": 7}  # type: ignore[assignment]
    last = {"choices": [], "model": MODEL, "usage": usage}
    frames = [f"data: {json.dumps(one)}\n\n".encode() for one in (chunk, last)]
    headers = [("content-type", "text/event-stream")]
    road.standin.script(reply(200, [*frames, b"data: [DONE]\n\n"], headers))
    url = "https://generativelanguage.googleapis.com/v1beta/openai/"
    with OpenAI(api_key=PLACEHOLDER, base_url=url) as client:
        messages: Any = [{"role": "user", "content": SAID}]
        chunks = list(client.chat.completions.create(model=MODEL, messages=messages, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["Hi."]
    [received] = road.standin.wait_count(1)
    assert received.get_all("x-goog-api-key") == [REAL_KEY]
    assert received.get_all("authorization") == []
    assert received.document()["stream_options"] == {"include_usage": True}
    assert_charged(road, Decimal(7 * IN + 9 * OUT) / 10**9)


@pytest.mark.parametrize("stream", [False, True])
def test_an_interaction(road: Road, client: genai.Client, stream: bool) -> None:
    """The model stands in the body, and the usage in the last event."""
    whole = {
        "id": "v1_abc",
        "object": "interaction",
        "model": MODEL,
        "status": "completed",
        "created": "2026-11-28T00:00:00Z",
        "updated": "2026-11-28T00:00:00Z",
        "steps": [],
        "usage": {"total_input_tokens": 7, "total_output_tokens": 2, "total_tokens": 9},
    }
    if stream:
        events = [
            {"event_type": "interaction.created", "interaction": {**whole, "usage": None}},
            {"event_type": "interaction.completed", "interaction": whole},
        ]
        frames = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        body = [*frames, b"data: [DONE]\n\n"]
        road.standin.script(reply(200, body, [("content-type", "text/event-stream")]))
        seen = [
            e.event_type for e in client.interactions.create(model=MODEL, input=SAID, stream=True)
        ]
        assert seen == ["interaction.created", "interaction.completed"]
    else:
        headers = [("content-type", "application/json")]
        road.standin.script(reply(200, json.dumps(whole).encode(), headers))
        assert client.interactions.create(model=MODEL, input=SAID).id == "v1_abc"
    assert_charged(road, Decimal(7 * IN + 2 * OUT) / 10**9)


def test_an_upload(road: Road, client: genai.Client, tmp_path: Path) -> None:
    """Both steps of the SDK's upload pass, the file's bytes as they are, and nothing is charged."""
    file = tmp_path / "toll.txt"
    file.write_bytes(b"any bytes \xff")
    url = "https://generativelanguage.googleapis.com/upload/v1beta/files?upload_id=u1&upload_protocol=resumable"
    done = {"file": {"name": "files/f1", "mimeType": "text/plain"}}
    road.standin.script(
        reply(200, b"", [("x-goog-upload-url", url), ("x-goog-upload-status", "active")]),
        reply(200, json.dumps(done).encode(), [("x-goog-upload-status", "final")]),
    )
    assert client.files.upload(file=str(file)).name == "files/f1"
    first, second = road.standin.wait_count(2)
    assert first.get("x-goog-upload-command") == "start"
    assert second.body == b"any bytes \xff"
    assert second.target.endswith("?upload_id=u1&upload_protocol=resumable")
    assert second.get_all("x-goog-api-key") == [REAL_KEY]
    assert_charged(road, Decimal(0), Decimal(0))


def test_an_upload_to_a_store(road: Road, client: genai.Client, tmp_path: Path) -> None:
    """Both steps of the SDK's upload pass, and they are one job."""
    file = tmp_path / "toll.txt"
    file.write_bytes(b"any bytes \xff")
    path = "/upload/v1/fileSearchStores/s1:uploadToFileSearchStore"
    url = f"https://generativelanguage.googleapis.com{path}?upload_id=u1&upload_protocol=resumable"
    done = {"name": "fileSearchStores/s1/upload/operations/o1"}
    road.standin.script(
        reply(200, b'{"name":"fileSearchStores/s1"}'),
        reply(200, b"", [("x-goog-upload-url", url), ("x-goog-upload-status", "active")]),
        reply(200, json.dumps(done).encode(), [("x-goog-upload-status", "final")]),
    )
    assert client.file_search_stores.create().name == "fileSearchStores/s1"
    client.file_search_stores.upload_to_file_search_store(
        file_search_store_name="fileSearchStores/s1", file=str(file)
    )
    *_, second = road.standin.wait_count(3)
    assert second.body == b"any bytes \xff"
    assert_charged(road, Decimal(0), Decimal("0.5"), Decimal(0))


@pytest.mark.parametrize("stream", [False, True])
def test_vertex(road: Road, stream: bool) -> None:
    """Vertex in express mode."""
    with genai.Client(enterprise=True, api_key=PLACEHOLDER) as client:
        if stream:
            chunks = client.models.generate_content_stream(model=MODEL, contents=SAID)
            text = "".join(chunk.text or "" for chunk in chunks)
        else:
            text = client.models.generate_content(model=MODEL, contents=SAID).text or ""
    assert text == TEXT
    [received] = road.standin.wait_count(1)
    assert received.sni == "aiplatform.googleapis.com"
    assert received.get_all("x-goog-api-key") == [REAL_KEY]
    assert_charged(road, COST, provider="vertex")
