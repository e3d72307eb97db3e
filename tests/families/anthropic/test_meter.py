"""What is read of an answer as it streams by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types.beta import BetaRawContentBlockStartEvent
from tests.families.samples.anthropic import (
    BROKEN,
    PING,
    SERVED,
    STOP,
    delta,
    event,
    message,
    start,
    text,
)

from tollhouse.families.anthropic.extras import Extras, Runs
from tollhouse.families.anthropic.meter import MessageEvents, meter
from tollhouse.families.anthropic.usage import Reported
from tollhouse.families.asked import Asked
from tollhouse.families.meters import AnswerHead
from tollhouse.families.units import Charge, Units

BEGUN = start({"input_tokens": 10, "output_tokens": 1})
WHOLE = (Charge(SERVED, Units(input=10, output=4, requests=1)),)


def _fed(*events: bytes) -> MessageEvents:
    found = MessageEvents(Reported())
    for one in events:
        assert found.feed(one) == one
    return found


def test_done_is_the_end_of_the_message() -> None:
    """Not the last count, and not the reason to stop."""
    found = _fed(BEGUN, text("Hello."), delta({"output_tokens": 4}))
    assert (found.done, found.finish()) == (False, WHOLE)
    found.feed(STOP)
    assert found.done


def test_a_stream_that_is_cut_has_a_lower_bound() -> None:
    """The input of its start counts as soon as it was read."""
    found = _fed(BEGUN, text("Hello."))
    assert found.finish() == (Charge(SERVED, Units(input=10, output=1, requests=1)),)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("text_delta", "text"),
        ("thinking_delta", "thinking"),
        ("input_json_delta", "partial_json"),
    ],
)
def test_output_seen(kind: str, field: str) -> None:
    """20 characters are 5 of OpenAI's tokens and 7.75 of Claude's; each piece is one at least."""
    found = _fed(text("x" * 20, kind, field))
    assert found.output_seen == 8
    found = _fed(*[text("x", kind, field)] * 5)
    assert found.output_seen == 5


def test_the_providers_own_count_is_seen() -> None:
    """If it is more than the text shows: thinking comes as a summary."""
    assert _fed(BEGUN, text("Hello."), delta({"output_tokens": 900})).output_seen == 900


def test_a_text_cannot_speak_for_the_provider() -> None:
    """Usage, errors and ends inside a text are text."""
    said = '{"type":"message_delta","usage":{"output_tokens":1}} "usage" message_stop'
    found = _fed(BEGUN, text(said), text('\n\nevent: error\ndata: {"error":{}}'))
    assert (found.done, found.error) == (False, "")
    found.feed(delta({"output_tokens": 4}))
    assert found.finish() == WHOLE


def test_a_stop_sequence_cannot_hide_the_count() -> None:
    """It may be any word of the client's, also the name of an event."""
    told = {
        "type": "message_delta",
        "delta": {"stop_reason": "stop_sequence", "stop_sequence": "content_block_delta"},
        "usage": {"output_tokens": 4},
    }
    raw = f"event: message_delta\ndata: {json.dumps(told)}\n\n".encode()
    assert _fed(BEGUN, raw).finish() == WHOLE


def test_a_name_of_an_event_cannot_hide_the_count() -> None:
    """A server that calls an event otherwise than its type is read by the type."""
    raw = delta({"output_tokens": 4}).replace(
        b"event: message_delta", b"event: content_block_delta"
    )
    assert _fed(BEGUN, raw).finish() == WHOLE


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.replace(b"\n", b"\r"),
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"data: {", b"data: {\ndata:  "),
        lambda raw: b"".join(raw.partition(b"data")[1:]),
    ],
    ids=["CRLF", "CR", "BOM", "several lines", "no name"],
)
def test_framing(change: Any) -> None:
    """Whatever server-sent events may look like."""
    found = MessageEvents(Reported())
    found.feed(change(BEGUN) + PING + text("Hello."))
    found.feed(delta({"output_tokens": 4}))
    found.feed(change(STOP).removeprefix(b"\xef\xbb\xbf"))
    assert (found.finish(), found.done) == (WHOLE, True)


def test_an_error_under_200() -> None:
    """Its type, never its message."""
    found = _fed(BEGUN, text("Hel"), BROKEN)
    assert (found.error, found.done) == ("overloaded_error", False)
    assert _fed(b'data: {"error":{"type":"api_error","message":"m"}}\n\n').error == "api_error"
    assert _fed(b'event: error\ndata: {"type":"error","error":null}\n\n').error == "error"


def test_unknown_events_and_broken_ones_pass() -> None:
    """The next one may be sound."""
    broken = b'event: message_delta\ndata: {"usage":\n\n'
    deep = b'data: {"usage":' + b"[" * 20_000 + b"\n\n"
    unknown = b'event: news\ndata: {"type":"news","usage":{"output_tokens":7000}}\n\n'
    found = _fed(BEGUN, broken, deep, unknown, delta({"output_tokens": 4}))
    assert found.finish() == WHOLE


