"""Mistral through the running gateway, by its own SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import ResponseValidationError, SDKError
from tests.families.samples import mistral as samples
from tests.families.samples.kit import sse
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road
from tests.support.spoken import Spoken, open_spoken, says, spoken_by, streams

from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps

HOST = "api.mistral.ai"
MODEL = "mistral-small-2603"
MESSAGES: Any = [{"role": "user", "content": "Who pays at the tollhouse?"}]
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 400},
}
# USD per million tokens of mistral-small-2603: 0.15, 0.015 cached and 0.60.
# 600 x 150 + 400 x 15 + 100 x 600 nano-dollars.
COST = Decimal("0.000156")
PRICES = {
    # The objects that these tests name were made by nobody's call.
    "providers.mistral": {"share_objects": True},
    'prices."mistral/web_search"': {"input": "0", "output": "0", "request": "0.03"},
    'prices."mistral/mistral-moderation-2411"': {"input": "0.1", "output": "0"},
    'prices."mistral/voxtral-tts"': {"input": "0", "output": "0", "characters": "16"},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    with open_spoken(tmp_path_factory.mktemp("mistral"), "mistral", HOST, PRICES) as road:
        yield road


@pytest.fixture
def spoken(shared: Road) -> Iterator[Spoken]:
    with spoken_by(shared) as mine:
        yield mine


def sdk(spoken: Spoken) -> Mistral:
    return Mistral(api_key=PLACEHOLDER, client=spoken.through)


def straight(spoken: Spoken) -> Mistral:
    return Mistral(api_key=REAL_KEY, client=spoken.direct, server_url=spoken.direct_url)


def assert_clean(received: Received, spoken: Spoken) -> None:
    everything = received.everything()
    assert received.get_all("authorization") == [f"Bearer {REAL_KEY}"]
    assert everything.count(REAL_KEY.encode()) == 1
    for word in (b"gate_", PLACEHOLDER.encode(), spoken.road.project.encode(), b"x-tollhouse"):
        assert word not in everything.lower()


def cost(spoken: Spoken) -> Decimal:
    [line] = spoken.charged()
    assert line["charged_by"] == "usage"
    return Decimal(line["cost_usd"])


def test_plain(spoken: Spoken) -> None:
    """The answer is that of the provider asked directly; cached tokens are inside the prompt's."""
    spoken.script(says(samples.whole("The traveller.", USAGE)), 2)
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 200}
    got = sdk(spoken).chat.complete(**asked)
    assert got == straight(spoken).chat.complete(**asked)
    received = spoken.standin.wait_count(2)[0]
    assert received.target == "/v1/chat/completions"
    assert_clean(received, spoken)
    assert cost(spoken) == COST


def test_stream(spoken: Spoken) -> None:
    """Whole, with its usage on the last text. The body is not touched: an option for usage would be refused."""
    frames = [
        sse(samples.chunk("The ")),
        sse(samples.chunk("traveller.", "stop", USAGE)),
        sse("[DONE]"),
    ]
    spoken.script(streams(frames), 2)
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}
    got = list(sdk(spoken).chat.stream(**asked))
    assert got == list(straight(spoken).chat.stream(**asked))
    first, second = spoken.standin.wait_count(2)
    assert first.body == second.body
    assert "stream_options" not in first.document()
    assert cost(spoken) == COST


def test_a_tool_call(spoken: Spoken) -> None:
    """Comes back whole."""
    call = {"id": "call12345", "type": "function", "function": {"name": "toll", "arguments": "{}"}}
    document = json.loads(samples.whole("", USAGE))
    document["choices"][0]["message"]["tool_calls"] = [call]
    spoken.script(says(document), 2)
    tool: Any = {"type": "function", "function": {"name": "toll", "parameters": {}}}
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "tools": [tool]}
    got = sdk(spoken).chat.complete(**asked)
    assert got == straight(spoken).chat.complete(**asked)
    [made] = got.choices[0].message.tool_calls or []
    assert made.function.name == "toll"
    assert cost(spoken) == COST


