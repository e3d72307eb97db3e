"""Anthropic's samples. The answers are made with the types of its SDK."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import (
    Message,
    RawContentBlockDeltaEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from anthropic.types.beta import BetaMessage
from pydantic import BaseModel
from tests.families.samples.kit import EVENTS, JSON, Exchange, Samples

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.asked import Dialect
from tollhouse.families.units import Charge, Units

MODEL = "claude-sonnet-5"
SERVED = "claude-sonnet-5-20260630"


def message(usage: dict[str, Any], text: str = "Hello.", **more: Any) -> dict[str, Any]:
    """A message of the SDK's own type, as JSON."""
    found = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": SERVED,
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": "end_turn" if text else None,
        "stop_sequence": None,
        "usage": usage,
        **more,
    }
    kind = Message if not {"iterations", "speed"} & set(usage) else BetaMessage
    return kind.model_validate(found).model_dump(mode="json", exclude_unset=True)


def event(of: BaseModel) -> bytes:
    """An event as the API frames it."""
    kind = of.type  # type: ignore[attr-defined]
    data = of.model_dump_json(exclude_unset=True)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(usage: dict[str, Any], **more: Any) -> bytes:
    told = {"type": "message_start", "message": message(usage, "", **more)}
    return event(RawMessageStartEvent.model_validate(told))


def text(said: str, kind: str = "text_delta", field: str = "text") -> bytes:
    told = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: said}}
    return event(RawContentBlockDeltaEvent.model_validate(told))


def delta(usage: dict[str, Any]) -> bytes:
    told = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": usage,
    }
    return event(RawMessageDeltaEvent.model_validate(told))


STOP = event(RawMessageStopEvent(type="message_stop"))
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BROKEN = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
    b'"message":"Overloaded","details":null},"request_id":"req_1"}\n\n'
)
ASKED = {
    "model": MODEL,
    "max_tokens": 40,
    "messages": [{"role": "user", "content": "Say hello."}],
}
_STREAM = json.dumps({**ASKED, "stream": True}).encode()
_BEGUN = start({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": None})

_EXCHANGES = (
    Exchange(
        "message",
        "/v1/messages",
        json.dumps(ASKED).encode(),
        json.dumps(
            message(
                {
                    "input_tokens": 10,
                    "cache_creation_input_tokens": 300,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": 200,
                        "ephemeral_1h_input_tokens": 100,
                    },
                    "cache_read_input_tokens": 50,
                    "output_tokens": 4,
                    "output_tokens_details": {"thinking_tokens": 1},
                    "service_tier": "standard",
                }
            )
        ).encode(),
        (
            Charge(
                SERVED,
                Units(
                    input=360,
                    output=4,
                    cached=50,
                    cache_write=300,
                    cache_write_1h=100,
                    reasoning=1,
                    requests=1,
                ),
            ),
        ),
    ),
    Exchange(
        "stream",
        "/v1/messages",
        _STREAM,
        _BEGUN + PING + text("Hel") + text("lo.") + delta({"output_tokens": 4}) + STOP,
        (Charge(SERVED, Units(input=10, output=4, requests=1)),),
        EVENTS,
        text=len(_BEGUN + PING + text("Hel")),
        query="beta=true",
    ),
    Exchange(
        "search and an adviser",
        "/v1/messages",
        json.dumps(
            {
                **ASKED,
                "tools": [
                    {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
                    {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"},
                ],
            }
        ).encode(),
        json.dumps(
            message(
                {
                    "input_tokens": 900,
                    "output_tokens": 30,
                    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
                    "iterations": [
                        {
                            "type": "advisor_message",
                            "model": "claude-opus-5",
                            "input_tokens": 700,
                            "cache_creation_input_tokens": 0,
                            "cache_read_input_tokens": 0,
                            "output_tokens": 90,
                        }
                    ],
                }
            )
        ).encode(),
        (
            Charge(SERVED, Units(input=900, output=30, requests=1)),
            Charge("claude-opus-5", Units(input=700, output=90, requests=1)),
            Charge("web_search", Units(requests=2)),
        ),
    ),
    Exchange(
        "objects",
        "/v1/messages",
        json.dumps(
            {
                **ASKED,
                "container": "container_1",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
                        ],
                    }
                ],
            }
        ).encode(),
        json.dumps(
            message(
                {"input_tokens": 90, "output_tokens": 3},
                container={"id": "container_2", "expires_at": "2026-12-01T00:00:00Z"},
            )
        ).encode(),
        (Charge(SERVED, Units(input=90, output=3, requests=1)),),
        created=("container_2",),
        objects=("container_1", "file_1"),
    ),
    Exchange(
        "error in a stream",
        "/v1/messages",
        _STREAM,
        _BEGUN + text("Hel") + BROKEN,
        (Charge(SERVED, Units(input=10, output=1, requests=1)),),
        EVENTS,
        text=len(_BEGUN + text("Hel")),
        error="overloaded_error",
    ),
    Exchange(
        "batch",
        "/v1/messages/batches",
        json.dumps({"requests": [{"custom_id": "1", "params": ASKED}]}).encode(),
        b'{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}',
        (),
        created=("msgbatch_1",),
    ),
    Exchange(
        "upload",
        "/v1/files",
        b"--x\r\n\r\n--x--\r\n",
        b'{"id":"file_1","type":"file","filename":"a.pdf"}',
        (),
        JSON,
        sent=(("content-type", "multipart/form-data; boundary=x"),),
        created=("file_1",),
    ),
)

