"""What the stand-in provider of the bench answers: OpenAI's chat completions, and Anthropic's Messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_WORDS: Final = "word " * 80
TOKENS_IN, TOKENS_OUT = 46, 80
"""What a whole answer counts. The first is how many tokens of gpt-4o the question of the race of `bench.peers` is."""


@dataclass(frozen=True)
class Stream:
    """Chunks of HTTP: what begins a stream, the frames of text that come in turn, and what ends it."""

    begin: bytes
    frames: tuple[bytes, ...]
    end: bytes


_IN_TURN: Final = (" word", " road", " toll", " gate")
"""LiteLLM ends a stream that has the same text a hundred times in a row."""


def whole(document: Mapping[str, object]) -> bytes:
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


OPENAI: Final = whole(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1741604369,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _WORDS},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": TOKENS_IN,
            "completion_tokens": TOKENS_OUT,
            "total_tokens": TOKENS_IN + TOKENS_OUT,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_bench",
    }
)

_MESSAGE: Final[dict[str, object]] = {
    "id": "msg_bench",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": TOKENS_IN, "output_tokens": 1},
}
ANTHROPIC: Final = whole(
    _MESSAGE
    | {
        "content": [{"type": "text", "text": _WORDS}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT},
    }
)

HEAD_OF_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _frame(choices: str, usage: str) -> bytes:
    return _chunk(
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1741604369,"model":"gpt-4o-2024-08-06",'
        b'"service_tier":"default","system_fingerprint":"fp_bench","choices":%s%s}\n\n'
        % (choices.encode(), usage.encode())
    )


def openai_stream(*, usage: bool) -> Stream:
    """``usage``: every frame has the field, and one more at the end has the counts."""
    delta = '[{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":null}]'
    more = ',"usage":null' if usage else ""
    usage_of_all = {"prompt_tokens": TOKENS_IN, "completion_tokens": 200, "total_tokens": 246}
    counts = ',"usage":' + json.dumps(usage_of_all, separators=(",", ":"))
    end = _frame("[]", counts) if usage else b""
    return Stream(
        b"",
        tuple(_frame(delta % text, more) for text in _IN_TURN),
        end + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    )


def _event(document: dict[str, object]) -> bytes:
    data = json.dumps(document, separators=(",", ":")).encode()
    return _chunk(b"event: %s\ndata: %s\n\n" % (str(document["type"]).encode(), data))


def anthropic_stream() -> Stream:
    text = {"type": "text", "text": ""}
    deltas = ({"type": "text_delta", "text": text} for text in _IN_TURN)
    ends = {"stop_reason": "end_turn", "stop_sequence": None}
    return Stream(
        _event({"type": "message_start", "message": _MESSAGE})
        + _event({"type": "content_block_start", "index": 0, "content_block": text}),
        tuple(
            _event({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in deltas
        ),
        _event({"type": "content_block_stop", "index": 0})
        + _event({"type": "message_delta", "delta": ends, "usage": {"output_tokens": 200}})
        + _event({"type": "message_stop"})
        + b"0\r\n\r\n",
    )