def test_embeddings_moderations_and_pages(spoken: Spoken) -> None:
    """1000 tokens of 100 nano-dollars, 500 of 100, and 3 pages of 4 milli-dollars."""
    usage = {"prompt_tokens": 1000, "total_tokens": 1000, "completion_tokens": 0}
    vector = {"object": "embedding", "embedding": [0.5], "index": 0}
    head = {"id": "1", "object": "list", "model": "mistral-embed"}
    spoken.script(says({**head, "usage": usage, "data": [vector]}))
    got = sdk(spoken).embeddings.create(model="mistral-embed", inputs=["a"])
    assert got.data[0].embedding == [0.5]
    judged = {"id": "1", "model": "mistral-moderation-2411", "results": []}
    spoken.script(says({**judged, "usage": {"prompt_tokens": 500, "total_tokens": 500}}))
    sdk(spoken).classifiers.moderate(model="mistral-moderation-2411", inputs=["a"])
    pages = {"pages": [], "model": "mistral-ocr-4-1", "usage_info": {"pages_processed": 3}}
    spoken.script(says(pages))
    url: Any = {"type": "document_url", "document_url": "https://example.com/a.pdf"}
    sdk(spoken).ocr.process(model="mistral-ocr-4-1", document=url, pages=[0, 1, 2])
    lines = spoken.charged(3)
    assert [Decimal(line["cost_usd"]) for line in lines] == [
        Decimal("0.0001"),
        Decimal("0.00005"),
        Decimal("0.012"),
    ]
    assert lines[2]["units"] == {"pages": 3}


def test_speech(spoken: Spoken) -> None:
    """14 characters of 16 micro-dollars."""
    spoken.script(says({"audio_data": "UklGRg=="}))
    sdk(spoken).audio.speech.complete(model="voxtral-tts", input="The traveller!", voice_id="v")
    [line] = spoken.charged()
    assert (line["units"], Decimal(line["cost_usd"])) == (
        {"characters": 14},
        Decimal("0.000224"),
    )


def test_a_transcription(spoken: Spoken) -> None:
    """203 seconds of 0.18 USD an hour. The form is sent under its own boundary."""
    usage = {"prompt_audio_seconds": 203, "prompt_tokens": 4, "completion_tokens": 6}
    heard = {"model": "voxtral-mini-2602", "text": "You.", "language": "en", "segments": []}
    spoken.script(says({**heard, "usage": usage}), 2)
    asked: dict[str, Any] = {
        "model": "voxtral-mini-2602",
        "file": {"file_name": "a.mp3", "content": b"x" * 300_000},
    }
    got = sdk(spoken).audio.transcriptions.complete(**asked)
    assert got == straight(spoken).audio.transcriptions.complete(**asked)
    received = spoken.standin.wait_count(2)[0]
    boundary = received.get("content-type").partition("boundary=")[2].encode()
    assert received.body.endswith(b"--" + boundary + b"--\r\n")
    [line] = spoken.charged()
    assert (line["units"], Decimal(line["cost_usd"])) == ({"seconds": 203.0}, Decimal("0.01015"))


def conversation_frames() -> list[bytes]:
    usage = {
        "prompt_tokens": 400,
        "connector_tokens": 600,
        "completion_tokens": 100,
        "total_tokens": 1100,
        "connectors": {"web_search": 2},
    }
    started = {"type": "conversation.response.started", "conversation_id": "conv_1"}
    said = {"type": "message.output.delta", "id": "m", "content": "You.", "model": MODEL}
    events = [started, said, {"type": "conversation.response.done", "usage": usage}]
    return [samples.named(event) for event in events]


def test_a_conversation_with_a_tool(spoken: Spoken) -> None:
    """What the connector read is input, and its two calls are charged beside."""
    spoken.script(streams(conversation_frames()), 2)
    asked: dict[str, Any] = {
        "model": MODEL,
        "inputs": "Who pays?",
        "tools": [{"type": "web_search"}],
        "completion_args": {"max_tokens": 200},
    }
    got = list(sdk(spoken).beta.conversations.start_stream(**asked))
    assert got == list(straight(spoken).beta.conversations.start_stream(**asked))
    [line] = spoken.charged()
    # 1000 x 150 + 100 x 600 nano-dollars, and 2 x 0.03 USD.
    assert Decimal(line["cost_usd"]) == Decimal("0.06021")
    assert [item["model"] for item in line["charges"]] == [MODEL, "web_search"]


