"""Azure OpenAI through the running gateway, by the SDK's own Azure client and by the plain one at the v1 path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road
from tests.support.spoken import Spoken, open_spoken, says, spoken_by, streams

from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps

HOST = "contoso.openai.azure.com"
VERSION = "2024-10-21"
DEPLOYMENT, OTHER = "my-deployment", "my-vectors"
MESSAGES: Any = [{"role": "user", "content": "Who pays at the tollhouse?"}]
# gpt-4o's list price at Azure, USD per million tokens: 2.50 and 10. text-embedding-3-small: 0.02.
USAGE = CompletionUsage(prompt_tokens=1000, completion_tokens=100, total_tokens=1100)
COST = Decimal("0.0035")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    models = {DEPLOYMENT: "gpt-4o", OTHER: "text-embedding-3-small"}
    settings = {"providers.azure": {"models": models}}
    with open_spoken(tmp_path_factory.mktemp("azure"), "azure", HOST, settings) as road:
        yield road


@pytest.fixture
def spoken(shared: Road) -> Iterator[Spoken]:
    with spoken_by(shared) as mine:
        yield mine


def answer(message: dict[str, Any] | None = None, finish: str = "stop") -> dict[str, Any]:
    said = message or {"role": "assistant", "content": "The traveller."}
    choice = {"index": 0, "finish_reason": finish, "message": said, "content_filter_results": {}}
    whole = ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-11-20",
            "choices": [choice],
            "usage": USAGE,
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
        }
    )
    return whole.model_dump(mode="json", exclude_unset=True)


def chunk(**parts: Any) -> bytes:
    fields = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-11-20",
        "choices": [],
        **parts,
    }
    document = ChatCompletionChunk.model_validate(fields).model_dump(
        mode="json", exclude_unset=True
    )
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]


FILTERED = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
FRAMES = [
    chunk(model="", usage=None, **FILTERED),
    chunk(choices=choice({"role": "assistant", "content": "The "}), usage=None),
    chunk(choices=choice({"content": "traveller."}), usage=None),
    chunk(choices=choice({}, "stop"), usage=None),
    b'data: {"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,'
    b'"content_filter_offsets":{"check_offset":1},"delta":{}}],"usage":null}\n\n',
    chunk(usage=USAGE.model_dump(exclude_none=True)),
    b"data: [DONE]\n\n",
]


def azure(spoken: Spoken, version: str = VERSION, **options: Any) -> AzureOpenAI:
    return AzureOpenAI(
        azure_endpoint=f"https://{HOST}",
        api_version=version,
        http_client=spoken.through,
        max_retries=0,
        **(options or {"api_key": PLACEHOLDER}),
    )


def straight(spoken: Spoken) -> AzureOpenAI:
    return AzureOpenAI(
        azure_endpoint=spoken.direct_url,
        api_version=VERSION,
        api_key=REAL_KEY,
        http_client=spoken.direct,
    )


def assert_clean(received: Received, spoken: Spoken) -> None:
    everything = received.everything()
    assert received.get_all("api-key") == [REAL_KEY]
    assert received.get_all("authorization") == []
    assert everything.count(REAL_KEY.encode()) == 1
    for word in (b"gate_", PLACEHOLDER.encode(), spoken.road.project.encode(), b"x-tollhouse"):
        assert word not in everything.lower()


def test_plain(spoken: Spoken) -> None:
    """The answer is that of the provider asked directly; the line has the model behind the deployment."""
    spoken.script(says(answer()), 2)
    asked: dict[str, Any] = {"model": DEPLOYMENT, "messages": MESSAGES, "max_tokens": 200}
    got = azure(spoken).chat.completions.create(**asked)
    assert got == straight(spoken).chat.completions.create(**asked)
    received = spoken.standin.wait_count(2)[0]
    path = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version={VERSION}"
    assert received.target == path
    assert_clean(received, spoken)
    [line] = spoken.charged()
    assert (line["model"], line["model_served"]) == ("gpt-4o", "gpt-4o-2024-11-20")
    assert (line["charged_by"], Decimal(line["cost_usd"])) == ("usage", COST)


@pytest.mark.parametrize("slot", ["azure_ad_token", "api_key"])
def test_a_credential_in_the_workloads_place_does_not_leave(spoken: Spoken, slot: str) -> None:
    """An Entra token stands in Authorization, a key in api-key, and either in the query."""
    spoken.script(says(answer()))
    client = azure(spoken, **{slot: "of-the-workload"})
    query = {"api-key": "of-the-workload", "Authorization": "Bearer of-the-workload"}
    client.chat.completions.create(model=DEPLOYMENT, messages=MESSAGES, extra_query=query)
    [received] = spoken.standin.wait_count(1)
    assert_clean(received, spoken)
    assert b"of-the-workload" not in received.everything()
    assert f"?api-version={VERSION}" in received.target


def test_stream(spoken: Spoken) -> None:
    """With the chunks that only Azure sends. What the gateway asked for is not shown to a client that did not ask."""
    spoken.script(streams(FRAMES), 2)
    asked: dict[str, Any] = {"model": DEPLOYMENT, "messages": MESSAGES, "stream": True}
    got = list(azure(spoken).chat.completions.create(**asked))
    there = [one for one in straight(spoken).chat.completions.create(**asked) if not one.usage]
    assert [one.model_dump(exclude={"usage"}) for one in got] == [
        one.model_dump(exclude={"usage"}) for one in there
    ]
    assert [one.usage for one in got] == [None] * 5
    received = spoken.standin.wait_count(2)[0]
    assert received.document()["stream_options"] == {"include_usage": True}
    [line] = spoken.charged()
    assert (line["charged_by"], Decimal(line["cost_usd"])) == ("usage", COST)
    assert line["model_served"] == "gpt-4o-2024-11-20"


def test_an_old_version_is_not_asked_for_its_usage(spoken: Spoken) -> None:
    """It would refuse the option. Its stream has no usage, and what was held is charged."""
    spoken.script(streams([FRAMES[1], FRAMES[3], FRAMES[6]]))
    list(
        azure(spoken, "2024-06-01").chat.completions.create(
            model=DEPLOYMENT, messages=MESSAGES, stream=True
        )
    )
    [received] = spoken.standin.wait_count(1)
    assert "stream_options" not in received.document()
    [line] = spoken.charged()
    assert line["charged_by"] == "hold"


def test_a_tool_call(spoken: Spoken) -> None:
    """Comes back whole."""
    function = {"name": "toll", "arguments": '{"wagons":2}'}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    spoken.script(says(answer(said, "tool_calls")))
    tool: Any = {"type": "function", "function": {"name": "toll", "parameters": {}}}
    got = azure(spoken).chat.completions.create(
        model=DEPLOYMENT, messages=MESSAGES, tools=[tool], max_tokens=200
    )
    [call] = got.choices[0].message.tool_calls or []
    assert call.model_dump()["function"] == function
    assert Decimal(spoken.charged()[0]["cost_usd"]) == COST


def test_embeddings(spoken: Spoken) -> None:
    """At the price of the model behind the deployment: 1000 tokens at 20 nano-dollars."""
    vectors = CreateEmbeddingResponse.model_validate(
        {
            "object": "list",
            "model": OTHER,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
        }
    )
    spoken.script(says(vectors.model_dump(mode="json")))
    got = azure(spoken).embeddings.create(model=OTHER, input="a", encoding_format="float")
    assert got.data[0].embedding == [0.5]
    [line] = spoken.charged()
    assert (line["model"], Decimal(line["cost_usd"])) == (
        "text-embedding-3-small",
        Decimal("0.00002"),
    )


def test_responses(spoken: Spoken) -> None:
    """Their path has no deployment: the body's model is it."""
    text = {"type": "output_text", "text": "You.", "annotations": []}
    item = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    usage = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 100,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1100,
    }
    spoken.script(
        says(
            {
                "id": "resp_1",
                "object": "response",
                "created_at": 1,
                "status": "completed",
                "model": DEPLOYMENT,
                "output": [{**item, "content": [text]}],
                "usage": usage,
            }
        )
    )
    got = azure(spoken).responses.create(model=DEPLOYMENT, input="Who pays?")
    assert got.output_text == "You."
    [received] = spoken.standin.wait_count(1)
    assert received.target == f"/openai/responses?api-version={VERSION}"
    [line] = spoken.charged()
    assert (line["model"], Decimal(line["cost_usd"])) == ("gpt-4o", COST)


