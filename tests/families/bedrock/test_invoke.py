"""InvokeModel: each format's own cap, and each way in which an answer tells its usage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.standin_bedrock import CLAUDE_STREAM, chunk, event

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.bedrock.open_calls import CONVERSE_STREAM, INVOKE, INVOKE_STREAM
from tollhouse.families.formats.aws_event_stream import frame
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

LIMITS = Limits(context=128_000, answer=4_096)
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile%2Fa1b2c3d4e5f6"
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
TITAN = "amazon.titan-text-express-v1"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
EMBED = "amazon.titan-embed-text-v2:0"
COHERE = "cohere.command-r-v1:0"
MISTRAL = "mistral.mistral-7b-instruct-v0:2"
OSS = "openai.gpt-oss-20b-1:0"

CAPPED: list[tuple[str, dict[str, Any]]] = [
    (CLAUDE, {"anthropic_version": "v", "max_tokens": 50, "messages": []}),
    ("anthropic.claude-v2:1", {"prompt": "hi", "max_tokens_to_sample": 50}),
    (NOVA, {"messages": [], "inferenceConfig": {"maxTokens": 50}}),
    (NOVA, {"messages": [], "inferenceConfig": {"max_new_tokens": 50}}),
    (TITAN, {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 50}}),
    (LLAMA, {"prompt": "hi", "max_gen_len": 50}),
    (MISTRAL, {"prompt": "hi", "max_tokens": 50}),
    (COHERE, {"message": "hi", "max_tokens": 50}),
    ("us.deepseek.r1-v1:0", {"prompt": "hi", "max_tokens": 50}),
    ("ai21.jamba-1-5-mini-v1:0", {"messages": [], "max_tokens": 50}),
    (OSS, {"messages": [], "max_completion_tokens": 50}),
    (OSS, {"messages": [], "max_tokens": 50}),
    ("qwen.qwen3-32b-v1:0", {"messages": [], "max_tokens": 50}),
    (PROFILE, {"anthropic_version": "v", "max_tokens": 50}),
    (PROFILE, {"prompt": "hi", "max_gen_len": 50}),
    (PROFILE, {"messages": [], "inferenceConfig": {"max_new_tokens": 50}}),
    ("arn:aws:bedrock:us-east-1::foundation-model%2F" + LLAMA[3:], {"max_gen_len": 50}),
]


def read(model: str, body: dict[str, Any], *, stream: bool = False, headers: Headers = ()) -> Asked:
    action = "invoke-with-response-stream" if stream else "invoke"
    operation = INVOKE_STREAM if stream else INVOKE
    sent = json.dumps(body).encode()
    return BEDROCK.read(Request(operation, f"/model/{model}/{action}", headers, sent), Dialect())


def of_answer(model: str, document: dict[str, Any], headers: Headers = ()) -> tuple[Charge, ...]:
    meter = BEDROCK.meter(
        read(model, {"max_tokens": 1} if model in (CLAUDE, OSS) else {}), AnswerHead(200, headers)
    )
    meter.feed(json.dumps(document).encode())
    meter.flush()
    return meter.finish()


def streamed(model: str, *events: dict[str, Any], headers: Headers = ()) -> Meter:
    meter = BEDROCK.meter(read(model, {}, stream=True), AnswerHead(200, headers))
    for inner in events:
        meter.feed(chunk(inner))
    meter.flush()
    return meter


# Requests


@pytest.mark.parametrize(("model", "body"), CAPPED)
def test_caps(model: str, body: dict[str, Any]) -> None:
    """Each format's own name is read, and lowered in its place."""
    asked = read(model, body)
    assert asked.cap == 50
    sent = BEDROCK.rewrite(json.dumps(body).encode(), asked._replace(lowered_to=7))
    assert json.loads(sent) == json.loads(json.dumps(body).replace("50", "7"))
    assert read(model, json.loads(sent)).cap == 7


