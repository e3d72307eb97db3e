"""The stand-in's answers of the legacy completions, the Responses and the Conversations APIs. Pure: a
request's document in, bytes out.

The rules of `standin_answers` hold: everything is derived from the request's content, a text is
``len(utf-8) // 4 + 1`` tokens, an answer has one token for each piece of its text, and each piece is
one frame of a stream. An answer is a call of the first function among the tools until the input has
what a function gave, or the script says the text. A search of the web, if it is among the tools, is done once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tollhouse.demo import standin_answers as answers
from tollhouse.demo.standin_script import NEXT_MESSAGE

Document = Mapping[str, Any]
Found = tuple[int, Iterable[bytes], bool]
"""Status, body, and whether it is a stream."""

_EPOCH: Final = 1_741_569_952
_WHOLE: Final = "/v1/responses/"
_CONVERSATIONS: Final = "/v1/conversations"


def find(
    method: str, path: str, document: Document, text: str | None, *, usage: bool, done: bool
) -> Found | None:
    """The answer of ``method`` at ``path``; None if the stand-in does not have it."""
    match method, path:
        case "POST", "/v1/completions":
            if document.get("stream") is True:
                return 200, completion_frames(document, text, usage=usage, done=done), True
            return _plain(completion(document, text, usage=usage))
        case "POST", "/v1/responses":
            if document.get("stream") is True:
                return 200, frames(document, text, usage=usage, done=done), True
            return _plain(response(document, text, usage=usage))
        case "POST", "/v1/responses/compact":
            return _plain(compacted(document))
        case "POST", "/v1/responses/input_tokens":
            counted = {
                "object": "response.input_tokens",
                "input_tokens": input_tokens(document),
            }
            return _plain(counted)
        case "POST", "/v1/conversations":
            return _plain({"id": f"conv_{_digest(document)[:32]}", **_conversation(document)})
    kept = path.removeprefix(_WHOLE) if path.startswith(_WHOLE) else ""
    if kept and method in ("GET", "POST", "DELETE"):
        return _plain(_kept_response(method, *kept.split("/")))
    kept = path.removeprefix(f"{_CONVERSATIONS}/") if path.startswith(_CONVERSATIONS) else ""
    if kept and method == "DELETE":
        return _plain({"id": kept, "object": "conversation.deleted", "deleted": True})
    if kept and kept.endswith("/items"):
        return _plain(_listed([]))
    if kept:
        return _plain({"id": kept, **_conversation(document)})
    return None


# Legacy completions.


def completion_usage(document: Document, text: str | None = None) -> dict[str, int]:
    prompts = _prompts(document)
    read = sum(answers.text_tokens(p) if isinstance(p, str) else len(p) for p in prompts)
    each = max(document.get("n") or 1, document.get("best_of") or 1)
    written = len(_pieces(document, text)[0]) * each * len(prompts)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def completion(document: Document, text: str | None = None, *, usage: bool) -> dict[str, Any]:
    parts, finish = _pieces(document, text)
    shown = range((document.get("n") or 1) * len(_prompts(document)))
    body: dict[str, Any] = {
        **_completion_head(document),
        "choices": [
            {"text": "".join(parts), "index": index, "logprobs": None, "finish_reason": finish}
            for index in shown
        ],
    }
    if usage:
        body["usage"] = completion_usage(document, text)
    return body


def completion_frames(
    document: Document, text: str | None = None, *, usage: bool, done: bool
) -> Iterator[bytes]:
    counted = usage and (document.get("stream_options") or {}).get("include_usage") is True
    parts, finish = _pieces(document, text)
    head = _completion_head(document)
    for number, part in enumerate(parts):
        last = finish if number == len(parts) - 1 else None
        choice = {"text": part, "index": 0, "logprobs": None, "finish_reason": last}
        yield _event({**head, "choices": [choice], **({"usage": None} if counted else {})})
    if counted:
        yield _event({**head, "choices": [], "usage": completion_usage(document, text)})
    if done:
        yield b"data: [DONE]\n\n"


def _prompts(document: Document) -> list[str | list[int]]:
    prompt = document.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return prompt
    return [prompt if isinstance(prompt, str | list) else ""]


def _completion_head(document: Document) -> dict[str, Any]:
    return {
        "id": f"cmpl-{_digest(document)[:29]}",
        "object": "text_completion",
        "created": _EPOCH,
        "model": _served(document),
    }


def _pieces(document: Document, text: str | None) -> tuple[list[str], str]:
    said = "The toll is paid, and the road is open." if text is None else text
    return answers.pieces({"max_tokens": document.get("max_tokens", 16)}, said)


# Responses.


def input_tokens(document: Document) -> int:
    """Tokens of a request's input and instructions."""
    return (
        3
        + answers.text_tokens(_text(document.get("input")))
        + answers.text_tokens(_text(document.get("instructions")))
    )


