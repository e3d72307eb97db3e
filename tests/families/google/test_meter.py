"""Answers of Google, as they stream by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.families.samples.google import ASKED, MODEL, PATH, STREAM, answer, counts, crlf

from tollhouse.denial import Denial
from tollhouse.families.asked import Dialect, Request
from tollhouse.families.formats.sse import MAX_EVENT
from tollhouse.families.google import GOOGLE
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers


def meter(
    path: str = STREAM, query: str = "alt=sse", body: bytes = ASKED, headers: Headers = ()
) -> Meter:
    operation = GOOGLE.operation("POST", path)
    assert operation is not None
    asked = GOOGLE.read(Request(operation, path, (), body, query), Dialect())
    return GOOGLE.meter(asked, AnswerHead(200, headers))


def fed(made: Meter, stream: bytes, size: int = 1 << 16) -> tuple[Charge, ...]:
    out = b"".join(made.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    assert out + made.flush() == stream
    return made.finish()


def array(*elements: str) -> bytes:
    return b"[" + b"\n,\r\n".join(element.encode() for element in elements) + b"\n]\n"


PIECES = (
    answer("Hel", **counts(9, 2, totalTokenCount=11)),
    answer("lo.", usageMetadata={"trafficType": "ON_DEMAND"}),
    answer("", **counts(9, 4, thoughtsTokenCount=3, totalTokenCount=16)),
)
CHARGE = Charge(MODEL, Units(input=9, output=7, reasoning=3, requests=1))


@pytest.mark.parametrize("size", [1, 5, 100, 1 << 16])
@pytest.mark.parametrize("framing", ["sse", "array"])
def test_the_last_count_is_charged(framing: str, size: int) -> None:
    """Each piece repeats the running total."""
    if framing == "sse":
        assert fed(meter(), crlf(*PIECES), size) == (CHARGE,)
        return
    made = meter(query="")
    assert fed(made, array(*PIECES), size) == (CHARGE,)
    assert made.done
    assert made.output_seen == 7


def test_counts_while_it_streams() -> None:
    """Lower bounds, one after the other."""
    made = meter(query="")
    text = array(*PIECES)
    first = len(b"[" + PIECES[0].encode())
    made.feed(text[:first])
    assert made.finish() == (Charge(MODEL, Units(input=9, output=2, requests=1)),)
    assert (made.done, made.output_seen) == (False, 2)


def test_our_element_in_an_array() -> None:
    """Behind an element that has ended the client reads one more, and the array is whole."""
    asked_for = GOOGLE.operation("POST", STREAM)
    assert asked_for is not None
    asked = GOOGLE.read(Request(asked_for, STREAM, (), ASKED), Dialect())
    made = GOOGLE.meter(asked, AnswerHead(200, ()))
    begun = b"[" + PIECES[0].encode()
    assert made.boundary is None
    made.feed(begun)
    boundary = made.boundary
    assert boundary is not None
    boundary.sent(begun)
    assert boundary.between
    last = GOOGLE.last_event(Denial("budget_exceeded"), "call_7", asked)
    *_, error = json.loads(begun + last)
    assert error["error"]["code"] == 402
    reader = meter(query="")
    reader.feed(begun + last)
    assert (reader.error, reader.done) == ("402", True)


@pytest.mark.parametrize(
    ("query", "stream"),
    [
        ("", b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]'),
        ("", array(PIECES[0], '{"error":{"code":429,"message":"m"}}')),
        ("alt=sse", b'{\n  "error": {\n    "code": 429,\n    "message": "m"\n  }\n}\n'),
        ("alt=sse", b'[{\n  "error": {\n    "code": 429\n  }\n}\n]\n'),
        ("alt=sse", crlf(PIECES[0]) + b'{\n  "error": {\n    "code": 429\n  }\n}'),
        ("alt=sse", crlf(PIECES[0], '{"error":{"code":429}}')),
    ],
)
def test_errors_under_200(query: str, stream: bytes) -> None:
    """Bare JSON over several lines, an event, an element, an array of one."""
    for size in (3, 1 << 16):
        made = meter(query=query)
        fed(made, stream, size)
        assert made.error == "429"


@pytest.mark.parametrize("size", [1 << 14, 1 << 22])
@pytest.mark.parametrize("query", ["", "alt=sse"])
@pytest.mark.parametrize("path", [PATH, STREAM])
def test_an_answer_with_a_large_image(path: str, query: str, size: int) -> None:
    """It is not kept, and its counts and its searches are read all the same."""
    document: dict[str, Any] = {
        "candidates": [
            {
                "content": {"parts": [{"inlineData": {"data": "A" * (MAX_EVENT + 1)}}]},
                "groundingMetadata": {"webSearchQueries": ["a", "b"]},
            }
        ],
        **counts(9, 1290),
        "modelVersion": "gemini-3.5-flash",
    }
    text = json.dumps(document)
    streamed = crlf(text) if query else array(text)
    made = meter(path, query, b'{"tools":[{"googleSearch":{}}]}')
    assert fed(made, streamed if path == STREAM else text.encode(), size) == (
        Charge("gemini-3.5-flash", Units(input=9, output=1290, requests=1)),
        Charge("google_search", Units(requests=2)),
    )


SEARCHES = b'{"tools":[{"googleSearch":{}},{"googleMaps":{}}]}'


@pytest.mark.parametrize("size", [1 << 10, 1 << 22])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("body", "metadata", "uses"),
    [
        (b'{"tools":[{"googleMaps":{}}]}', {"groundingChunks": [{"maps": {"title": "web"}}]}, "m"),
        (b'{"tools":[{"googleSearch":{}}]}', {"groundingChunks": [{"web": {"uri": "u"}}]}, "s"),
        (SEARCHES, {"imageSearchQueries": ["a", "b", "a"], "webSearchQueries": ["a"]}, "sss"),
        (SEARCHES, {"webSearchQueries": None, "groundingChunks": [{"maps": {}}]}, "m"),
        (SEARCHES, {"retrievalMetadata": {}, "note": '"maps": {"groundingChunks": []}'}, ""),
        (b'{"cachedContent":"cachedContents/c"}', {"webSearchQueries": ["a"]}, "s"),
    ],
)
def test_what_an_answer_is_grounded_in(
    body: bytes, metadata: dict[str, Any], uses: str, large: bool, size: int
) -> None:
    """It is the same of an answer that is too large to be kept."""
    data = "A" * (MAX_EVENT + 1 if large else 1)
    candidate = {"content": {"parts": [{"inlineData": {"data": data}}]}}
    document = {
        "candidates": [{**candidate, "groundingMetadata": metadata}],
        **counts(9, 4),
        "modelVersion": "gemini-3.5-flash",
    }
    text = json.dumps(document, indent=1)
    wanted = {"google_search": uses.count("s"), "google_maps": uses.count("m")}
    found = []
    for made, stream in (
        (meter(PATH, "", body), text.encode()),
        (meter(STREAM, "", body), array(text)),
        (meter(STREAM, "alt=sse", body), crlf(json.dumps(document))),
    ):
        _, *charges = fed(made, stream, size)
        found.append({charge.model: charge.units.requests for charge in charges})
    assert found == [{tool: times for tool, times in wanted.items() if times}] * 3


@pytest.mark.parametrize("large", [False, True])
def test_arguments_of_a_function_are_no_searches(large: bool) -> None:
    """Whatever they are called, where no search was asked for."""
    args = {"webSearchQueries": ["a", "b"], "groundingChunks": [{"web": {}, "maps": {}}]}
    args["text"] = "A" * (MAX_EVENT + 1 if large else 1)
    part = {"functionCall": {"name": "f", "args": args}}
    document = {"candidates": [{"content": {"parts": [part]}}], **counts(9, 4)}
    [charge] = fed(meter(PATH, ""), json.dumps(document).encode())
    assert charge.units == Units(input=9, output=4, requests=1)


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_that_only_the_total_counts(stream: bool) -> None:
    """In OpenAI's format as in Google's own: they are output."""
    path = "/v1beta/openai/chat/completions"
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "stream": stream}
    made = meter(path, "", json.dumps(body).encode())
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    text = json.dumps({"id": "1", "model": MODEL, "choices": [], "usage": usage})
    made.feed(f"data: {text}\n\ndata: [DONE]\n\n".encode() if stream else text.encode())
    made.flush()
    assert made.finish() == (Charge(MODEL, Units(input=10, output=105, requests=1)),)


def test_a_tool_whose_uses_are_not_counted() -> None:
    """A request that asks for one is charged a use of it; an interaction counts them."""
    body = b'{"tools":[{"retrieval":{"vertexRagStore":{}}},{"exaAiSearch":{}}]}'
    _, *uses = fed(meter(PATH, "", body), answer("a", **counts(9, 4)).encode())
    one = Units(requests=1)
    assert uses == [Charge("retrieval", one), Charge("exa_ai_search", one)]
    usage: dict[str, Any] = {"total_input_tokens": 9, "total_tokens": 9}
    tool = b'{"model":"m","input":"a","tools":[{"type":"retrieval"}]}'
    for count, uses_told in ((None, 1), (3, 3), (0, 1)):
        told = [{"type": "retrieval", "count": count}] if count is not None else []
        text = json.dumps({"id": "v1_a", "usage": usage | {"grounding_tool_count": told}}).encode()
        _, *uses = fed(meter("/v1beta/interactions", "", tool), text)
        assert uses == [Charge("retrieval", Units(requests=uses_told))]
        [_] = fed(meter("/v1beta/interactions", "", b'{"model":"m","input":"a"}'), text)


@pytest.mark.parametrize(
    ("metadata", "headers", "asked", "tier"),
    [
        ({"serviceTier": "priority"}, (), "", "priority"),
        ({"serviceTier": "standard"}, (), "priority", "standard"),
        ({"trafficType": "ON_DEMAND_FLEX"}, (), "", "flex"),
        ({"trafficType": "ON_DEMAND"}, (), "priority", ""),
        ({}, (("x-gemini-service-tier", "standard"),), "priority", "standard"),
        ({}, (), "priority", "priority"),
        ({}, (), "", ""),
    ],
)
def test_the_tier_that_was_served(
    metadata: dict[str, Any], headers: Headers, asked: str, tier: str
) -> None:
    """As the answer says it; an answer that says nothing was served as asked."""
    body = json.dumps({"serviceTier": asked}).encode()
    [charge] = fed(meter(PATH, "", body, headers), answer(**counts(9, 4, **metadata)).encode())
    assert charge.tier == tier


def test_output_that_is_sound() -> None:
    """Of a model that only speaks it is plain output, of any other one a part of its own."""
    details = {"candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}]}
    for model, audio in (("gemini-2.5-flash-tts", 0), ("gemini-next", 4)):
        text = answer(**counts(9, 4, **details), modelVersion=model).encode()
        [charge] = fed(meter(f"/v1beta/models/{model}:generateContent", "", ASKED), text)
        assert charge.units == Units(input=9, output=4, output_audio=audio, requests=1)


def test_images_that_were_filtered_out_cost_nothing() -> None:
    """And a prompt that names the key of an image is no image."""
    path = "/v1beta/models/imagen-4.0-generate-001:predict"
    answered = {
        "predictions": [
            {"bytesBase64Encoded": "aGk=", "prompt": '"bytesBase64Encoded"'},
            {"raiFilteredReason": "violence"},
            {"mimeType": "image/png", "bytesBase64Encoded": "aGk="},
        ]
    }
    for size in (1, 7, 1 << 16):
        made = meter(path, "", b'{"instances":[{"prompt":"a"}]}')
        charges = fed(made, json.dumps(answered).encode(), size)
        assert charges == (Charge("", Units(images=2, requests=1)),)


def test_a_stream_of_an_interaction() -> None:
    """Counts may ride on any event, and the answer says when it is over."""
    body = b'{"model":"gemini-3.5-flash","input":"a","stream":true}'
    made = meter("/v1beta/interactions", "", body)
    usage = {"total_input_tokens": 9, "total_output_tokens": 2, "total_tokens": 11}
    made.feed(crlf(json.dumps({"event_type": "step.stop", "metadata": {"total_usage": usage}})))
    assert made.finish() == (Charge("", Units(input=9, output=2, requests=1)),)
    assert not made.done
    usage |= {"grounding_tool_count": [{"type": "google_search", "count": 3}]}
    whole = {"id": "v1_a", "model": "gemini-3.5-flash", "usage": usage}
    made.feed(crlf(json.dumps({"event_type": "interaction.completed", "interaction": whole})))
    assert made.done
    assert made.created == ("v1_a",)
    assert made.finish() == (
        Charge("gemini-3.5-flash", Units(input=9, output=2, requests=1)),
        Charge("google_search", Units(requests=3)),
    )
    error = {"event_type": "error", "error": {"code": "internal", "message": "m"}}
    made.feed(crlf(json.dumps(error)))
    assert made.error == "internal"