SAMPLES = (
    Samples(
        ANTHROPIC,
        (
            ("POST", "/v1/messages"),
            ("POST", "/v1/chat/completions"),
            ("GET", "/api/hello"),
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/claude-fable-5"),
            ("POST", "/v1/messages/batches"),
            ("GET", "/v1/messages/batches"),
            ("GET", "/v1/messages/batches/msgbatch_1"),
            ("DELETE", "/v1/messages/batches/msgbatch_1"),
            ("GET", "/v1/messages/batches/msgbatch_1/results"),
            ("POST", "/v1/messages/batches/msgbatch_1/cancel"),
            ("POST", "/v1/files"),
            ("GET", "/v1/files"),
            ("GET", "/v1/files/file_1"),
            ("DELETE", "/v1/files/file_1"),
            ("GET", "/v1/files/file_1/content"),
            ("POST", "/v1/skills"),
            ("GET", "/v1/skills"),
            ("GET", "/v1/skills/skill_1"),
            ("DELETE", "/v1/skills/skill_1"),
            ("POST", "/v1/skills/skill_1/versions"),
            ("GET", "/v1/skills/skill_1/versions"),
            ("GET", "/v1/skills/skill_1/versions/2"),
            ("GET", "/v1/skills/skill_1/versions/2/content"),
            ("DELETE", "/v1/skills/skill_1/versions/2"),
            ("POST", "/v1/sessions"),
            ("GET", "/v1/sessions"),
            ("GET", "/v1/sessions/sess_1"),
            ("POST", "/v1/sessions/sess_1/events"),
            ("GET", "/v1/sessions/sess_1/threads/thread_1/stream"),
            ("DELETE", "/v1/sessions/sess_1"),
            ("POST", "/v1/deployments/dep_1/run"),
            ("POST", "/v1/dreams"),
            ("GET", "/v1/dreams"),
            ("GET", "/v1/dreams/dream_1"),
            ("POST", "/v1/dreams/dream_1/cancel"),
            ("GET", "/v1/organizations/users/a/b/c/d/e"),
            ("POST", "/v1/organizations/api_keys/a/b/c/d/e"),
            ("PUT", "/v1/organizations/claude_code/a/b/c/d/e"),
            ("PATCH", "/v1/organizations/claude_code/a/b/c/d/e"),
            ("DELETE", "/v1/organizations/users/a/b/c/d/e"),
            ("POST", "/v1/oauth/token"),
        ),
        dialect=Dialect(own_rules=True),
        provider="anthropic",
        exchanges=_EXCHANGES,
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"messages":[]}',
            b'{"model":"m","max_tokens":NaN}',
            b'{"model":"m","max_tokens":1.5}',
            b'{"model":"m","MAX_TOKENS":1}',
            b'{"model":"m","tools":[{"type":"web_search_20250305","Max_Uses":1}]}',
        ),
        verdicts=(
            (
                400,
                b'{"type":"error","error":{"message":"Your credit balance is too low to access"}}',
                "no_money",
            ),
            (429, b'{"error":{"type":"billing_error"}}', "no_money"),
            (400, b'{"error":{"type":"invalid_request_error"}}', None),
            (401, b"", "refused"),
        ),
    ),
)
