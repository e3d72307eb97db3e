"""Bedrock's samples."""

from __future__ import annotations

import json
from typing import Any

from botocore.eventstream import EventStreamBuffer
from tests.families.samples.kit import JSON, Exchange, Samples
from tests.support.standin_bedrock import chunk, event, text_delta

from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.formats.aws_event_stream import exception_frame
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

FRAMES: Headers = (("content-type", "application/vnd.amazon.eventstream"),)
NOVA = "/model/us.amazon.nova-lite-v1%3A0"
CLAUDE = "/model/anthropic.claude-3-haiku-20240307-v1:0"
ROUTER = (
    "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Adefault-prompt-router%2F"
    "anthropic.claude%3A1"
)


def payload(event: bytes) -> bytes:
    """The payload of one frame, as botocore reads it."""
    if event.startswith(b"{"):
        return event
    buffer = EventStreamBuffer()
    buffer.add_data(event)
    [message] = buffer
    return bytes(message.payload)


def _body(**document: Any) -> bytes:
    return json.dumps(document).encode()


_MESSAGES = [{"role": "user", "content": [{"text": "Say hello."}]}]
_CONVERSE = _body(messages=_MESSAGES, inferenceConfig={"maxTokens": 20, "temperature": 0.5})
_USAGE = {
    "inputTokens": 9,
    "outputTokens": 4,
    "totalTokens": 35,
    "cacheReadInputTokens": 15,
    "cacheWriteInputTokens": 7,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 5}, {"ttl": "1h", "inputTokens": 2}],
}
_COUNTED = Units(input=31, cached=15, cache_write=7, cache_write_1h=2, output=4, requests=1)
_START = event("messageStart", {"role": "assistant"})
_STOP = event("contentBlockStop", {"contentBlockIndex": 0}) + event(
    "messageStop", {"stopReason": "end_turn"}
)
_METADATA = event("metadata", {"usage": _USAGE, "metrics": {"latencyMs": 551}})
_STREAM = _START + text_delta("Hel") + text_delta("lo.") + _STOP + _METADATA

_ASKED_CLAUDE = _body(
    anthropic_version="bedrock-2023-05-31",
    max_tokens=20,
    messages=[{"role": "user", "content": "Say hello."}],
)
_CLAUDE_START = {
    "type": "message_start",
    "message": {
        "model": "claude-3-haiku-20240307",
        "usage": {"input_tokens": 11, "output_tokens": 1},
    },
}
_CLAUDE_TEXT = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": "Hello."},
}
_CLAUDE_DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {
        "output_tokens": 5,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": None,
    },
}
_CLAUDE_STOP = {
    "type": "message_stop",
    "amazon-bedrock-invocationMetrics": {
        "inputTokenCount": 11,
        "outputTokenCount": 5,
        "cacheReadInputTokenCount": 3,
        "invocationLatency": 400,
        "firstByteLatency": 200,
    },
}
_OF_CLAUDE = Charge("", Units(input=14, cached=3, output=5, requests=1))