def test_the_plain_client_at_the_v1_path(spoken: Spoken) -> None:
    """The body's model is the deployment there."""
    spoken.script(says(answer()))
    client = OpenAI(
        base_url=f"https://{HOST}/openai/v1", api_key=PLACEHOLDER, http_client=spoken.through
    )
    client.chat.completions.create(model=DEPLOYMENT, messages=MESSAGES, max_tokens=200)
    [received] = spoken.standin.wait_count(1)
    assert received.target == "/openai/v1/chat/completions"
    assert_clean(received, spoken)
    [line] = spoken.charged()
    assert (line["model"], Decimal(line["cost_usd"])) == ("gpt-4o", COST)


def test_an_error_of_azures_is_the_sdks_own(spoken: Spoken) -> None:
    """Its words and its class, as without the gateway; it costs nothing."""
    inner = {"code": "ResponsibleAIPolicyViolation"}
    error = {"code": "content_filter", "message": "The prompt was filtered", "innererror": inner}
    spoken.script(says({"error": error}, 400))
    with pytest.raises(openai.BadRequestError) as raised:
        azure(spoken).chat.completions.create(model=DEPLOYMENT, messages=MESSAGES)
    assert raised.value.code == "content_filter"
    assert Decimal(spoken.charged()[0]["cost_usd"]) == 0


