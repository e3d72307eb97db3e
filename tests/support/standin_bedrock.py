"""What a stand-in answers in Bedrock's place: event streams and JSON, as AWS sends them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from tollhouse.demo.standin_script import Behaviour, ScriptedReply, Steps
from tollhouse.families.formats.aws_event_stream import exception_frame, frame

JSON = [("content-type", "application/json")]
FRAMES = [("content-type", "application/vnd.amazon.eventstream")]
WORDS = ("one", " two", " three")


def event(kind: str, document: dict[str, Any]) -> bytes:
    """A frame with its padding."""
    headers = (
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    )
    return frame(headers, json.dumps({**document, "p": "abcdef"}, separators=(",", ":")).encode())


def chunk(document: dict[str, Any]) -> bytes:
    """An event of a model's own stream, in AWS's."""
    inner = json.dumps(document, separators=(",", ":")).encode()
    return event("chunk", {"bytes": base64.b64encode(inner).decode()})


def usage(tokens_in: int, output: int, **more: Any) -> dict[str, Any]:
    counts = {"inputTokens": tokens_in, "outputTokens": output, "totalTokens": tokens_in + output}
    return {**counts, **more}


def converse(content: Sequence[dict[str, Any]], counts: dict[str, Any], **more: Any) -> Behaviour:
    """The answer of Converse."""
    message = {"role": "assistant", "content": list(content)}
    stop = "tool_use" if any("toolUse" in block for block in content) else "end_turn"
    document = {
        "output": {"message": message},
        "stopReason": stop,
        "usage": counts,
        "metrics": {"latencyMs": 551},
        **more,
    }
    return Behaviour(reply=ScriptedReply(200, JSON, json.dumps(document).encode()))


def text_delta(text: str) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


def converse_frames(words: Sequence[str], counts: dict[str, Any], **more: Any) -> list[bytes]:
    """The answer of ConverseStream: a frame a word, and the count in the last one."""
    return [
        event("messageStart", {"role": "assistant"}),
        *map(text_delta, words),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", {"usage": counts, "metrics": {"latencyMs": 551}, **more}),
    ]


def streamed(frames: Sequence[bytes], steps: Steps | None = None) -> Behaviour:
    return Behaviour(reply=ScriptedReply(200, FRAMES, tuple(frames)), steps=steps)


def failed(frames: Sequence[bytes], kind: str, message: str) -> Behaviour:
    """A stream that ends in an error of AWS's."""
    last = exception_frame(kind, json.dumps({"message": message}).encode())
    return streamed([*frames, last])


def refused(status: int, kind: str, message: str) -> Behaviour:
    body = json.dumps({"message": message}).encode()
    return Behaviour(reply=ScriptedReply(status, [*JSON, ("x-amzn-errortype", kind)], body))


CLAUDE_STREAM: tuple[dict[str, Any], ...] = (
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-3-haiku-20240307",
            "content": [],
            "usage": {"input_tokens": 11, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 5},
    },
    {
        "type": "message_stop",
        "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": 11,
            "outputTokenCount": 5,
            "invocationLatency": 400,
            "firstByteLatency": 200,
        },
    },
)
"""A stream of Claude's, as InvokeModelWithResponseStream gives it. AWS counts the same tokens once
more at its end."""
