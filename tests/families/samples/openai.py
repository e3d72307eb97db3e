"""OpenAI's samples."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseError,
    ResponseErrorEvent,
    ResponseFailedEvent,
    ResponseTextDeltaEvent,
)
from tests.families.samples.kit import EVENTS, Exchange, Samples, sse
from tests.families.samples.openai_paths import MORE_OPEN

from tollhouse.families.asked import Dialect
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units

_CHUNK = (
    '{"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"%s"}}],"usage":null}'
)
_PLAIN_CHUNK = _CHUNK.replace(',"usage":null', "")
_COUNTS = (
    '{"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}'
)
_ASKED = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}],"stream":true,"max_tokens":20}'
_RESPONSE = Response.model_validate(
    {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_741_569_952,
        "status": "completed",
        "model": "gpt-5-2025-08-07",
        "output": [
            {
                "id": "ws_1",
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": "search", "query": "toll"},
            },
            {
                "id": "ws_2",
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": "open_page", "url": "https://toll.example"},
            },
            {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["toll"]},
            {
                "id": "ci_1",
                "type": "code_interpreter_call",
                "status": "completed",
                "container_id": "cntr_1",
            },
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
            },
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "tool_usage": {
            "image_gen": {
                "input_tokens": 50,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": 50},
                "output_tokens": 1056,
                "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0},
                "total_tokens": 1106,
            },
            "web_search": {"num_requests": 1},
        },
        "usage": {
            "input_tokens": 90,
            "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10},
            "output_tokens": 40,
            "output_tokens_details": {"reasoning_tokens": 30},
            "total_tokens": 130,
        },
    }
)
_TOLD = Charge(
    "gpt-5-2025-08-07",
    Units(input=90, output=40, cached=20, cache_write=10, reasoning=30, requests=1),
    "default",
)
_OF_TOOLS = (
    Charge("web_search", Units(requests=1)),
    Charge("file_search", Units(requests=1)),
    Charge("code_interpreter", Units(requests=4)),
    Charge(
        "gpt-image-2",
        Units(input=50, output=1056, output_image=1056, requests=1),
    ),
)
_PLAIN = _RESPONSE.model_copy(update={"output": [_RESPONSE.output[-1]], "tool_usage": None})
_BEGUN = _PLAIN.model_copy(update={"status": "in_progress", "usage": None, "output": []})
_ASKS_RESPONSE = (
    b'{"model":"gpt-5","input":"Say hello.","previous_response_id":"resp_0","stream":%s,'
    b'"max_output_tokens":64}'
)
_ASKS_TOOLS = json.dumps(
    {
        "model": "gpt-5",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Say hello."},
                    {"type": "input_file", "file_id": "file_1"},
                ],
            }
        ],
        "max_output_tokens": 64,
        "conversation": {"id": "conv_1"},
        "prompt": {"id": "pmpt_1"},
        "tools": [
            {"type": "web_search"},
            {"type": "file_search", "vector_store_ids": ["vs_1"]},
            {
                "type": "code_interpreter",
                "container": {"type": "auto", "memory_limit": "4g", "file_ids": ["file_2"]},
            },
            {"type": "image_generation", "model": "gpt-image-2"},
        ],
    }
).encode()


def _events(*events: Any) -> bytes:
    """Events as OpenAI names them."""
    return b"".join(
        f"event: {event.type}\ndata: {event.model_dump_json(exclude_unset=True)}\n\n".encode()
        for event in events
    )


_FIRST = (
    ResponseCreatedEvent(type="response.created", sequence_number=0, response=_BEGUN),
    ResponseTextDeltaEvent(
        type="response.output_text.delta",
        sequence_number=1,
        content_index=0,
        delta="Hello.",
        item_id="msg_1",
        logprobs=[],
        output_index=0,
    ),
)
_STREAMED = _events(
    *_FIRST, ResponseCompletedEvent(type="response.completed", sequence_number=2, response=_PLAIN)
)
_FAILED = _PLAIN.model_copy(
    update={
        "status": "failed",
        "usage": None,
        "error": ResponseError(code="server_error", message="m"),
    }
)
_OPENAI_BROKE = b'{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}'

SPEAKS_OPENAI: dict[str, Any] = {
    "verdicts": (
        (401, b'{"error":{"code":"invalid_api_key"}}', "refused"),
        (
            401,
            b'{"error":{"message":"You have insufficient permissions for this operation. Missing"}}',
            "request",
        ),
        (429, _OPENAI_BROKE, "no_money"),
        (429, b'{"error":{"message":"Request too large for gpt-4o"}}', "request"),
        (429, b'{"error":{"code":"rate_limit_exceeded"}}', None),
        (402, b"", "no_money"),
    ),
}

SAMPLES = (
    Samples(
        OPENAI,
        (
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/completions"),
            ("POST", "/v1/embeddings"),
            ("POST", "/v1/responses"),
            ("POST", "/v1/responses/compact"),
            ("POST", "/v1/responses/input_tokens"),
            ("GET", "/v1/responses/resp_1"),
            ("DELETE", "/v1/responses/resp_1"),
            ("POST", "/v1/responses/resp_1/cancel"),
            ("GET", "/v1/responses/resp_1/input_items"),
            ("POST", "/v1/conversations"),
            ("GET", "/v1/conversations/conv_1"),
            ("POST", "/v1/conversations/conv_1"),
            ("DELETE", "/v1/conversations/conv_1"),
            ("GET", "/v1/conversations/conv_1/items"),
            ("POST", "/v1/conversations/conv_1/items"),
            ("GET", "/v1/conversations/conv_1/items/msg_1"),
            ("DELETE", "/v1/conversations/conv_1/items/msg_1"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/m"),
            *MORE_OPEN,
        ),
        dialect=Dialect("on_request"),
        sockets=("/v1/realtime?model=gpt-realtime", "/v1/responses"),
        provider="openai",
        exchanges=(
            Exchange(
                "chat",
                "/v1/chat/completions",
                b'{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20}',
                b'{"id":"1","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"Hello."}}],'
                b'"usage":{"prompt_tokens":9,"completion_tokens":4},"service_tier":"default"}',
                (Charge("gpt-4o-2024-08-06", Units(input=9, output=4, requests=1), "default"),),
            ),
            Exchange(
                "stream",
                "/v1/chat/completions",
                _ASKED,
                sse(_CHUNK % "Hel", _CHUNK % "lo.", _COUNTS, "[DONE]"),
                (Charge("gpt-4o-2024-08-06", Units(input=9, output=4, requests=1)),),
                EVENTS,
                passed=sse(_PLAIN_CHUNK % "Hel", _PLAIN_CHUNK % "lo.", "[DONE]"),
                text=len(sse(_CHUNK % "Hel")),
            ),
            Exchange(
                "embeddings",
                "/v1/embeddings",
                b'{"model":"text-embedding-3-small","input":"Say hello."}',
                b'{"data":[{"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":3}}',
                (Charge("text-embedding-3-small", Units(input=3, requests=1)),),
            ),
            Exchange(
                "error",
                "/v1/chat/completions",
                _ASKED,
                b'{"error":{"message":"m","type":"server_error","code":null}}',
                (),
                error="server_error",
            ),
            Exchange(
                "error in a stream",
                "/v1/chat/completions",
                _ASKED,
                sse(
                    _PLAIN_CHUNK % "Hel",
                    '{"error":{"message":"m","type":"server_error","code":null}}',
                ),
                (),
                EVENTS,
                text=len(sse(_PLAIN_CHUNK % "Hel")),
                error="server_error",
            ),
            Exchange(
                "search",
                "/v1/chat/completions",
                b'{"model":"gpt-4o-search-preview","messages":[],"web_search_options":{}}',
                b'{"model":"gpt-4o-search-preview-2025-03-11","choices":[],'
                b'"usage":{"prompt_tokens":9,"completion_tokens":4}}',
                (
                    Charge(
                        "gpt-4o-search-preview-2025-03-11", Units(input=9, output=4, requests=1)
                    ),
                    Charge("web_search_preview", Units(requests=1)),
                ),
            ),
            Exchange(
                "completion",
                "/v1/completions",
                b'{"model":"gpt-3.5-turbo-instruct","prompt":"Say hello."}',
                b'{"id":"cmpl-1","model":"gpt-3.5-turbo-instruct","choices":[{"text":"Hello."}],'
                b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
                (Charge("gpt-3.5-turbo-instruct", Units(input=3, output=2, requests=1)),),
            ),
            Exchange(
                "stream of a completion",
                "/v1/completions",
                b'{"model":"davinci-002","prompt":["a","b"],"best_of":2,"stream":true}',
                sse(
                    '{"model":"davinci-002","choices":[{"text":"c","index":0}],"usage":null}',
                    '{"model":"davinci-002","choices":[],"usage":{"prompt_tokens":2,'
                    '"completion_tokens":4}}',
                    "[DONE]",
                ),
                (Charge("davinci-002", Units(input=2, output=4, requests=1)),),
                EVENTS,
                passed=sse('{"model":"davinci-002","choices":[{"text":"c","index":0}]}', "[DONE]"),
            ),
            Exchange(
                "response",
                "/v1/responses",
                _ASKS_TOOLS,
                _RESPONSE.model_dump_json(exclude_unset=True).encode(),
                (_TOLD, *_OF_TOOLS),
                created=("resp_1", "ws_1", "ws_2", "fs_1", "ci_1", "cntr_1", "msg_1"),
                objects=("conv_1", "pmpt_1", "file_1", "vs_1", "file_2"),
            ),
            Exchange(
                "stream of a response",
                "/v1/responses",
                _ASKS_RESPONSE % b"true",
                _STREAMED,
                (_TOLD,),
                EVENTS,
                text=len(_events(*_FIRST)),
                created=("resp_1", "msg_1"),
                objects=("resp_0",),
            ),
            Exchange(
                "failed response",
                "/v1/responses",
                _ASKS_RESPONSE % b"true",
                _events(
                    *_FIRST,
                    ResponseFailedEvent(
                        type="response.failed", sequence_number=2, response=_FAILED
                    ),
                ),
                (),
                EVENTS,
                text=len(_events(*_FIRST)),
                error="server_error",
                created=("resp_1", "msg_1"),
                objects=("resp_0",),
            ),
            Exchange(
                "error in a response",
                "/v1/responses",
                _ASKS_RESPONSE % b"true",
                _events(
                    *_FIRST,
                    ResponseErrorEvent(
                        type="error",
                        sequence_number=2,
                        code="rate_limit_exceeded",
                        message="m",
                        param=None,
                    ),
                ),
                (),
                EVENTS,
                text=len(_events(*_FIRST)),
                error="rate_limit_exceeded",
                created=("resp_1",),
                objects=("resp_0",),
            ),
            Exchange(
                "response in the background",
                "/v1/responses",
                b'{"model":"gpt-5","input":"Say hello.","background":true}',
                _BEGUN.model_copy(update={"status": "queued"})
                .model_dump_json(exclude_unset=True)
                .encode(),
                (),
                created=("resp_1",),
            ),
            Exchange(
                "compaction",
                "/v1/responses/compact",
                b'{"model":"gpt-5","input":"Say hello.","previous_response_id":"resp_0"}',
                b'{"id":"resp_2","object":"response.compaction","output":[],"usage":'
                b'{"input_tokens":90,"output_tokens":40,"total_tokens":130,'
                b'"input_tokens_details":null,"output_tokens_details":null}}',
                (Charge("", Units(input=90, output=40, requests=1)),),
                objects=("resp_0",),
            ),
            Exchange(
                "conversation",
                "/v1/conversations",
                b'{"items":[{"role":"user","content":[{"type":"input_image","file_id":"file_1"}]}]}',
                b'{"id":"conv_1","object":"conversation","created_at":1,"metadata":{}}',
                (),
                created=("conv_1",),
                objects=("file_1",),
            ),
        ),
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"messages":[]}',
        ),
        **SPEAKS_OPENAI,
    ),
)