def test_an_agent_hides_its_model(shared: Road) -> None:
    """Without a price a limit in money refuses it. The answer names the model."""
    with spoken_by(shared) as spoken:
        with pytest.raises(SDKError, match="model_unpriced"):
            sdk(spoken).beta.conversations.start(agent_id="ag_1", inputs="Who pays?")
        assert spoken.standin.snapshot() == []
    with spoken_by(shared, limits=["9000000 tokens/day"]) as spoken:
        entry = {"type": "message.output", "role": "assistant", "content": "You.", "model": MODEL}
        spoken.script(says({"conversation_id": "conv_1", "outputs": [entry], "usage": USAGE}))
        sdk(spoken).beta.conversations.start(agent_id="ag_1", inputs="Who pays?")
        [line] = spoken.charged()
        assert (line["model"], line["model_served"]) == ("", MODEL)


def test_an_error_of_mistrals_is_the_sdks_own(spoken: Spoken) -> None:
    """Its words and its class, as without the gateway; it costs nothing."""
    error = {"object": "error", "message": "Invalid model", "type": "invalid_model", "code": "1500"}
    spoken.script(says(error, 400))
    with pytest.raises(SDKError, match="Invalid model") as raised:
        sdk(spoken).chat.complete(model=MODEL, messages=MESSAGES)
    assert raised.value.status_code == 400
    assert Decimal(spoken.charged()[0]["cost_usd"]) == 0


def test_a_refusal_is_the_sdks_own(shared: Road) -> None:
    """A 402 with our text."""
    with spoken_by(shared, limits=["0.000001 usd/day"]) as spoken:
        with pytest.raises(SDKError, match="tollhouse: budget_exceeded") as raised:
            sdk(spoken).chat.complete(model=MODEL, messages=MESSAGES, max_tokens=200)
        assert raised.value.status_code == 402
        assert spoken.standin.snapshot() == []


def test_a_cap_is_lowered_by_the_name_that_mistral_knows(shared: Road) -> None:
    """No field is added that it would refuse."""
    with spoken_by(shared, limits=["0.0005 usd/day"], on_shortfall="clamp") as spoken:
        spoken.script(says(samples.whole("You.", USAGE)))
        sdk(spoken).chat.complete(model=MODEL, messages=MESSAGES)
        document = spoken.standin.wait_count(1)[0].document()
        assert 0 < document["max_tokens"] < 1_000
        assert "max_completion_tokens" not in document


def test_the_budget_ends_in_the_middle_of_a_stream(shared: Road) -> None:
    """The SDK raises an error of its own behind the text that came, with our words in its body."""
    with spoken_by(shared, limits=["0.003 usd/day"]) as spoken:
        frames = [sse(samples.chunk(" toll" * 400)) for _ in range(40)]
        steps = Steps()
        steps.release(2)
        spoken.standin.script(replace(streams(frames), steps=steps))
        seen = 0

        def read() -> None:
            nonlocal seen
            for _ in sdk(spoken).chat.stream(model=MODEL, messages=MESSAGES):
                seen += 1
                steps.release(1)

        with pytest.raises(ResponseValidationError) as raised:
            read()
        steps.release_all()
        assert "tollhouse: budget_exceeded" in (raised.value.body or "")
        # A frame has 500 tokens of 600 nano-dollars.
        [line] = spoken.charged()
        assert (line["reason"], line["charged_by"]) == ("budget_exceeded", "estimate")
        assert 8 <= seen <= 13
        assert Decimal("0.0024") < Decimal(line["cost_usd"]) < Decimal("0.004")


def test_the_budget_ends_in_the_middle_of_a_conversation(shared: Road) -> None:
    """The SDK reads the API's own event for an error."""
    said = {"type": "message.output.delta", "id": "m", "content": " toll" * 400, "model": MODEL}
    frames = [conversation_frames()[0], *[samples.named(said)] * 40]
    with spoken_by(shared, limits=["0.003 usd/day"]) as spoken:
        steps = Steps()
        steps.release(2)
        spoken.standin.script(replace(streams(frames), steps=steps))
        got: list[Any] = []
        for one in sdk(spoken).beta.conversations.start_stream(model=MODEL, inputs="Who pays?"):
            got.append(one)
            steps.release(1)
        steps.release_all()
        last = got[-1]
        assert (last.event, last.data.code) == ("conversation.response.error", 402)
        assert "tollhouse: budget_exceeded" in last.data.message
