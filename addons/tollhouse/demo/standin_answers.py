"""The stand-in provider's answers, byte for byte in OpenAI's framing. Pure: a request's document in, bytes out.

Everything is derived from the request's content, so two identical requests get identical bodies. ``stream_options``
takes no part in ids, times or padding: the frames of a stream with ``include_usage`` differ from those without only by
``"usage"``. Shapes: https://platform.openai.com/docs/api-reference.

The usage rule: a text is ``len(utf-8) // 4 + 1`` tokens; a prompt is 3 tokens and 4 more for each message; an answer
has one token for each piece of its text, and each piece is one frame of a stream.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Document = Mapping[str, Any]

SERVED: Final[dict[str, str]] = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "text-embedding-3-small": "text-embedding-3-small",
    "text-embedding-3-large": "text-embedding-3-large",
}
"""Alias to the name that the answer carries. A model that is not listed is served under its own name."""

_DIMENSIONS = {"text-embedding-3-large": 3072}
_EPOCH: Final = 1_741_569_952


def text_tokens(text: str) -> int:
    """Tokens of one text by the stand-in's rule."""
    return len(text.encode()) // 4 + 1


def prompt_tokens(request: Document) -> int:
    """Tokens of a chat request's messages."""
    return 3 + sum(
        4 + text_tokens(_text_of(message.get("content"))) for message in request.get("messages", ())
    )


def answer_text(request: Document) -> str:
    """What the stand-in says when it is told nothing else: it repeats the last message."""
    messages = request.get("messages") or [{}]
    said = _text_of(messages[-1].get("content"))[:200]
    return f"The toll is paid, and the road is open. You said: {said}"


def pieces(request: Document, text: str | None = None) -> tuple[list[str], str]:
    """The answer's tokens and the finish reason: ``length`` when the request's own cap ended it."""
    parts = re.findall(r"\s*\S+|\s+$", answer_text(request) if text is None else text)
    cap = request.get("max_completion_tokens") or request.get("max_tokens")
    if isinstance(cap, int) and cap < len(parts):
        return parts[:cap], "length"
    return parts, "stop"


def chat_usage(request: Document, text: str | None = None) -> dict[str, Any]:
    """OpenAI's ``usage`` object for this request and answer."""
    into = prompt_tokens(request)
    out = len(pieces(request, text)[0]) * _choices(request)
    return {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_json(request: Document, text: str | None = None, *, usage: bool = True) -> bytes:
    """The body of a plain chat completion."""
    parts, finish = pieces(request, text)
    content = "".join(parts)
    body: dict[str, Any] = {
        **_head(request, "chat.completion"),
        "choices": [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": content,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": finish,
            }
            for index in range(_choices(request))
        ],
    }
    if usage:
        body["usage"] = chat_usage(request, text)
    body["service_tier"] = "default"
    body["system_fingerprint"] = _fingerprint(request)
    return _pretty(body)


def chat_frames(
    request: Document, text: str | None = None, *, usage: bool = True, done: bool = True
) -> Iterator[bytes]:
    """The frames of a streamed chat completion, each with its empty line.

    ``include_usage`` puts ``"usage":null`` into every frame and adds one with ``"choices":[]`` and the count.
    """
    options = request.get("stream_options") or {}
    counted = usage and options.get("include_usage") is True
    padded = options.get("include_obfuscation") is not False
    parts, finish = pieces(request, text)
    each = range(_choices(request))
    deltas: list[list[dict[str, Any]]] = [
        [_choice(index, {"role": "assistant", "content": "", "refusal": None}, None)]
        for index in each
    ]
    deltas += [[_choice(index, {"content": part}, None)] for part in parts for index in each]
    deltas += [[_choice(index, {}, finish)] for index in each]
    head = {
        **_head(request, "chat.completion.chunk"),
        "service_tier": "default",
        "system_fingerprint": _fingerprint(request),
    }
    for number, choices in enumerate(deltas):
        frame = {**head, "choices": choices}
        if counted:
            frame["usage"] = None
        if padded:
            frame["obfuscation"] = _padding(request, number)
        yield _frame(frame)
    if counted:
        frame = {**head, "choices": [], "usage": chat_usage(request, text)}
        if padded:
            frame["obfuscation"] = _padding(request, len(deltas))
        yield _frame(frame)
    if done:
        yield b"data: [DONE]\n\n"


