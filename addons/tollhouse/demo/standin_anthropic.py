"""The stand-in's answers as Anthropic gives them. Pure.

Framing: https://platform.claude.com/docs/en/build-with-claude/streaming. Tokens are counted by the rule
of `standin_answers`: an answer has one for each piece of its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Final

from tollhouse.demo.standin_answers import pieces, prompt_tokens
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Behaviour

Answer = tuple[int, list[tuple[str, str]], Iterable[bytes]]

HOST: Final = "api.anthropic.com"
MODELS: Final = ("claude-sonnet-5", "claude-opus-5")
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def speaks(received: Received) -> bool:
    """Whether the request is one to Anthropic."""
    return received.get("host").partition(":")[0] == HOST


def judge(received: Received, behaviour: Behaviour, keys: Set[str]) -> Answer:
    """Status, headers and body of the answer to a request to Anthropic."""
    path = received.target.partition("?")[0]
    if not _let_in(received, keys):
        return _error(401, "authentication_error", "invalid x-api-key")
    if not received.get("anthropic-version"):
        return _error(400, "invalid_request_error", "anthropic-version: header is required")
    if received.method == "GET" and path == "/v1/models":
        listed = [{"type": "model", "id": name, "display_name": name} for name in MODELS]
        return _whole({"data": listed, "has_more": False, "first_id": None, "last_id": None})
    if received.method != "POST" or path not in ("/v1/messages", "/v1/messages/count_tokens"):
        return _error(404, "not_found_error", f"{path} is not found.")
    try:
        document = received.document()
    except (ValueError, TypeError):
        return _error(400, "invalid_request_error", "The body is not valid JSON.")
    if path.endswith("count_tokens"):
        return _whole({"input_tokens": prompt_tokens(document)})
    if "max_tokens" not in document:
        return _error(400, "invalid_request_error", "max_tokens: Field required")
    if document.get("stream") is True:
        headers = [("content-type", "text/event-stream; charset=utf-8"), *_COMMON]
        return 200, headers, message_frames(document, behaviour.text)
    return _whole(message(document, behaviour.text))


def _let_in(received: Received, keys: Set[str]) -> bool:
    """By a key, or by a login, which the beta of logins has to be named with; never by both."""
    key, bearer = received.get("x-api-key"), received.get("authorization").removeprefix("Bearer ")
    if bearer:
        return bearer in keys and not key and "oauth-2025-04-20" in received.get("anthropic-beta")
    return key in keys


def usage(document: Mapping[str, Any], text: str | None = None) -> dict[str, int]:
    """The tokens of a request and its answer."""
    return {
        "input_tokens": prompt_tokens(document),
        "output_tokens": len(pieces(document, text)[0]),
    }


def message(document: Mapping[str, Any], text: str | None = None) -> dict[str, Any]:
    """The body of a plain answer."""
    said, finish = pieces(document, text)
    return {
        **_head(document),
        "content": [{"type": "text", "text": "".join(said)}],
        "stop_reason": "max_tokens" if finish == "length" else "end_turn",
        "stop_sequence": None,
        "usage": {
            **usage(document, text),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    }


def message_frames(document: Mapping[str, Any], text: str | None = None) -> Iterator[bytes]:
    """The events of a streamed answer."""
    said, finish = pieces(document, text)
    counted = usage(document, text)
    started = {
        **_head(document),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**counted, "cache_read_input_tokens": None, "output_tokens": 1},
    }
    yield _event("message_start", message=started)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield _PING
    for piece in said:
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield _event("content_block_stop", index=0)
    reason = "max_tokens" if finish == "length" else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": counted["output_tokens"]})
    yield _event("message_stop")


def _head(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "model": document.get("model"),
    }


_COMMON: Final = [("request-id", "req_standin"), ("set-cookie", "_cfuvid=standin; path=/")]


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _whole(body: Mapping[str, Any], status: int = 200) -> Answer:
    data = json.dumps(body).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(data))), *_COMMON]
    return status, headers, iter([data])


def _error(status: int, kind: str, text: str) -> Answer:
    error = {"type": kind, "message": text}
    return _whole({"type": "error", "error": error, "request_id": "req_standin"}, status)
