"""What OpenAI, Groq and OpenRouter answer, as the stand-in is told to: the end-to-end tests of images, sound, files and of
the companies that speak OpenAI's API in their own way."""

from __future__ import annotations

import json
from typing import Any

from tollhouse.demo.standin_script import Behaviour, ScriptedReply

IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 272,
    "total_tokens": 322,
}
IMAGE = {"created": 1, "data": [{"b64_json": "aW1hZ2U="}], "usage": IMAGE_USAGE}
HEARD = {"text": "The toll is paid.", "usage": {"type": "duration", "seconds": 4}}
MODERATED = {"id": "modr-1", "model": "omni-moderation-latest", "results": []}
FILE = {
    "id": "file-1",
    "bytes": 8,
    "created_at": 1,
    "filename": "tolls.csv",
    "object": "file",
    "purpose": "assistants",
    "status": "processed",
}


def image_events() -> bytes:
    event = {
        "type": "image_generation.completed",
        # Longer than any event of a chat that is read.
        "b64_json": "A" * (3 << 20),
        "background": "opaque",
        "created_at": 1,
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": IMAGE_USAGE,
    }
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def groq_events() -> bytes:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "total_time": 0.1}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": {"content": "Paid."}}], "x_groq": {"id": "r"}},
        {
            **head,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "x_groq": {"id": "r", "usage": usage},
        },
        {**head, "choices": [], "usage": usage, "x_groq": {"id": "r", "usage": usage}},
    ]
    frames = [json.dumps(chunk) for chunk in chunks]
    return b"".join(f"data: {frame}\n\n".encode() for frame in [*frames, "[DONE]"])


def openrouter_answer(cost: str) -> bytes:
    """``cost`` in USD, as it is to be written."""
    answer = {
        "id": "gen-1",
        "object": "chat.completion",
        "created": 1,
        "model": "openai/gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paid."},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "total_tokens": 14,
            "cost": "COST",
            "is_byok": False,
            "cost_details": {"upstream_inference_cost": None},
        },
    }
    return json.dumps(answer).replace('"COST"', cost).encode()


def answered(body: bytes | dict[str, Any], content_type: str = "application/json") -> Behaviour:
    whole = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Behaviour(reply=ScriptedReply(200, (("content-type", content_type),), whole))