def test_a_model_that_the_project_may_not_use(shared: Road) -> None:
    """The list is asked about the model behind the deployment, or names the deployment itself."""
    with spoken_by(shared, models=["gpt-4o-mini", "azure/my-v*"]) as spoken:
        for name in (DEPLOYMENT, OTHER):
            with pytest.raises(openai.PermissionDeniedError, match="model_not_allowed"):
                azure(spoken).chat.completions.create(model=name, messages=MESSAGES)
        assert spoken.standin.snapshot() == []
    for allowed in ("gpt-4o", f"azure/{DEPLOYMENT}"):
        with spoken_by(shared, models=[allowed]) as spoken:
            spoken.script(says(answer()))
            azure(spoken).chat.completions.create(model=DEPLOYMENT, messages=MESSAGES)


def test_a_refusal_is_the_sdks_own(shared: Road) -> None:
    """A 402 with our text."""
    with spoken_by(shared, limits=["0.0001 usd/day"]) as spoken:
        with pytest.raises(openai.APIStatusError, match="tollhouse: budget_exceeded") as raised:
            azure(spoken).chat.completions.create(model=DEPLOYMENT, messages=MESSAGES)
        assert raised.value.status_code == 402
        assert spoken.standin.snapshot() == []


def test_the_budget_ends_in_the_middle_of_a_stream(shared: Road) -> None:
    """The SDK raises its own error behind the text that came."""
    word = chunk(choices=choice({"content": " toll" * 400}), usage=None)
    with spoken_by(shared, limits=["0.05 usd/day"]) as spoken:
        steps = Steps()
        steps.release(2)
        frames = streams([FRAMES[0], *[word] * 40, FRAMES[5]])
        spoken.standin.script(replace(frames, steps=steps))
        stream = azure(spoken).chat.completions.create(
            model=DEPLOYMENT, messages=MESSAGES, stream=True
        )
        seen = 0

        def read() -> None:
            nonlocal seen
            for one in stream:
                seen += bool(one.choices)
                steps.release(1)

        with pytest.raises(openai.APIError, match="tollhouse: budget_exceeded"):
            read()
        steps.release_all()
        # A frame has 500 tokens of 10 micro-dollars each. The provider is two ahead of what is read.
        [line] = spoken.charged()
        assert (line["reason"], line["charged_by"]) == ("budget_exceeded", "estimate")
        assert 1 <= seen <= 13
        assert 0 < Decimal(line["cost_usd"]) < Decimal("0.066")