def test_a_fallback_in_a_stream() -> None:
    """The block that says who goes on comes without deltas."""
    block = {
        "type": "fallback",
        "from": {"model": "claude-a"},
        "to": {"model": "claude-b"},
        "trigger": {"type": "refusal", "category": None},
    }
    told = {"type": "content_block_start", "index": 1, "content_block": block}
    raw = event(BetaRawContentBlockStartEvent.model_validate(told)).replace(b"from_", b"from")
    found = _fed(BEGUN, text("Hel"), raw, delta({"input_tokens": 30, "output_tokens": 6}))
    assert found.finish() == (Charge("claude-b", Units(input=30, output=6, requests=1)),)


def _block(index: int, **block: Any) -> bytes:
    told = {"type": "content_block_start", "index": index, "content_block": block}
    return event(BetaRawContentBlockStartEvent.model_validate(told))


def test_searches_of_a_stream_that_is_cut() -> None:
    """They are counted as they begin, until the answer counts them itself: one that failed is free."""
    search = {"type": "server_tool_use", "name": "web_search", "input": {}}
    found = _fed(BEGUN, _block(0, id="srvtoolu_1", **search), _block(1, id="srvtoolu_2", **search))
    assert found.finish()[1:] == (Charge("web_search", Units(requests=2)),)
    tools = {"web_search_requests": 1, "web_fetch_requests": 0}
    found.feed(delta({"output_tokens": 4, "server_tool_use": tools}))
    assert found.finish()[1:] == (Charge("web_search", Units(requests=1)),)


def test_files_that_a_program_made() -> None:
    """They are in its result. A name that the model gives to a tool is none."""
    output = {"type": "bash_code_execution_output", "file_id": "file_1"}
    result = {
        "type": "bash_code_execution_result",
        "content": [output],
        "return_code": 0,
        "stdout": "",
        "stderr": "",
    }
    made = {
        "type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": result,
    }
    asks = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"file_id": "file_2"}}
    assert _fed(BEGUN, _block(0, **made), _block(1, **asks)).created == ("file_1",)
    body = message({"input_tokens": 10, "output_tokens": 4, "speed": None}, content=[made, asks])
    found = meter(Asked(), AnswerHead(200, ()))
    found.feed(json.dumps(body).encode())
    found.flush()
    assert found.created == ("file_1",)


def test_files_in_a_long_message() -> None:
    """Where the provider runs tools the content is kept up to a mebibyte, so that the files are their maker's."""
    output = {"type": "code_execution_output", "file_id": "file_1"}
    result = {
        "type": "code_execution_result",
        "content": [output],
        "return_code": 0,
        "stdout": "x" * 100_000,
        "stderr": "",
    }
    made = {
        "type": "code_execution_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": result,
    }
    body = json.dumps(message({"input_tokens": 10, "output_tokens": 4}, content=[made])).encode()
    found = meter(
        Asked(detail=Extras(runs=(Runs("code_execution_20250825"),))), AnswerHead(200, ())
    )
    for at in range(0, len(body), 1_000):
        found.feed(body[at : at + 1_000])
    found.flush()
    assert (found.created, found.finish()[0]) == (("file_1",), WHOLE[0])


def test_the_last_event_needs_no_empty_line() -> None:
    """Its count is read when the answer ends."""
    found = _fed(BEGUN, delta({"output_tokens": 4}).rstrip())
    assert found.finish() != WHOLE
    assert found.flush() == b""
    assert found.finish() == WHOLE


def test_a_huge_event_passes_unread() -> None:
    """Above a mebibyte nothing is kept of it, and what comes behind it is read."""
    huge = b'event: content_block_start\ndata: {"x":"' + b"x" * (3 << 20) + b'"}\n\n'
    found = _fed(BEGUN, huge, delta({"output_tokens": 4}))
    assert found.finish() == WHOLE


def test_a_message_above_the_limit() -> None:
    """Its outermost members are found wherever they stand, and nothing else is kept."""
    usage = {"input_tokens": 10, "output_tokens": 4}
    body = json.dumps(message(usage, '"usage": {"input_tokens": 1}' * 9_000)).encode()
    found = meter(Asked(), AnswerHead(200, ()))
    for at in range(0, len(body), 1_000):
        found.feed(body[at : at + 1_000])
    found.flush()
    assert found.finish() == WHOLE


def test_an_error_as_a_message() -> None:
    """One JSON object where a stream was asked for."""
    found = meter(Asked(stream=True), AnswerHead(200, ()))
    found.feed(b'{"type":"error","error":{"type":"api_error","message":"m"}}')
    found.flush()
    assert (found.error, found.finish()) == ("api_error", ())


def test_what_is_made() -> None:
    """A conversation that the provider keeps has the id of its answer; a container has one of its own. Its time is
    charged if a tool needs it and no newer search brings it free."""
    more = {"container": {"id": "container_1", "expires_at": "2026-12-01T00:00:00Z"}}
    body = json.dumps(message({"input_tokens": 10, "output_tokens": 4}, **more)).encode()
    runs = Runs("code_execution_20250825")
    asked = Asked(detail=Extras(runs=(runs,), keeps_thread=True))
    found = meter(asked, AnswerHead(200, ()))
    found.feed(body)
    found.flush()
    assert found.created == ("msg_1", "container_1")
    assert found.finish()[1:] == (Charge("code_execution", Units(milliseconds=300_000)),)
    free = Asked(detail=Extras(runs=(runs, Runs("web_search_20260209"))))
    found = meter(free, AnswerHead(200, ()))
    found.feed(body)
    found.flush()
    assert (found.finish(), found.created) == (WHOLE, ("container_1",))
