"""The generic reader: usage objects of the large APIs, in JSON and in events, and bodies that nobody knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.generic import count, meter, read, units_of
from tollhouse.families.meters import AnswerHead
from tollhouse.families.operation import Operation
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

PAID = Operation("unknown", "metered", reads_body=True)
MAKES = Operation("unknown", "job", reads_body=True, objects="makes")
JSON: Headers = (("content-type", "application/json"),)
EVENTS: Headers = (("content-type", "text/event-stream"),)


def asked(body: bytes, operation: Operation = PAID, headers: Headers = JSON) -> Asked:
    return read(Request(operation, "/new", headers, body), Dialect())


NOTHING = Asked(writes=False, reasons=False, kind="unknown", detail=False)


@pytest.mark.parametrize(
    ("usage", "units"),
    [
        # OpenAI's chat: parts are inside their totals.
        (
            {
                "prompt_tokens": 90,
                "completion_tokens": 30,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 40},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Units(input=90, output=30, cached=40, reasoning=20, requests=1),
        ),
        # xAI's reasoning is beside its output, as the total shows.
        (
            {
                "prompt_tokens": 90,
                "completion_tokens": 30,
                "total_tokens": 140,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Units(input=90, output=50, reasoning=20, requests=1),
        ),
        # OpenAI's responses.
        (
            {
                "input_tokens": 90,
                "output_tokens": 30,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens_details": {"reasoning_tokens": 20},
            },
            Units(input=90, output=30, cached=40, reasoning=20, requests=1),
        ),
        # Anthropic's cache is beside its input.
        (
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 50,
                "cache_creation_input_tokens": 30,
                "output_tokens": 7,
            },
            Units(input=90, output=7, cached=50, cache_write=30, requests=1),
        ),
        # Google's thoughts and tools are beside; its cache is inside.
        (
            {
                "promptTokenCount": 80,
                "toolUsePromptTokenCount": 10,
                "cachedContentTokenCount": 40,
                "candidatesTokenCount": 7,
                "thoughtsTokenCount": 20,
            },
            Units(input=90, output=27, cached=40, reasoning=20, requests=1),
        ),
        (
            {"promptTokenCount": 80, "responseTokenCount": 7},
            Units(input=80, output=7, requests=1),
        ),
        (
            {
                "total_input_tokens": 80,
                "total_tool_use_tokens": 10,
                "total_cached_tokens": 40,
                "total_output_tokens": 7,
                "total_thought_tokens": 20,
            },
            Units(input=90, output=27, cached=40, reasoning=20, requests=1),
        ),
        # Cohere's counts are floats.
        (
            {"input_tokens": 90.0, "output_tokens": 7.0, "search_units": 1.0},
            Units(input=90, output=7, searches=1, requests=1),
        ),
        # AWS's cache is beside its input.
        (
            {
                "inputTokens": 10,
                "cacheReadInputTokens": 50,
                "cacheWriteInputTokens": 30,
                "outputTokens": 7,
            },
            Units(input=90, output=7, cached=50, cache_write=30, requests=1),
        ),
        ({"inputTokenCount": 90, "outputTokenCount": 7}, Units(input=90, output=7, requests=1)),
        ({"pages_processed": 3}, Units(pages=3, requests=1)),
        ({"seconds": 1.5}, Units(milliseconds=1500, requests=1)),
        ({"input_tokens": None, "output_tokens": 7}, Units(output=7, requests=1)),
        # No counts.
        ({}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": "90", "completion_tokens": True}, None),
        ({"prompt_tokens": -1, "completion_tokens": float("nan")}, None),
        ({"prompt_tokens": 10**400}, None),
        # Parts are never more than their wholes.
        (
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 40}},
            Units(input=5, cached=5, requests=1),
        ),
    ],
)
def test_usage_objects(usage: dict[str, Any], units: Units | None) -> None:
    """Each in the one normal form."""
    assert units_of(usage) == units


def test_a_count() -> None:
    """Parts of one are rounded up."""
    assert [count(value) for value in (3, 3.2, 0.1, None, "3", [3], False)] == [
        4 - 1,
        4,
        1,
        0,
        0,
        0,
        0,
    ]


def charged(answer: bytes, headers: Headers = JSON, size: int = 1_000_000) -> tuple[Charge, ...]:
    found = meter(NOTHING, AnswerHead(200, headers))
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    assert b"".join(map(found.feed, pieces)) + found.flush() == answer
    return found.finish()


def units(into: int, out: int, model: str = "", tier: str = "") -> tuple[Charge, ...]:
    return (Charge(model, Units(input=into, output=out, requests=1), tier),)


def sse(*documents: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in documents)


USAGE = {"input_tokens": 90, "output_tokens": 7}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("answer", "bill"),
    [
        ({"model": "m", "service_tier": "flex", "usage": USAGE}, units(90, 7, "m", "flex")),
        ({"text": '"usage":{"input_tokens":1}', "usage": USAGE}, units(90, 7)),
        ({"x" * 200_000: "y" * 200_000, "usage": USAGE}, units(90, 7)),
        ({"response": {"model": "m", "usage": USAGE}}, units(90, 7, "m")),
        (
            {"modelVersion": "g", "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}},
            units(9, 0, "g"),
        ),
        ({"meta": {"billed_units": USAGE, "tokens": {"input_tokens": 999}}}, units(90, 7)),
        ({"usage": {"billed_units": USAGE, "tokens": {"input_tokens": 999}}}, units(90, 7)),
        ({"usage": {"inputTokens": 90, "outputTokens": 7}}, units(90, 7)),
        ({"usage": None, "id": "x"}, ()),
        # What the client has sent is repeated there.
        (
            {"model": "m", "usage": USAGE, "metadata": {"model": "n", "usage": {}}},
            units(90, 7, "m"),
        ),
        ({"metadata": {"usage": USAGE}}, ()),
        ({"message": {"model": "n"}, "model": "m", "usage": USAGE}, units(90, 7, "m")),
        ({"content": {"usage": USAGE}}, ()),
        ([{"usage": USAGE}], ()),
        ("usage", ()),
    ],
)
def test_a_whole_answer(answer: Any, bill: tuple[Charge, ...], size: int) -> None:
    """However it is cut. Words inside a text are none of its usage."""
    assert charged(json.dumps(answer).encode(), size=size) == bill


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("events", "bill"),
    [
        # OpenAI's: the last usage that is not null.
        (
            (
                {"model": "m", "usage": None},
                {"usage": {"prompt_tokens": 90, "completion_tokens": 1}},
                {"usage": {"prompt_tokens": 90, "completion_tokens": 7}},
                {"usage": None},
            ),
            units(90, 7, "m"),
        ),
        # Anthropic's: the later event changes what it names.
        (
            (
                {"message": {"model": "m", "usage": {"input_tokens": 90, "output_tokens": 1}}},
                {"delta": {}, "usage": {"input_tokens": None, "output_tokens": 7}},
            ),
            units(90, 7, "m"),
        ),
        (({"type": "response.completed", "response": {"usage": USAGE}},), units(90, 7)),
        (({"delta": {"usage": {"billed_units": USAGE}}},), units(90, 7)),
        (({"x_groq": {"usage": {"prompt_tokens": 90, "completion_tokens": 7}}},), units(90, 7)),
        (({"delta": {"text": '{"usage":{"input_tokens":1}}'}},), ()),
    ],
)
def test_a_stream(events: tuple[Any, ...], bill: tuple[Charge, ...], size: int) -> None:
    """Counts are cumulative and are never added up."""
    stream = sse(*events) + b"data: [DONE]\n\n"
    assert charged(stream, EVENTS, size) == bill
    assert charged(stream[:-2], EVENTS, size) == bill


def test_other_answers_have_no_usage() -> None:
    """Sound, text, nothing at all."""
    for answer in (b"", b"\x00\xff" * 1_000, b"plain text, usage: 5", b"{", b'{"usage":'):
        assert charged(answer, ()) == ()


@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"data: ", b"\n\n", b'{"usage":', b'"', b"}", b"[" * 500, b"9" * 500])
    )
)
def test_garbage_passes_unharmed(parts: list[bytes]) -> None:
    """Nothing is raised, and nothing is changed."""
    for headers in (JSON, EVENTS):
        found = meter(NOTHING, AnswerHead(200, headers))
        assert b"".join(map(found.feed, parts)) + found.flush() == b"".join(parts)
        found.finish()
        assert found.created == ()


def test_what_a_job_makes() -> None:
    """Its id, or its name; of a request that makes nothing it is not looked at."""
    for answer, ids in (
        ({"id": "batch_1", "usage": None}, ("batch_1",)),
        ({"name": "operations/7"}, ("operations/7",)),
        ({"id": "a", "name": "b"}, ("a",)),
        ({"job_id": "job_1"}, ("job_1",)),
        ({"batch": {"id": "batch_1", "name": "mine"}}, ("batch_1",)),
        ({"finetuned_model": {"id": "ft_1"}}, ("ft_1",)),
        ({"id": 7}, ()),
        ({"id": "x" * 2_000}, ()),
    ):
        for operation, created in ((MAKES, ids), (PAID, ())):
            found = meter(asked(b"{}", operation), AnswerHead(200, JSON))
            found.feed(json.dumps(answer).encode())
            found.flush()
            assert found.created == created


def test_what_is_read_of_a_body() -> None:
    """Its model and whether it asks for a stream."""
    assert asked(b'{"model":"m","stream":true,"other":[1]}') == NOTHING._replace(
        model="m", stream=True
    )
    assert asked(b"{}") == NOTHING
    assert asked(b"") == NOTHING


@pytest.mark.parametrize("body", [b"\x00\x01", b"--boundary", b"[1]", b'"a"', b"text {", b"\xff{"])
def test_what_is_not_read(body: bytes) -> None:
    """Its models are not known: a project with a list of models may not send it."""
    for headers in (JSON, (("content-type", "audio/wav"),), ()):
        assert asked(body, headers=headers) == NOTHING._replace(models_unknown=True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"Model":"a"}',
        b'{"model":1}',
        b'{"model":"' + b"x" * 257 + b'"}',
        b'{"stream":"yes"}',
        b'{"STREAM":true}',
        b'{"a":NaN}',
        b"{",
        b'\xef\xbb\xbf{"model":"a"}',
        b" \r\n\t" * 100 + b'{"model":"a","model":"b"}',
        b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_what_can_be_read_in_two_ways(body: bytes) -> None:
    """400, whatever type it came under: a server may read it as JSON."""
    for headers in (JSON, (("content-type", "audio/wav"),)):
        with pytest.raises(Refused) as refused:
            asked(body, headers=headers)
        assert refused.value.denial.code == "bad_request"
        assert refused.value.denial.why


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"previous_response_id": "resp_1"}, ("resp_1",)),
        ({"conversation": {"id": "conv_1"}}, ("conv_1",)),
        ({"input": [{"content": [{"file_id": "f1"}, {"file_id": "f2"}]}]}, ("f1", "f2")),
        ({"tools": [{"vector_store_ids": ["vs_1", "vs_2"]}]}, ("vs_1", "vs_2")),
        ({"container": {"type": "auto", "file_ids": ["f1"]}}, ("f1",)),
        ({"cachedContent": "cachedContents/1", "file_uri": "x"}, ("cachedContents/1", "x")),
        ({"input_files": ["f1", "f2"], "input_dataset_id": "ds_1"}, ("ds_1", "f1", "f2")),
        ({"file_id": None, "thread_id": 7, "batch_id": ""}, ()),
        ({"a": {"file_id": "f1"}, "b": {"file_id": "f1"}}, ("f1",)),
    ],
)
def test_objects_that_a_body_names(body: dict[str, Any], ids: tuple[str, ...]) -> None:
    """In the fields of the large APIs, wherever they stand; each once."""
    assert sorted(asked(json.dumps(body).encode()).objects) == sorted(ids)


def test_too_many_objects() -> None:
    """A thousand are looked up, no more."""
    ids = [f"f{number}" for number in range(1_001)]
    assert len(asked(json.dumps({"file_ids": ids[:1_000]}).encode()).objects) == 1_000
    with pytest.raises(Refused, match="bad_request"):
        asked(json.dumps({"file_ids": ids}).encode())
