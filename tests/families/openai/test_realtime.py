"""What a session over a WebSocket is charged for, message by message.

The messages are those of https://platform.openai.com/docs/api-reference/realtime-server-events, in
the SDK's own types.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import (
    ConversationItemInputAudioTranscriptionCompletedEvent,
    ResponseDoneEvent,
)
from openai.types.responses import ResponseCompletedEvent

from tollhouse.families.openai.realtime import RealtimeMeter, ResponsesSocketMeter
from tollhouse.families.openai.tools import Hosted
from tollhouse.families.units import Charge, Units

DETAILED = {
    "total_tokens": 300,
    "input_tokens": 200,
    "output_tokens": 100,
    "input_token_details": {
        "text_tokens": 60,
        "audio_tokens": 110,
        "image_tokens": 30,
        "cached_tokens": 90,
        "cached_tokens_details": {"text_tokens": 40, "audio_tokens": 30, "image_tokens": 20},
    },
    "output_token_details": {"text_tokens": 25, "audio_tokens": 75},
}
UNITS = Units(
    input=200,
    output=100,
    cached=90,
    input_audio=110,
    cached_audio=30,
    input_image=10,
    output_audio=75,
    requests=1,
)


def message(**event: Any) -> bytes:
    return json.dumps(event).encode()


def answer(name: str, status: str = "completed", usage: Any = DETAILED) -> bytes:
    event = {
        "type": "response.done",
        "event_id": "event_1",
        "response": {
            "object": "realtime.response",
            "id": name,
            "status": status,
            "output": [],
            "usage": usage,
        },
    }
    return ResponseDoneEvent.model_validate(event).model_dump_json(exclude_unset=True).encode()


def transcribed(usage: Any) -> bytes:
    event = {
        "type": "conversation.item.input_audio_transcription.completed",
        "event_id": "event_1",
        "item_id": "item_1",
        "content_index": 0,
        "transcript": "Hello.",
        "usage": usage,
    }
    return (
        ConversationItemInputAudioTranscriptionCompletedEvent.model_validate(event)
        .model_dump_json(exclude_unset=True)
        .encode()
    )


def test_the_answers_of_a_session_are_summed() -> None:
    """Trap 29: also those that were cancelled or are incomplete. One without a count adds nothing."""
    meter = RealtimeMeter("gpt-realtime")
    for number, status in enumerate(("completed", "cancelled", "incomplete", "failed")):
        sent = answer(f"resp_{number}", status)
        assert meter.feed(sent) == sent
    meter.feed(answer("resp_9", "failed", None))
    meter.feed(answer("resp_8", "cancelled", {"input_tokens": 0, "output_tokens": 0}))
    meter.feed(answer("resp_7", "cancelled", {"input_token_details": None}))
    assert meter.finish() == (Charge("gpt-realtime", Units(*(4 * one for one in UNITS)), calls=4),)
    assert not meter.done


def test_an_answer_is_counted_once() -> None:
    """Trap 28."""
    meter = RealtimeMeter("gpt-realtime")
    for _ in range(2):
        meter.feed(answer("resp_1"))
    assert meter.finish() == (Charge("gpt-realtime", UNITS),)


def test_what_the_user_says_is_written_down_by_a_second_model() -> None:
    """By tokens or by the time that it takes, which is rounded up to a millisecond."""
    meter = RealtimeMeter("gpt-realtime", "whisper-1")
    meter.feed(transcribed({"type": "duration", "seconds": 2.2}))
    meter.feed(transcribed({"type": "duration", "seconds": 1.0004}))
    assert meter.finish() == (Charge("whisper-1", Units(milliseconds=3_201, requests=2), calls=2),)
    session = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    meter.feed(message(type="session.updated", event_id="e", session=session))
    meter.feed(
        transcribed(
            {
                "type": "tokens",
                "input_tokens": 26,
                "output_tokens": 8,
                "total_tokens": 34,
                "input_token_details": {"text_tokens": 6, "audio_tokens": 20},
            }
        )
    )
    assert meter.finish()[1:] == (
        Charge("gpt-4o-transcribe", Units(input=26, output=8, input_audio=20, requests=1)),
    )


@pytest.mark.parametrize(
    "usage", [{"type": "duration"}, {"type": "duration", "seconds": True}, None, {"seconds": 1}]
)
def test_a_transcription_without_a_count(usage: Any) -> None:
    """Adds nothing, and raises nothing; NaN is no time."""
    meter = RealtimeMeter("gpt-realtime", "whisper-1")
    kind = "conversation.item.input_audio_transcription.completed"
    meter.feed(message(type=kind, usage=usage))
    meter.feed(b'{"type":"%s","usage":{"type":"duration","seconds":NaN}}' % kind.encode())
    meter.feed(b'{"type":"%s","usage":{"type":"duration","seconds":1e999}}' % kind.encode())
    assert meter.finish() == ()


def test_the_session_says_its_model() -> None:
    """A session may be changed on its way: what is counted afterwards is the new model's. So says the beta's session."""
    meter = RealtimeMeter("alias")
    session = {
        "model": "gpt-realtime-2025-08-28",
        "input_audio_transcription": {"model": "whisper-1"},
    }
    meter.feed(message(type="session.created", session=session))
    meter.feed(answer("resp_1"))
    meter.feed(message(type="session.updated", session={"model": "gpt-realtime-mini"}))
    meter.feed(answer("resp_2"))
    meter.feed(transcribed({"type": "duration", "seconds": 1}))
    assert meter.finish() == (
        Charge("gpt-realtime-2025-08-28", UNITS),
        Charge("gpt-realtime-mini", UNITS),
        Charge("whisper-1", Units(milliseconds=1_000, requests=1)),
    )


def test_an_error_does_not_end_a_session() -> None:
    """What comes after it counts."""
    meter = RealtimeMeter("gpt-realtime")
    meter.feed(message(type="error", error={"type": "invalid_request_error", "message": "m"}))
    assert (meter.error, meter.done) == ("", False)
    meter.feed(answer("resp_1"))
    assert meter.finish() == (Charge("gpt-realtime", UNITS),)


def test_output_is_seen_as_it_comes() -> None:
    """Text by its length. Sound by its own: 48,000 bytes a second, a token for 50 ms."""
    meter = RealtimeMeter("gpt-realtime")
    meter.feed(message(event_id="e", type="response.output_text.delta", delta="x" * 40))
    assert meter.output_seen == 10
    second = base64.b64encode(bytes(48_000)).decode()
    meter.feed(message(type="response.output_audio.delta", event_id="e", delta=second))
    assert meter.output_seen == 30


def response(name: str, usage: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "response",
        "created_at": 1,
        "model": "gpt-5-2025-08-07",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "status": "completed",
        "error": None,
        "service_tier": "default",
        "usage": usage,
        **more,
    }


USAGE = {
    "input_tokens": 90,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 130,
}
COUNTED = Units(input=90, output=40, cached=20, reasoning=30, requests=1)


def completed(name: str, **more: Any) -> bytes:
    event = {"type": "response.completed", "sequence_number": 9, "response": response(name, USAGE)}
    ResponseCompletedEvent.model_validate(event)
    return message(**event, **more)


def test_responses_of_a_socket_are_summed() -> None:
    """Those of one lane come one after the other, those of several at once."""
    meter = ResponsesSocketMeter(lambda lane: Hosted(search="web_search"))
    for lane in ("a", "b"):
        begun = response(f"resp_{lane}", None)
        meter.feed(message(type="response.created", stream_id=lane, response=begun))
    item = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search"}}
    meter.feed(message(type="response.output_item.done", stream_id="b", output_index=0, item=item))
    meter.feed(completed("resp_a", stream_id="a"))
    assert meter.finish() == (Charge("gpt-5-2025-08-07", COUNTED, "default"),)
    meter.feed(completed("resp_b", stream_id="b"))
    meter.feed(completed("resp_c", stream_id="a"))
    assert meter.finish() == (
        Charge("gpt-5-2025-08-07", Units(*(3 * one for one in COUNTED)), "default", calls=3),
        Charge("web_search", Units(requests=1)),
    )
    assert meter.created == ("resp_a", "resp_b", "ws_1", "resp_c")
    assert not meter.done


def test_what_was_paid_is_summed_by_itself() -> None:
    """It covers the tools. An answer that says no cost is priced by its units."""
    meter = ResponsesSocketMeter(lambda lane: Hosted(search="web_search"))
    item = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search"}}
    meter.feed(message(type="response.output_item.done", output_index=0, item=item))
    paid = USAGE | {"cost_in_usd_ticks": 50}
    for name in ("resp_a", "resp_b"):
        meter.feed(message(type="response.completed", response=response(name, paid)))
    meter.feed(completed("resp_c"))
    model, tier = "gpt-5-2025-08-07", "default"
    assert meter.finish() == (
        Charge(model, Units(*(2 * one for one in COUNTED)), tier, paid=10, calls=2),
        Charge(model, COUNTED, tier),
    )


def test_errors_of_a_socket() -> None:
    """One of the protocol has its fields in an object; a failed response has its own. The next answer is sound again."""
    meter = ResponsesSocketMeter()
    limited = {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "m"}
    meter.feed(message(type="error", status=429, error=limited, stream_id="a"))
    assert meter.error == "rate_limit_exceeded"
    failed = response("resp_1", None, error={"code": "server_error", "message": "m"})
    meter.feed(message(type="response.failed", response=failed))
    assert (meter.error, meter.finish()) == ("server_error", ())
    meter.feed(message(type="response.output_text.delta", delta="x" * 40))
    meter.feed(completed("resp_2"))
    assert (meter.error, meter.output_seen) == ("", 10)
    assert meter.finish() == (Charge("gpt-5-2025-08-07", COUNTED, "default"),)


@given(
    messages=st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [
                b'{"type":"response.done","response":5}',
                b'{"type":"response.done","response":{"usage":[]}}',
                b'{"type":"response.completed"}',
                b'{"type":"session.created","session":{"audio":[]}}',
                b'["response.done"]',
                b'{"type":"response.done"' + b"[" * 300,
                b'{"type":["response.done"],"stream_id":{}}',
                b'{"type":"response.output_item.done","item":5,"output_index":"x"}',
            ]
        )
    )
)
def test_garbage_passes(messages: list[bytes]) -> None:
    """Unchanged, and nothing is raised."""
    for meter in (RealtimeMeter("m"), ResponsesSocketMeter()):
        for one in messages:
            assert meter.feed(one) == one
        assert meter.flush() == b""
        assert meter.finish() == ()