def usage_of(document: Document, text: str | None = None) -> dict[str, Any]:
    """``usage`` of this request and answer."""
    read = input_tokens(document)
    written = sum(len(parts) for _, parts in _output(document, text)[0])
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def response(document: Document, text: str | None = None, *, usage: bool) -> dict[str, Any]:
    """A response that is over. In the background it is queued, and has no usage."""
    output, reason = _output(document, text)
    if document.get("background") is True:
        return _head(document, "queued", [], None, None)
    status = "incomplete" if reason else "completed"
    told = usage_of(document, text) if usage else None
    return _head(document, status, [item for item, _ in output], told, reason)


def frames(
    document: Document, text: str | None = None, *, usage: bool, done: bool
) -> Iterator[bytes]:
    """The events of a streamed response, each with its empty line."""
    for number, (name, event) in enumerate(_events(document, text, usage=usage)):
        if not done and name in ("response.completed", "response.incomplete"):
            return
        yield _event({"type": name, "sequence_number": number, **event}, name)


def _events(
    document: Document, text: str | None, *, usage: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    output, reason = _output(document, text)
    begun = _head(document, "in_progress", [], None, None)
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, (item, parts) in enumerate(output):
        where = {"output_index": index, "item_id": item["id"]}
        empty = {key: value for key, value in item.items() if key != "content"}
        yield "response.output_item.added", {"output_index": index, "item": empty | _empty(item)}
        if item["type"] == "function_call":
            for part in parts:
                yield "response.function_call_arguments.delta", {**where, "delta": part}
            whole = {**where, "name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", whole
        elif item["type"] == "message":
            where["content_index"] = 0
            part_of = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield "response.content_part.added", {**where, "part": part_of}
            for part in parts:
                yield "response.output_text.delta", {**where, "delta": part, "logprobs": []}
            said = "".join(parts)
            yield "response.output_text.done", {**where, "text": said, "logprobs": []}
            yield "response.content_part.done", {**where, "part": {**part_of, "text": said}}
        yield "response.output_item.done", {"output_index": index, "item": item}
    told = usage_of(document, text) if usage else None
    status = "incomplete" if reason else "completed"
    items = [item for item, _ in output]
    yield f"response.{status}", {"response": _head(document, status, items, told, reason)}


def _empty(item: Document) -> dict[str, Any]:
    if item["type"] == "message":
        return {"status": "in_progress", "content": []}
    return {"status": "in_progress", **({"arguments": ""} if "arguments" in item else {})}


def _output(
    document: Document, text: str | None
) -> tuple[list[tuple[dict[str, Any], list[str]]], str | None]:
    """The answer's items, each with the pieces that it is told in, and why the last one is incomplete."""
    digest = _digest(document)
    output: list[tuple[dict[str, Any], list[str]]] = []
    tools = [tool for tool in document.get("tools") or () if isinstance(tool, Mapping)]
    if any(str(tool.get("type")).startswith("web_search") for tool in tools):
        action = {"type": "search", "query": "tollhouse", "queries": ["tollhouse"]}
        search = {
            "id": f"ws_{digest[:32]}",
            "type": "web_search_call",
            "status": "completed",
            "action": action,
        }
        output.append((search, []))
    function = next((tool for tool in tools if tool.get("type") == "function"), None)
    given = document.get("input")
    answered = any(
        isinstance(item, Mapping) and item.get("type") == "function_call_output"
        for item in (given if isinstance(given, list) else ())
    )
    if function is not None and not answered and text is None:
        parts = ['{"road"', ':"open"', "}"]
        call = {
            "id": f"fc_{digest[:32]}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{digest[:24]}",
            "name": function.get("name"),
            "arguments": "".join(parts),
        }
        return [*output, (call, parts)], None
    said = f"The toll is paid, and the road is open. You said: {_text(given)[:200]}"
    cap, finish = {"max_tokens": document.get("max_output_tokens")}, "stop"
    for number, each in enumerate((said if text is None else text).split(NEXT_MESSAGE)):
        parts, finish = answers.pieces(cap, each)
        content = {"type": "output_text", "text": "".join(parts), "annotations": [], "logprobs": []}
        message = {
            "id": f"msg_{number or ''}{digest[:32]}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [content],
        }
        output.append((message, parts))
    return output, "max_output_tokens" if finish == "length" else None


def _head(
    document: Document,
    status: str,
    items: list[dict[str, Any]],
    usage: dict[str, Any] | None,
    reason: str | None,
) -> dict[str, Any]:
    searches = sum(item["type"] == "web_search_call" for item in items)
    return {
        "id": f"resp_{_digest(document)[:48]}",
        "object": "response",
        "created_at": _EPOCH,
        "status": status,
        "background": document.get("background") is True,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": document.get("instructions"),
        "max_output_tokens": document.get("max_output_tokens"),
        "model": _served(document),
        "output": items,
        "parallel_tool_calls": True,
        "previous_response_id": document.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": document.get("store") is not False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": document.get("tool_choice") or "auto",
        "tools": list(document.get("tools") or ()),
        "top_p": 1.0,
        "truncation": "disabled",
        "tool_usage": None if usage is None else _tool_usage(searches),
        "usage": usage,
        "metadata": document.get("metadata") or {},
    }


def _tool_usage(searches: int) -> dict[str, Any]:
    details = {"image_tokens": 0, "text_tokens": 0}
    images = {
        "input_tokens": 0,
        "input_tokens_details": details,
        "output_tokens": 0,
        "output_tokens_details": details,
        "total_tokens": 0,
    }
    return {"image_gen": images, "web_search": {"num_requests": searches}}


def compacted(document: Document) -> dict[str, Any]:
    """A compaction names no model."""
    read = input_tokens(document)
    item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAA-of-the-stand-in"}
    usage = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + 7,
    }
    return {
        "id": f"resp_{_digest(document)[:48]}",
        "object": "response.compaction",
        "created_at": _EPOCH,
        "output": [item],
        "usage": usage,
    }


def _kept_response(method: str, name: str, *more: str) -> dict[str, Any]:
    if method == "DELETE":
        return {"id": name, "object": "response", "deleted": True}
    if more == ("input_items",):
        return _listed([])
    status = "cancelled" if more == ("cancel",) else "completed"
    return {**_head({"model": "gpt-4o"}, status, [], None, None), "id": name}


def _conversation(document: Document) -> dict[str, Any]:
    metadata = document.get("metadata") or {}
    return {"object": "conversation", "created_at": _EPOCH, "metadata": metadata}


def _listed(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": items, "first_id": "", "last_id": "", "has_more": False}


def _text(value: Any) -> str:
    """All texts of an input."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(_text(value.get(key)) for key in ("text", "content", "output"))
    return "".join(map(_text, value)) if isinstance(value, list) else ""


def _served(document: Document) -> str:
    model = str(document.get("model", ""))
    return answers.SERVED.get(model, model)


def _digest(document: Document) -> str:
    kept = {key: value for key, value in document.items() if not key.startswith("stream")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _event(document: Document, name: str = "") -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def _plain(document: Document) -> Found:
    return 200, [json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"], False
