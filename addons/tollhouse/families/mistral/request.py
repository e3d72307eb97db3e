"""What a body asks for, read strictly. The fields are those of mistralai-python's request models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.checked import known_case, model, name, optional, whole
from tollhouse.families.formats.document import Document, named, parsed, refuse
from tollhouse.families.mistral.connectors import ROUNDS, asked_for

MAX_N: Final = 128
_KNOWN: Final = frozenset(
    {
        "model", "agent_id", "messages", "prompt", "suffix", "input", "inputs", "max_tokens", "n", "stream",
        "tools", "service_tier", "prediction", "reasoning_effort", "prompt_mode", "completion_args",
        "document", "pages", "bbox_annotation_format", "document_annotation_format", "stream_options",
        "instructions", "conversation_id", "voice_id", "ref_audio",
    }
)  # fmt: skip
_PAGES: Final = re.compile(r"\d{1,6}(?:-\d{1,6})?(?:,\d{1,6}(?:-\d{1,6})?)*")
ANNOTATED: Final = "annotated"
"""The tier of pages that are annotated: they have a price of their own, https://mistral.ai/pricing."""


class Talk(NamedTuple):
    """`Asked.detail` of a conversation or a completion. ``hidden``: an agent or a conversation brings a model, instructions and
    tools that the request does not show."""

    tools: tuple[str, ...] = ()
    hidden: bool = False


def _document(request: Request) -> Document:
    body = parsed(request.body)
    known_case(body.tree, _KNOWN)
    return body


def read_chat(request: Request, dialect: Dialect) -> Asked:
    """Of chat, FIM and agents completions. An agent hides its model."""
    body = _document(request)
    tree = body.tree
    hidden = request.operation.kind == "agent"
    agent = name(body, "agent_id") if hidden else ""
    if hidden and not agent:
        refuse('The body has no "agent_id".')
    cap = whole(tree, "max_tokens", 0)
    tier = optional(tree, "service_tier", str) or ""
    called = "" if hidden else model(body)
    tools = asked_for(optional(tree, "tools", list), body.name)
    return Asked(
        called,
        models_unknown=hidden,
        stream=optional(tree, "stream", bool) or False,
        cap=cap or None,
        choices=whole(tree, "n", 1, MAX_N) or 1,
        tier="standard" if tier == "standard_only" else tier,
        reasons=_reasons(called, tree) or hidden,
        objects=tuple(dict.fromkeys((*((agent,) if agent else ()), *_files(body, "messages")))),
        detail=Talk(tools, hidden),
        document=body,
    )


def read_conversation(request: Request, dialect: Dialect) -> Asked:
    """Of a new conversation: a model's, or an agent's, which hides its model. Of one that goes on nothing is shown."""
    body = _document(request)
    tree = body.tree
    goes_on = request.operation.kind == "append"
    agent = name(body, "agent_id")
    called = name(body, "model")
    hidden = goes_on or bool(agent) or not called
    arguments = optional(tree, "completion_args", dict) or {}
    known_case(arguments, _KNOWN, "completion_args.")
    cap = whole(arguments, "max_tokens", 0, where="completion_args.")
    listed = optional(tree, "tools", list) or []
    tools = asked_for(listed, body.name)
    libraries = [
        body.name(one)
        for tool in listed
        if isinstance(tool, dict) and isinstance(tool.get("library_ids"), list)
        for one in tool["library_ids"]
    ]
    objects = (*((agent,) if agent else ()), *_texts(libraries), *_files(body, "inputs"))
    return Asked(
        called,
        models_unknown=hidden,
        stream=optional(tree, "stream", bool) or False,
        cap=cap or None,
        # Each turn to a tool is followed by an answer that the cap holds for anew.
        choices=1 + ROUNDS if tools or hidden else 1,
        reasons=bool(tools) or hidden or _reasons(called, arguments),
        objects=tuple(dict.fromkeys(objects)),
        detail=Talk(tools, hidden),
        document=body,
    )


def read_input(request: Request, dialect: Dialect) -> Asked:
    """Of embeddings, moderations and classifications."""
    body = _document(request)
    return Asked(model(body), writes=False, reasons=False, detail=Talk(), document=body)


def read_ocr(request: Request, dialect: Dialect) -> Asked:
    """``detail`` is how many pages are read at most, as far as the request says."""
    body = _document(request)
    tree = body.tree
    found = optional(tree, "document", dict)
    if found is None:
        refuse('The body has no "document".')
    kind = body.name(found.get("type"))
    called = name(body, "model")
    annotated = any(
        tree.get(key) is not None
        for key in ("bbox_annotation_format", "document_annotation_format")
    )
    return Asked(
        called,
        models_unknown=not called,
        writes=False,
        reasons=False,
        tier=ANNOTATED if annotated else "",
        objects=_texts([body.name(found.get("file_id"))]),
        detail=1 if kind == "image_url" else _pages(body.name(tree.get("pages"))),
    )


def read_speech(request: Request, dialect: Dialect) -> Asked:
    """``detail`` is the characters of the text."""
    body = _document(request)
    text = optional(body.tree, "input", str)
    if text is None:
        refuse('The body has no "input".')
    called = name(body, "model")
    long = body.long.get(text)
    return Asked(
        called,
        models_unknown=not called,
        stream=optional(body.tree, "stream", bool) or False,
        writes=False,
        reasons=False,
        objects=_texts([body.name(body.tree.get("voice_id"))]),
        # Of a long text its bytes, which are no fewer.
        detail=len(text) if long is None else long.bytes,
    )


def read_upload(request: Request, dialect: Dialect) -> Asked:
    """A file's bytes are not looked at: keeping one costs nothing."""
    return Asked(writes=False, reasons=False)


def _reasons(called: str, tree: dict[str, Any]) -> bool:
    """Whether there may be thoughts. https://docs.mistral.ai/capabilities/reasoning: magistral always, others where it is asked."""
    effort = tree.get("reasoning_effort")
    asked = effort not in (None, "none") or tree.get("prompt_mode") is not None
    return asked or "magistral" in called.lower()


def _pages(value: Any) -> int | None:
    """How many pages a selection has: a list of numbers, or a text as ``0-3,7``. None: all."""
    if value is None:
        return None
    if isinstance(value, list) and all(type(one) is int for one in value):
        return max(len(value), 1)
    if not isinstance(value, str) or not _PAGES.fullmatch(value):
        refuse('"pages" must be an array of whole numbers, or a string like "0-3,7".')
    total = 0
    for part in value.split(","):
        first, _, last = part.partition("-")
        total += max(int(last or first) - int(first) + 1, 1)
    return total


def _files(body: Document, key: str) -> tuple[str, ...]:
    """Ids of files in the parts of messages."""
    return _texts([named(one, body.long) for one in _file_ids(body.tree.get(key))])


def _file_ids(entries: Any) -> Iterator[Any]:
    for entry in entries if isinstance(entries, list) else ():
        content = entry.get("content") if isinstance(entry, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("file_id") is not None:
                yield part["file_id"]


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)