SAMPLES = (
    Samples(
        BEDROCK,
        (
            ("POST", f"{NOVA}/converse"),
            ("POST", f"{NOVA}/converse-stream"),
            ("POST", f"{CLAUDE}/invoke"),
            ("POST", f"{CLAUDE}/invoke-with-response-stream"),
            ("POST", f"{CLAUDE}/count-tokens"),
            ("POST", "/openai/v1/chat/completions"),
            ("POST", "/async-invoke"),
            ("GET", "/async-invoke"),
            ("GET", "/async-invoke/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aasync-invoke%2Fa1b2"),
            ("GET", "/foundation-models"),
            ("POST", "/model-invocation-job"),
        ),
        host="bedrock.us-east-1.amazonaws.com",
        provider="bedrock",
        event_json=payload,
        exchanges=(
            Exchange(
                "converse",
                f"{NOVA}/converse",
                _CONVERSE,
                _body(
                    output={"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
                    stopReason="end_turn",
                    usage=_USAGE,
                    metrics={"latencyMs": 551},
                    serviceTier={"type": "priority"},
                ),
                (Charge("", _COUNTED, "priority"),),
            ),
            Exchange(
                "converse stream",
                f"{NOVA}/converse-stream",
                _CONVERSE,
                _STREAM,
                (Charge("", _COUNTED),),
                FRAMES,
                text=len(_START + text_delta("Hel")),
            ),
            Exchange(
                "a prompt router",
                f"{ROUTER}/converse",
                _CONVERSE,
                _body(
                    usage={"inputTokens": 9, "outputTokens": 4, "totalTokens": 13},
                    trace={
                        "promptRouter": {
                            "invokedModelId": "arn:aws:bedrock:us-east-1:123456789012:"
                            "inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0"
                        }
                    },
                    performanceConfig={"latency": "optimized"},
                ),
                (
                    Charge(
                        "us.anthropic.claude-3-haiku-20240307-v1:0",
                        Units(input=9, output=4, requests=1),
                        "optimized",
                    ),
                ),
            ),
            Exchange(
                "an exception in a stream",
                f"{NOVA}/converse-stream",
                _CONVERSE,
                _START
                + text_delta("Hel")
                + exception_frame("modelStreamErrorException", b'{"message":"m"}'),
                (),
                FRAMES,
                text=len(_START + text_delta("Hel")),
                error="modelStreamErrorException",
            ),
            Exchange(
                "a guardrail",
                f"{NOVA}/converse",
                _body(
                    messages=_MESSAGES,
                    inferenceConfig={"maxTokens": 20},
                    guardrailConfig={"guardrailIdentifier": "g", "guardrailVersion": "1"},
                ),
                _body(usage={"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}),
                (
                    Charge("", Units(input=9, output=4, requests=1)),
                    Charge("guardrail", Units(requests=1)),
                ),
            ),
            Exchange(
                "invoke Claude",
                f"{CLAUDE}/invoke",
                _ASKED_CLAUDE,
                _body(
                    type="message",
                    model="claude-3-haiku-20240307",
                    content=[{"type": "text", "text": "Hello."}],
                    usage={
                        "input_tokens": 11,
                        "cache_read_input_tokens": 3,
                        "cache_creation_input_tokens": None,
                        "output_tokens": 5,
                    },
                ),
                (_OF_CLAUDE,),
                (*JSON, ("x-amzn-bedrock-input-token-count", "11")),
            ),
            Exchange(
                "stream Claude",
                f"{CLAUDE}/invoke-with-response-stream",
                _ASKED_CLAUDE,
                b"".join(map(chunk, (_CLAUDE_START, _CLAUDE_TEXT, _CLAUDE_DELTA, _CLAUDE_STOP))),
                (_OF_CLAUDE,),
                FRAMES,
                text=len(chunk(_CLAUDE_START) + chunk(_CLAUDE_TEXT)),
            ),
            Exchange(
                "count tokens",
                f"{CLAUDE}/count-tokens",
                _body(input={"converse": {"messages": _MESSAGES}}),
                b'{"inputTokens":9}',
                (),
            ),
            Exchange(
                "as OpenAI",
                "/openai/v1/chat/completions",
                _body(
                    model="openai.gpt-oss-20b-1:0",
                    messages=[{"role": "user", "content": "Say hello."}],
                    max_completion_tokens=20,
                ),
                _body(
                    model="openai.gpt-oss-20b-1:0",
                    choices=[{"message": {"content": "Hello."}}],
                    usage={"prompt_tokens": 9, "completion_tokens": 4},
                ),
                (Charge("openai.gpt-oss-20b-1:0", Units(input=9, output=4, requests=1)),),
            ),
        ),
        malformed=(
            b"",
            b"[]",
            b'{"messages":[],"messages":[]}',
            b'{"messages":[],"InferenceConfig":{"maxTokens":1}}',
            b'{"messages":[],"inferenceConfig":{"maxTokens":1,"MaxTokens":9}}',
            b'{"messages":[],"inferenceConfig":{"maxTokens":"1"}}',
            b'{"messages":[],"inferenceConfig":{"maxTokens":NaN}}',
            b'{"messages":[],"inferenceConfig":[]}',
            b'{"messages":[],"serviceTier":{"type":1}}',
            b'{"messages":[],"additionalModelRequestFields":{"max_tokens":9}}',
            b'{"messages":[],"additionalModelRequestFields":{"inferenceConfig":{"max_new_tokens":9}}}',
        ),
        verdicts=(
            (
                403,
                b'{"message":"Authentication failed: Please make sure your API Key is valid."}',
                "refused",
            ),
            (403, b'{"Message":"User is not authorized"}', None),
        ),
    ),
)