def embeddings_json(request: Document, *, usage: bool = True) -> bytes:
    """The body of an embeddings answer, as floats or (``encoding_format``) as base64 of little-endian float32."""
    inputs = _inputs(request.get("input"))
    model = str(request.get("model", ""))
    size = request.get("dimensions") or _DIMENSIONS.get(model, 1536)
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _vector(
                    item, size, as_text=request.get("encoding_format") == "base64"
                ),
            }
            for index, item in enumerate(inputs)
        ],
        "model": SERVED.get(model, model),
    }
    if usage:
        tokens = sum(text_tokens(item) if isinstance(item, str) else len(item) for item in inputs)
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _pretty(body)


def models_json() -> bytes:
    """The body of ``GET /v1/models``."""
    return _pretty({"object": "list", "data": [_model(name) for name in sorted(SERVED)]})


def accounts_json(account: str) -> bytes:
    """The accounts of a login to ChatGPT, as Codex 0.171.0 reads them."""
    entry = {
        "id": account,
        "structure": "personal",
        "plan_type": "plus",
        "workspace_backend_origin": "https://chatgpt.com",
        "account_routing_override": "NO_CONSTRAINT",
    }
    return _pretty(
        {"accounts": [entry], "default_account_id": account, "account_ordering": [account]}
    )


def model_json(name: str) -> bytes | None:
    """The body of ``GET /v1/models/{name}``, or None for a model that the stand-in does not have."""
    return _pretty(_model(name)) if name in SERVED or name in SERVED.values() else None


def error_json(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's error body."""
    return _pretty({"error": {"message": message, "type": kind, "param": param, "code": code}})


def wrong_key(given: str) -> bytes:
    """The body of OpenAI's 401; it shows the ends of the key that came."""
    if not given:
        return error_json(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY).",
            "invalid_request_error",
            None,
        )
    shown = f"{given[:8]}{'*' * max(len(given) - 12, 4)}{given[-4:]}"
    return error_json(
        f"Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com/account/api-keys.",
        "invalid_request_error",
        "invalid_api_key",
    )


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
    return ""


def _choices(request: Document) -> int:
    n = request.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def _choice(index: int, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _digest(request: Document, salt: str = "") -> str:
    kept = {key: value for key, value in request.items() if key not in ("stream", "stream_options")}
    return hashlib.sha256((salt + json.dumps(kept, sort_keys=True)).encode()).hexdigest()


def _head(request: Document, kind: str) -> dict[str, Any]:
    digest = _digest(request)
    model = str(request.get("model", ""))
    return {
        "id": f"chatcmpl-{digest[:29]}",
        "object": kind,
        "created": _EPOCH + int(digest[:4], 16),
        "model": SERVED.get(model, model),
    }


def _fingerprint(request: Document) -> str:
    return f"fp_{_digest({'model': request.get('model')})[:10]}"


def _padding(request: Document, number: int) -> str:
    digest = _digest(request, f"{number}:")
    return digest[: int(digest[-1], 16)]


def _frame(document: Document) -> bytes:
    return (
        b"data: "
        + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        + b"\n\n"
    )


def _pretty(document: Document) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _inputs(given: object) -> list[str | list[int]]:
    """The API takes a text, texts, one token array or several."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list):
        return [given] if given and all(isinstance(item, int) for item in given) else given
    return []


def _vector(item: str | list[int], size: int, *, as_text: bool) -> list[float] | str:
    # Multiples of 1/1024 are exact in float32, so both forms say the same numbers.
    stream = hashlib.shake_256(json.dumps(item).encode()).digest(size)
    numbers = [(byte - 128) / 1024 for byte in stream]
    return base64.b64encode(array("f", numbers).tobytes()).decode() if as_text else numbers


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _EPOCH, "owned_by": "system"}