@pytest.mark.parametrize(("model", "body"), CAPPED[:13])
def test_a_cap_that_is_put_in(model: str, body: dict[str, Any]) -> None:
    bare = {
        key: value
        for key, value in body.items()
        if value != 50 and not (isinstance(value, dict) and 50 in value.values())
    }
    raw = json.dumps({**bare, "seed": 1}).encode()
    asked = read(model, json.loads(raw))
    assert asked.cap is None
    assert read(model, json.loads(BEDROCK.rewrite(raw, asked._replace(lowered_to=7)))).cap == 7


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (NOVA, {"max_tokens": 9}),
        (LLAMA, {"max_gen_len": 9, "max_tokens": 99}),
        (CLAUDE, {"max_tokens": 9, "maxTokens": 99}),
        (CLAUDE, {"Max_Tokens": 9}),
        (TITAN, {"textgenerationconfig": {}}),
        (NOVA, {"ToolConfig": {}}),
        (CLAUDE, {"max_tokens": 9, "thinking": {"Budget_Tokens": 99}}),
        (EMBED, {"inputText": "hi", "max_tokens": 9}),
        (CLAUDE, {"max_tokens": "9"}),
        (TITAN, {"textGenerationConfig": 9}),
        ("ai21.jamba-1-5-mini-v1:0", {"n": 0}),
        (OSS, {"n": 129}),
    ],
)
def test_what_is_refused(model: str, body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        read(model, body)
    assert refused.value.denial.code == "bad_request"


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (NOVA, {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
        (CLAUDE, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (CLAUDE, {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}),
        (CLAUDE, {"tools": [{"type": "advisor_20260301", "model": "other"}]}),
        (CLAUDE, {"mcp_servers": [{"type": "url", "url": "https://example.com"}]}),
        (CLAUDE, {"fallbacks": [{"model": "other"}]}),
        (CLAUDE, {"compaction": {}}),
        (PROFILE, {"anthropic_version": "v", "tools": [{"type": "web_search_20250305"}]}),
    ],
)
def test_what_is_charged_beside_the_tokens_is_closed(model: str, body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        read(model, body)
    assert refused.value.denial.code == "path_not_allowed"


def test_tools_of_claude_that_are_open() -> None:
    """Those that the client runs, and the search among tools, for which the input is read again."""
    own = [{"name": "mine", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]
    search = {"type": "tool_search_tool_regex", "name": "tool_search_tool_regex"}

    def held(*tools: dict[str, Any]) -> int:
        asked = read(CLAUDE, {"max_tokens": 9, "tools": list(tools)})
        return BEDROCK.estimate(asked, "typical", LIMITS, Dialect()).units.input

    assert held(*own) == 20
    assert held(*own, search) > 4 * 20


def test_a_thinking_budget_of_claude() -> None:
    """One above the cap is held beside it; the cap is not lowered to one below."""
    thinking = {"type": "enabled", "budget_tokens": 9_000}
    asked = read(CLAUDE, {"max_tokens": 1_000, "thinking": thinking})
    held = BEDROCK.estimate(asked, "typical", LIMITS, Dialect())
    assert (held.units.output, held.predicted, asked.least_cap) == (1_000, 9_000, 1)
    asked = read(CLAUDE, {"max_tokens": 10_000, "thinking": thinking})
    held = BEDROCK.estimate(asked, "typical", LIMITS, Dialect())
    assert (held.units.output, held.predicted, asked.least_cap) == (10_000, 0, 9_001)


@pytest.mark.parametrize(
    "model",
    ["amazon.nova-canvas-v1:0", "amazon.nova-reel-v1:0", "stability.sd3-5-large-v1:0", "amazon.titan-image-generator-v2:0",
     "cohere.rerank-v3-5:0", "amazon.nova-sonic-v1:0", "twelvelabs.pegasus-1-2-v1:0", "nobody.model", PROFILE],
)  # fmt: skip
def test_a_format_that_is_not_known(model: str) -> None:
    """Nobody knows what its answer costs."""
    with pytest.raises(Refused) as refused:
        read(model, {"prompt": "hi"})
    assert refused.value.denial.code == "path_not_allowed"


def test_choices_and_tier() -> None:
    asked = read(
        COHERE.replace("command-r-v1", "command-text-v14"),
        {"prompt": "hi", "max_tokens": 50, "num_generations": 3},
        headers=(("x-amzn-bedrock-service-tier", "priority"),),
    )
    assert (asked.choices, asked.tier) == (3, "priority")
    assert BEDROCK.estimate(asked, "typical", LIMITS, Dialect()).units.output == 150


def test_embeddings_have_no_output() -> None:
    asked = read(EMBED, {"inputText": "x" * 400, "dimensions": 512})
    held = BEDROCK.estimate(asked, "typical", LIMITS, Dialect())
    assert (asked.writes, held.units) == (False, Units(input=104, requests=1))
    texts = read("cohere.embed-english-v3", {"texts": ["x" * 400] * 3, "input_type": "search"})
    assert BEDROCK.estimate(texts, "typical", LIMITS, Dialect()).units.input == 3 * 104


def test_an_image_of_claude() -> None:
    data = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    part = {"type": "image", "source": data}
    asked = read(CLAUDE, {"max_tokens": 1, "messages": [{"role": "user", "content": [part]}]})
    assert BEDROCK.estimate(asked, "typical", LIMITS, Dialect()).units.input == 1_608
    assert BEDROCK.estimate(asked, "worst", LIMITS, Dialect()).units.input == LIMITS.context


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (CLAUDE, {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        (NOVA, {"cachePoint": {"type": "default", "ttl": "1h"}}),
    ],
)  # fmt: skip
def test_a_cache_of_an_hour(model: str, part: dict[str, Any]) -> None:
    """Any token of the input may be written to it."""
    body = {"messages": [{"role": "user", "content": [part]}]}
    held = BEDROCK.estimate(read(model, body), "typical", LIMITS, Dialect())
    assert held.may == {"cache_write_1h"}
    short = json.loads(json.dumps(body).replace("1h", "5m"))
    assert BEDROCK.estimate(read(model, short), "typical", LIMITS, Dialect()).may == frozenset()


def test_a_guardrail() -> None:
    asked = read(LLAMA, {}, headers=(("x-amzn-bedrock-guardrailidentifier", "g"),))
    held = BEDROCK.estimate(asked, "typical", LIMITS, Dialect())
    assert held.beside == (Charge("guardrail", Units(requests=1)),)


# Answers


@pytest.mark.parametrize(
    ("model", "document", "units"),
    [
        (
            CLAUDE,
            {"usage": {"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}},
            Units(input=17, cached=5, cache_write=3, output=4, requests=1),
        ),
        (
            CLAUDE,
            {
                "usage": {
                    "input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": 1_000,
                    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 900},
                    "output_tokens_details": {"thinking_tokens": 3},
                }
            },
            Units(input=1_009, cache_write=1_000, cache_write_1h=900, output=4, reasoning=3, requests=1),
        ),
        (
            NOVA,
            {"usage": {"inputTokens": 9, "outputTokens": 4, "cacheReadInputTokenCount": 5, "cacheWriteInputTokenCount": 3}},
            Units(input=17, cached=5, cache_write=3, output=4, requests=1),
        ),
        (
            TITAN,
            {"inputTextTokenCount": 9, "results": [{"tokenCount": 4, "outputText": "Hello."}]},
            Units(input=9, output=4, requests=1),
        ),
        (EMBED, {"embedding": [0.1], "inputTextTokenCount": 9}, Units(input=9, requests=1)),
        (
            LLAMA,
            {"generation": "Hello.", "prompt_token_count": 9, "generation_token_count": 4},
            Units(input=9, output=4, requests=1),
        ),
        (
            OSS,
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}},
            Units(input=9, cached=5, output=4, requests=1),
        ),
    ],
)  # fmt: skip
def test_usage_in_the_body(model: str, document: dict[str, Any], units: Units) -> None:
    """AWS's headers say the same once more, and count for nothing then."""
    headers = (
        ("x-amzn-bedrock-input-token-count", "1000"),
        ("x-amzn-bedrock-output-token-count", "1000"),
        ("x-amzn-bedrock-service-tier", "flex"),
    )
    assert of_answer(model, document, headers) == (Charge("", units, "flex"),)


def test_usage_in_the_headers() -> None:
    """For a body that has none."""
    headers = (
        ("x-amzn-bedrock-input-token-count", "9"),
        ("x-amzn-bedrock-output-token-count", "4"),
    )
    assert of_answer(MISTRAL, {"outputs": [{"text": "Hello."}]}, headers) == (
        Charge("", Units(input=9, output=4, requests=1)),
    )
    assert of_answer(MISTRAL, {"outputs": []}) == ()
    assert of_answer(MISTRAL, {}, (("x-amzn-bedrock-input-token-count", "9e9"),)) == ()


def test_a_large_embedding() -> None:
    document = {"embedding": [0.123456789] * 20_000, "inputTextTokenCount": 9}
    assert of_answer(EMBED, document) == (Charge("", Units(input=9, requests=1)),)


def test_a_long_answer_of_titan() -> None:
    """Its output is counted among its texts, which are too long to be kept. AWS's headers say it; without them nothing
    is known, and the estimate is charged."""
    document = {
        "inputTextTokenCount": 9,
        "results": [{"tokenCount": 20_000, "outputText": "x" * 80_000}],
    }
    headers = (
        ("x-amzn-bedrock-input-token-count", "9"),
        ("x-amzn-bedrock-output-token-count", "20000"),
    )
    units = Units(input=9, output=20_000, requests=1)
    assert of_answer(TITAN, document, headers) == (Charge("", units),)
    assert of_answer(TITAN, document) == ()


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 11, "outputTokenCount": 5}}
OWN = Charge("", Units(input=11, output=5, requests=1))


def test_a_stream_of_claude() -> None:
    """Its own count and AWS's are of the same tokens: they are never added."""
    meter = streamed(CLAUDE, *CLAUDE_STREAM)
    assert (meter.finish(), meter.done, meter.output_seen) == ((OWN,), True, 5)


def test_a_stream_of_claude_without_its_last_count() -> None:
    """AWS's count takes its place."""
    start, *_, stop = CLAUDE_STREAM
    assert streamed(CLAUDE, start).finish() == (Charge("", Units(input=11, output=1, requests=1)),)
    assert streamed(CLAUDE, start, stop).finish() == (OWN,)


def test_counts_of_claude_are_running_totals() -> None:
    """A later one replaces an earlier one; null and absent keep it."""
    start, delta = CLAUDE_STREAM[0], CLAUDE_STREAM[4]
    first = {**delta, "usage": {"output_tokens": 3, "cache_read_input_tokens": 7}}
    last = {**delta, "usage": {"output_tokens": 5, "input_tokens": None}}
    assert streamed(CLAUDE, start, first, last).finish() == (
        Charge("", Units(input=18, cached=7, output=5, requests=1)),
    )


def test_a_stream_that_writes_to_a_cache_of_an_hour() -> None:
    """The first event alone says how long each token is kept."""
    counts = {
        "input_tokens": 9,
        "cache_creation_input_tokens": 1_000,
        "cache_creation": {"ephemeral_1h_input_tokens": 900, "ephemeral_5m_input_tokens": 100},
    }
    start = {"type": "message_start", "message": {"usage": counts}}
    delta = {"type": "message_delta", "usage": {"output_tokens": 5}}
    units = Units(input=1_009, cache_write=1_000, cache_write_1h=900, output=5, requests=1)
    assert streamed(CLAUDE, start, delta).finish() == (Charge("", units),)
    aws = {"inputTokenCount": 9, "outputTokenCount": 5, "cacheWriteInputTokenCount": 1_000}
    stop = {"type": "message_stop", "amazon-bedrock-invocationMetrics": aws}
    assert streamed(CLAUDE, start, stop).finish() == (Charge("", units),)


@pytest.mark.parametrize(
    ("model", "events"),
    [
        (
            LLAMA,
            [
                {"generation": "Hel", "prompt_token_count": 11, "generation_token_count": 1},
                {"generation": "lo.", "prompt_token_count": None, "generation_token_count": 5},
            ],
        ),
        (TITAN, [{"outputText": "Hello.", "inputTextTokenCount": 11, "totalOutputTextTokenCount": 5}]),
        (
            NOVA,
            [
                {"contentBlockDelta": {"delta": {"text": "Hello."}}},
                {"metadata": {"usage": {"inputTokens": 11, "outputTokens": 5}}},
            ],
        ),
        (OSS, [{"choices": [{"delta": {"content": "Hello."}}], "usage": {"prompt_tokens": 11, "completion_tokens": 5}}]),
        (MISTRAL, [{"outputs": [{"text": "Hello."}]}]),
        (COHERE, [{"text": "Hello."}]),
    ],
)  # fmt: skip
def test_streams_of_other_models(model: str, events: list[dict[str, Any]]) -> None:
    """With AWS's count in the last event, or beside the model's own."""
    *before, last = events
    meter = streamed(model, *before, {**last, **METRICS})
    assert (meter.finish(), meter.done) == ((OWN,), True)
    assert streamed(model, *events, METRICS).finish() == (OWN,)
    assert streamed(model, *events).output_seen >= 1


_COUNTED = st.sampled_from(
    ["usage", "message", "metadata", "input_tokens", "output_tokens", "inputTokens", "outputTokens", "prompt_tokens",
     "completion_tokens", "inputTextTokenCount", "results", "tokenCount", "prompt_token_count", "generation_token_count",
     "amazon-bedrock-invocationMetrics", "inputTokenCount", "cacheDetails", "prompt_tokens_details"]
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_COUNTED, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(_COUNTED, _JSON, max_size=4), max_size=4))
def test_counts_of_any_form(events: list[dict[str, Any]]) -> None:
    """Nothing is raised, and no count is negative or larger than its whole."""
    found = [*streamed(CLAUDE, *events).finish()]
    for document in events:
        found += of_answer(CLAUDE, document)
        meter = BEDROCK.meter(converse_of(), AnswerHead(200, ()))
        meter.feed(event("metadata", document))
        found += meter.finish()
    for charge in found:
        assert min(charge.units) >= 0
        assert charge.units.cached + charge.units.cache_write <= charge.units.input


def converse_of() -> Asked:
    request = Request(CONVERSE_STREAM, f"/model/{NOVA}/converse-stream", (), b"{}")
    return BEDROCK.read(request, Dialect())


def test_a_chunk_that_is_no_json() -> None:
    """It is passed over."""
    meter = streamed(CLAUDE, CLAUDE_STREAM[0])
    for payload in (b"", b"{", b'{"bytes":"!!"}', b'{"bytes":"eyJ1c2FnZSI6"}', b"[" * 9_000):
        meter.feed(frame(((":message-type", "event"), (":event-type", "chunk")), payload))
    assert meter.error == ""
    assert len(meter.finish()) == 1
