"""Converse: its requests, what they may take, and what its answers say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.standin_bedrock import converse_frames, event, text_delta, usage

from tollhouse.denial import Denial, Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.bedrock.open_calls import CONVERSE, CONVERSE_STREAM
from tollhouse.families.formats.aws_event_stream import exception_frame
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.units import Charge, Estimate, Units

LIMITS = Limits(context=300_000, answer=10_000)
MODEL = "us.amazon.nova-lite-v1:0"
CLAUDE = "us.anthropic.claude-sonnet-4-20250514-v1:0"
HELLO: dict[str, Any] = {"role": "user", "content": [{"text": "x" * 400}]}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000"
    "00030001018d1a2c0000000049454e44ae426082"
)


def read(stream: bool = False, model: str = MODEL, **body: Any) -> Asked:
    path = f"/model/{model}/converse{'-stream' if stream else ''}"
    document = json.dumps({"messages": [HELLO], **body}).encode()
    operation = CONVERSE_STREAM if stream else CONVERSE
    return BEDROCK.read(Request(operation, path, (), document), Dialect())


def estimate(
    mode: Mode = "typical", stream: bool = False, model: str = MODEL, **body: Any
) -> Estimate:
    return BEDROCK.estimate(read(stream, model, **body), mode, LIMITS, Dialect())


def input_of(mode: Mode, *content: dict[str, Any], **body: Any) -> int:
    messages = [{"role": "user", "content": list(content)}]
    return estimate(mode, **{"messages": messages, **body}).units.input


def meter(asked: Asked, *pieces: bytes) -> Meter:
    made = BEDROCK.meter(asked, AnswerHead(200, ()))
    for piece in pieces:
        assert made.feed(piece) == piece
    made.flush()
    return made


# Requests


def test_what_is_read() -> None:
    asked = read(inferenceConfig={"maxTokens": 500}, serviceTier={"type": "flex"}, stream=True)
    assert (asked.model, asked.cap, asked.stream, asked.tier) == (MODEL, 500, True, "flex")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"cachePoint": {"type": "default", "ttl": "1h"}}]}]},
        {"system": [{"text": "hi"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]},
        {"toolConfig": {"tools": [{"cachePoint": {"type": "default", "ttl": "1h"}}]}},
        {"model": "arn:aws:bedrock:us-east-1:123456789012:prompt%2FABCDEFGHIJ:1"},
    ],
)  # fmt: skip
def test_a_cache_of_an_hour(body: dict[str, Any]) -> None:
    """Any token of the input may be written to it. Nobody sees what a stored prompt asks for."""
    assert estimate(**body).may == {"cache_write_1h"}
    short = json.loads(json.dumps(body).replace("1h", "5m"))
    assert "model" in body or estimate(**short).may == frozenset()


@pytest.mark.parametrize(
    ("more", "tier"),
    [
        ({}, ""),
        ({"serviceTier": {"type": "default"}}, "default"),
        ({"performanceConfig": {"latency": "standard"}}, ""),
        ({"performanceConfig": {"latency": "optimized"}}, "optimized"),
        (
            {"performanceConfig": {"latency": "optimized"}, "serviceTier": {"type": "priority"}},
            "priority+optimized",
        ),
        ({"serviceTier": None, "performanceConfig": None}, ""),
    ],
)
def test_tiers(more: dict[str, Any], tier: str) -> None:
    assert read(**more).tier == tier


@pytest.mark.parametrize("inference", [None, {}, {"maxTokens": None}, {"maxTokens": 0}])
def test_no_cap(inference: Any) -> None:
    assert read().cap is None
    assert read(inferenceConfig=inference).cap is None


@pytest.mark.parametrize(
    "more",
    [
        {"Messages": []},
        {"inferenceconfig": {}},
        {"inferenceConfig": {"maxtokens": 1}},
        {"inferenceConfig": {"maxTokens": 1.5}},
        {"inferenceConfig": {"maxTokens": True}},
        {"inferenceConfig": {"maxTokens": -1}},
        {"inferenceConfig": {"maxTokens": 2**31}},
        {"guardrailConfig": "g"},
        {"serviceTier": "flex"},
        {"toolConfig": []},
        {"additionalModelRequestFields": {"maxTokenCount": 1}},
        {"toolConfig": {"tools": [{"systemtool": {"name": "nova_grounding"}}]}},
        {
            "model": CLAUDE,
            "additionalModelRequestFields": {"thinking": {}, "reasoning_config": {}},
        },
        {"model": CLAUDE, "additionalModelRequestFields": {"thinking": {"Budget_Tokens": 9}}},
    ],
)
def test_what_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        read(**more)
    assert refused.value.denial.code == "bad_request"


@pytest.mark.parametrize("field", ["thinking", "reasoning_config"])
def test_a_thinking_budget_of_claude(field: str) -> None:
    """One above the cap is held beside it; the cap is not lowered to one below."""
    cap = {"maxTokens": 1_000}

    def fields(tokens: int) -> dict[str, Any]:
        return {field: {"type": "enabled", "budget_tokens": tokens}}

    asked = read(model=CLAUDE, inferenceConfig=cap, additionalModelRequestFields=fields(9_000))
    held = BEDROCK.estimate(asked, "typical", LIMITS, Dialect())
    assert (held.units.output, held.predicted, asked.least_cap) == (1_000, 9_000, 1)
    asked = read(model=CLAUDE, inferenceConfig=cap, additionalModelRequestFields=fields(900))
    held = BEDROCK.estimate(asked, "typical", LIMITS, Dialect())
    assert (held.units.output, held.predicted, asked.least_cap) == (1_000, 0, 901)


@pytest.mark.parametrize(
    "more",
    [
        {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        {"additionalModelRequestFields": {"compaction": {}}},
        {
            "model": CLAUDE,
            "additionalModelRequestFields": {"tools": [{"type": "web_search_20250305"}]},
        },
        {
            "model": CLAUDE,
            "additionalModelRequestFields": {"fallbacks": [{"model": "other"}]},
        },
        {
            "additionalModelRequestFields": {
                "context_management": {"edits": [{"type": "compact_20260112"}]}
            }
        },
    ],
)
def test_what_is_charged_beside_the_tokens_is_closed(more: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        read(**more)
    assert refused.value.denial.code == "path_not_allowed"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"messages":[]}', b'{"inferenceConfig":{"maxTokens":7},"messages":[]}'),
        (b' { "messages": [] }', b' {"inferenceConfig":{"maxTokens":7}, "messages": [] }'),
        (b'{"inferenceConfig":{}}', b'{"inferenceConfig":{"maxTokens":7}}'),
        (b'{"inferenceConfig": null}', b'{"inferenceConfig": {"maxTokens":7}}'),
        (b'{"inferenceConfig":{"topP":1}}', b'{"inferenceConfig":{"maxTokens":7,"topP":1}}'),
        (b'{"inferenceConfig":{"maxTokens":null}}', b'{"inferenceConfig":{"maxTokens":7}}'),
        (b'{"inferenceConfig":{"maxTokens" : 90 }}', b'{"inferenceConfig":{"maxTokens" : 7 }}'),
        (b'{"inferenceConfig":{"maxTokens":0}}', b'{"inferenceConfig":{"maxTokens":7}}'),
        (b'{"inferenceConfig":{"maxTokens":3}}', b'{"inferenceConfig":{"maxTokens":3}}'),
        (
            b'{"messages":[{"inferenceConfig":{"maxTokens":9}}]}',
            b'{"inferenceConfig":{"maxTokens":7},"messages":[{"inferenceConfig":{"maxTokens":9}}]}',
        ),
    ],
)
def test_a_lowered_cap(body: bytes, sent: bytes) -> None:
    """Only the cap changes, wherever it stands."""
    asked = BEDROCK.read(Request(CONVERSE, f"/model/{MODEL}/converse", (), body), Dialect())
    assert BEDROCK.rewrite(body, asked) == body
    assert BEDROCK.rewrite(body, asked._replace(lowered_to=7)) == sent
    again = BEDROCK.read(Request(CONVERSE, f"/model/{MODEL}/converse", (), sent), Dialect())
    assert again.cap == min(asked.cap or 7, 7)


@pytest.mark.parametrize("blank", ["", " ", "\n" * 100])
def test_a_lowered_cap_of_an_empty_object(blank: str) -> None:
    """No comma is left behind the only member."""
    body = "{" + blank + "}"
    request = Request(CONVERSE, f"/model/{MODEL}/converse", (), body.encode())
    asked = BEDROCK.read(request, Dialect())._replace(lowered_to=7)
    sent = BEDROCK.rewrite(request.body, asked)
    assert sent.decode() == '{"inferenceConfig":{"maxTokens":7}' + blank + "}"
    inner = b'{"inferenceConfig":%s}' % body.encode()
    assert json.loads(BEDROCK.rewrite(inner, asked)) == {"inferenceConfig": {"maxTokens": 7}}


def test_names_that_are_written_as_escapes() -> None:
    """In a large body a string with an escape for each character is not kept whole; it is read all the same."""

    def request(name: str, **more: Any) -> Request:
        long = {"role": "user", "content": [{"text": "x" * 70_000}]}
        escaped = "".join(f"\\u{ord(character):04x}" for character in name)
        body = json.dumps({"messages": [long], **more}).replace(name, escaped)
        return Request(CONVERSE, f"/model/{MODEL}/converse", (), body.encode())

    edits = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
    with pytest.raises(Refused) as refused:
        BEDROCK.read(request("compact_20260112", additionalModelRequestFields=edits), Dialect())
    assert refused.value.denial.code == "path_not_allowed"
    tier = {"type": "priority-priority"}
    asked = BEDROCK.read(request("priority-priority", serviceTier=tier), Dialect())
    assert asked.tier == "priority-priority"


# Estimates


def test_text() -> None:
    """400 characters of ASCII are 100 tokens, or at the worst 400; a message has 4 or 16, the request 4 or 1,024."""
    assert estimate().units == Units(input=108, output=10_000, requests=1)
    assert estimate("worst").units == Units(input=1_440, output=10_000, requests=1)


def test_a_stream_without_a_cap_grows() -> None:
    held = estimate(stream=True)
    assert (held.units.output, held.grows) == (2_048, True)
    held = estimate("worst", stream=True)
    assert (held.units.output, held.grows) == (10_000, False)
    held = estimate(stream=True, inferenceConfig={"maxTokens": 500})
    assert (held.units.output, held.grows) == (500, False)


def test_system_and_tools_are_input() -> None:
    tool = {"toolSpec": {"name": "clock", "description": "y" * 400, "inputSchema": {"json": {}}}}
    assert estimate(system=[{"text": "y" * 400}]).units.input == 208
    assert estimate(toolConfig={"tools": [tool]}).units.input > 208
    assert estimate(additionalModelRequestFields={"x": "y" * 400}).units.input > 208
    assert estimate(requestMetadata={"x": "y" * 400}).units.input == 108


def test_an_image() -> None:
    """Its base64 is never the measure."""
    block = {"image": {"format": "png", "source": {"bytes": base64.b64encode(PNG).decode()}}}
    assert input_of("typical", block) == 1_608
    assert input_of("worst", block) == 1_040 + 48_169
    unknown = {"image": {"format": "png", "source": {"bytes": "AAAA"}}}
    assert input_of("worst", unknown) == LIMITS.context


def test_documents() -> None:
    """A text counts by its bytes. A PDF may have any number of pages."""
    data = base64.b64encode(bytes(3_000)).decode()
    text = {"document": {"format": "txt", "name": "a", "source": {"bytes": data}}}
    pdf = {"document": {"format": "pdf", "name": "a", "source": {"bytes": data}}}
    assert 1_500 < input_of("typical", text) < 1_520
    assert 3_000 + 1_040 < input_of("worst", text) < 3_000 + 1_060
    assert 1_500 < input_of("typical", pdf) < 1_520
    assert input_of("worst", pdf) == LIMITS.context


@pytest.mark.parametrize("mode", ["typical", "worst"])
@pytest.mark.parametrize(
    "block",
    [
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"document": {"format": "pdf", "name": "a", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"video": {"format": "mp4", "source": {"bytes": "AAAA"}}},
        {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}},
        {"toolResult": {"toolUseId": "t", "content": [{"video": {"source": {"bytes": "AAAA"}}}]}},
    ],
)
def test_what_is_elsewhere(mode: Mode, block: dict[str, Any]) -> None:
    assert input_of(mode, block) == LIMITS.context


def test_a_stored_prompt() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:prompt%2FPROMPT1234"
    assert estimate(model=arn).units.input == LIMITS.context


def test_tool_results() -> None:
    result = {
        "toolResult": {"toolUseId": "t", "content": [{"text": "y" * 400}, {"json": {"a": 1}}]}
    }
    assert input_of("typical", result) > 108
    assert input_of("worst", result) > 1_440


def test_a_guardrail_has_a_price_of_its_own() -> None:
    guardrail = {"guardrailIdentifier": "g", "guardrailVersion": "1"}
    assert estimate(guardrailConfig=guardrail).beside == (Charge("guardrail", Units(requests=1)),)


_KEYS = st.sampled_from(
    ["text", "image", "source", "bytes", "format", "document", "type", "content", "toolResult", "json", "data", "media_type",
     "image_url", "url", "role", "toolUse", "s3Location", "x"]
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
    | st.sampled_from(["image", "document", "txt", "text", "base64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(_JSON, st.sampled_from(["messages", "system", "toolConfig", "other"]))
def test_an_estimate_of_anything(value: Any, where: str) -> None:
    """It raises nothing, and is at most the context limit."""
    modes: tuple[Mode, Mode] = ("typical", "worst")
    for mode in modes:
        body = {"messages": [], where: value if where != "toolConfig" else {"x": value}}
        assert 1 <= estimate(mode, **body).units.input <= LIMITS.context


# Answers


def test_the_input_has_the_tokens_of_the_cache() -> None:
    counts = usage(9, 4, cacheReadInputTokens=15, cacheWriteInputTokens=7)
    [charge] = meter(read(), json.dumps({"usage": counts}).encode()).finish()
    assert charge.units == Units(input=31, cached=15, cache_write=7, output=4, requests=1)


@pytest.mark.parametrize(
    ("counts", "units"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ({"inputTokens": None, "outputTokens": None}, None),
        ({"inputTokens": -1, "outputTokens": "2"}, None),
        (usage(0, 0), Units(requests=1)),
        (usage(5, 1, cacheReadInputTokens=None), Units(input=5, output=1, requests=1)),
        (
            usage(
                5,
                1,
                cacheDetails=[{"ttl": "1h", "inputTokens": 3}, {"ttl": "5m", "inputTokens": 2}],
            ),
            Units(input=10, cache_write=5, cache_write_1h=3, output=1, requests=1),
        ),
    ],
)
def test_counts(counts: Any, units: Units | None) -> None:
    """Null is not zero. A guardrail that stops a request makes a count of zeros."""
    found = meter(read(), json.dumps({"usage": counts}).encode()).finish()
    assert found == (() if units is None else (Charge("", units),))


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_large_answer(size: int) -> None:
    document = {
        "output": {"message": {"content": [{"text": '"usage":{' * size}]}},
        "usage": usage(9, 4),
    }
    body = json.dumps(document).encode()
    pieces = [body[at : at + 4_096] for at in range(0, len(body), 4_096)]
    [charge] = meter(read(), *pieces).finish()
    assert charge.units == Units(input=9, output=4, requests=1)


def test_a_stream() -> None:
    made = meter(read(stream=True), *converse_frames(["x" * 400, "y"], usage(9, 4))[:3])
    assert (made.output_seen, made.done, made.finish()) == (101, False, ())
    made.feed(converse_frames([], usage(9, 150), serviceTier={"type": "flex"})[-1])
    assert (made.output_seen, made.done) == (150, True)
    assert made.finish() == (Charge("", Units(input=9, output=150, requests=1), "flex"),)


def test_text_of_all_kinds_is_seen() -> None:
    """2.5 tokens, 1, 1 and 2."""
    deltas = [
        {"toolUse": {"input": '{"zone":'}},
        {"reasoningContent": {"text": "Hmm."}},
        {"reasoningContent": {"redactedContent": "AAAA"}},
        {"text": "日本"},
    ]
    frames = [
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}) for delta in deltas
    ]
    assert meter(read(stream=True), *frames).output_seen == 7
    assert (
        meter(read(stream=True), event("contentBlockDelta", {"delta": {"text": ""}})).output_seen
        == 0
    )


def test_text_that_looks_like_a_count() -> None:
    """What a model writes is no usage."""
    made = meter(read(stream=True), text_delta('{"usage":{"inputTokens":1,"outputTokens":1}}'))
    assert made.finish() == ()


@pytest.mark.parametrize(
    "kind",
    ["throttlingException", "modelStreamErrorException", "internalServerException", "validationException",
     "serviceUnavailableException"],
)  # fmt: skip
def test_exceptions(kind: str) -> None:
    made = meter(read(stream=True), text_delta("Hel"), exception_frame(kind, b'{"message":"m"}'))
    assert (made.error, made.done, made.finish()) == (kind, False, ())


def test_a_broken_stream_passes_unread() -> None:
    made = meter(read(stream=True), text_delta("Hel"), b"no frame at all", text_delta("lo."))
    assert (made.output_seen, made.error, made.finish()) == (1, "", ())


@pytest.mark.parametrize(
    ("code", "kind", "of_stream"),
    [
        ("bad_request", "ValidationException", "validationException"),
        ("identity_unknown", "AccessDeniedException", "validationException"),
        ("budget_exceeded", "ServiceQuotaExceededException", "validationException"),
        ("model_not_allowed", "AccessDeniedException", "validationException"),
        ("rate_limited", "ThrottlingException", "throttlingException"),
        ("ledger_unavailable", "ServiceUnavailableException", "serviceUnavailableException"),
        ("upstream_unreachable", "InternalServerException", "internalServerException"),
    ],
)
def test_our_errors(code: str, kind: str, of_stream: str) -> None:
    assert json.loads(BEDROCK.error_body(Denial(code), "c"))["__type"] == kind
    assert of_stream.encode() in BEDROCK.error_event(Denial(code), "c")


def test_our_error_in_openais_format() -> None:
    """Where the client reads server-sent events."""
    asked = Asked("m", stream=True, kind="chat")
    assert BEDROCK.last_event(Denial("budget_exceeded"), "c", asked).startswith(b'data: {"error"')
