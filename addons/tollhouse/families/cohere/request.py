"""What a body asks for, read strictly. The fields are those of cohere-python."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.checked import known_case, model, name, optional, whole
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.formats.generic import objects_of

MAX_GENERATIONS: Final = 5
"""https://docs.cohere.com/reference/generate."""
_KNOWN: Final = frozenset(
    {
        "model", "messages", "message", "chat_history", "prompt", "text", "texts", "images", "inputs",
        "query", "documents", "max_tokens", "num_generations", "stream", "thinking", "tools", "connectors",
        "conversation_id", "token_budget", "max_tokens_per_doc", "max_chunks_per_doc", "document",
        "dataset_id", "input_dataset_id", "examples", "preamble", "priority",
    }
)  # fmt: skip


class Writing(NamedTuple):
    """`Asked.detail` of what writes text. ``lines``: its stream is lines of JSON. ``thinks``: tokens that it may think beside its
    cap. ``searches``: connectors that it may turn to."""

    lines: bool = False
    thinks: int = 0
    searches: int = 0


def _document(request: Request) -> Document:
    body = parsed(request.body)
    known_case(body.tree, _KNOWN)
    return body


def read_chat(request: Request, dialect: Dialect) -> Asked:
    """Of v2."""
    body = _document(request)
    tree = body.tree
    thinking = optional(tree, "thinking", dict) or {}
    known_case(thinking, _KNOWN, "thinking.")
    budget = whole(thinking, "token_budget", 0, where="thinking.")
    return Asked(
        model(body),
        stream=optional(tree, "stream", bool) or False,
        cap=whole(tree, "max_tokens", 0) or None,
        # Thoughts are streamed as they come: cohere-python `chat_thinking_content.py`.
        reasons=False,
        detail=Writing(thinks=budget or 0),
        document=body,
    )


def read_v1(request: Request, dialect: Dialect) -> Asked:
    """Of chat, generate and summarize: without a model the provider takes one of its own choice. A stream is lines, unless events
    are accepted by name."""
    body = _document(request)
    tree = body.tree
    called = name(body, "model")
    connectors = optional(tree, "connectors", list) or []
    accepts = [value.lower() for key, value in request.headers if key == "accept"]
    # The caller chooses the id of a conversation, and gets what anybody has said in it.
    kept = [body.name(tree.get("conversation_id"))]
    kept += [body.name(one.get("id")) for one in connectors if isinstance(one, dict)]
    summary = request.operation.kind == "summarize"
    return Asked(
        called,
        models_unknown=not called,
        stream=optional(tree, "stream", bool) or False,
        cap=whole(tree, "max_tokens", 0) or None,
        # A summary has no cap that a budget could lower. Its output is held all the same.
        writes=not summary,
        choices=whole(tree, "num_generations", 1, MAX_GENERATIONS) or 1,
        reasons=bool(connectors),
        objects=_texts(kept),
        detail=Writing(
            lines=not any("text/event-stream" in value for value in accepts),
            searches=len(connectors),
        ),
        document=body,
    )


def read_input(request: Request, dialect: Dialect) -> Asked:
    """Of embeddings, reranking, classification and parsing."""
    body = _document(request)
    kind = request.operation.kind
    tree = body.tree
    called = name(body, "model")
    if not called and request.path.startswith("/v2/"):
        refuse('The body has no "model".')
    for key in ("texts", "images", "inputs", "documents", "examples"):
        optional(tree, key, list)
    if kind == "rerank":
        for key in ("documents", "query"):
            if tree.get(key) is None:
                refuse(f'The body has no "{key}".')
        optional(tree, "query", str)
        whole(tree, "max_tokens_per_doc", 1)
        whole(tree, "max_chunks_per_doc", 1)
    return Asked(
        called,
        models_unknown=not called,
        writes=False,
        reasons=False,
        detail=Writing(),
        document=body,
    )


def read_job(request: Request, dialect: Dialect) -> Asked:
    """Of work on a dataset, which the body names."""
    body = _document(request)
    called = name(body, "model")
    return Asked(
        called,
        models_unknown=not called,
        writes=False,
        reasons=False,
        objects=objects_of(body),
    )


def read_free(request: Request, dialect: Dialect) -> Asked:
    """What costs nothing is not judged, but has to be sound."""
    body = _document(request)
    return Asked(name(body, "model"), writes=False, reasons=False, document=body)


def read_upload(request: Request, dialect: Dialect) -> Asked:
    """A file's bytes are not looked at: keeping one costs nothing."""
    return Asked(writes=False, reasons=False)


def _texts(values: list[Any]) -> tuple[str, ...]:
    """Ids of objects, each once. One of the connectors is Cohere's own, https://docs.cohere.com/v1/docs/connectors."""
    return tuple(
        dict.fromkeys(
            value for value in values if isinstance(value, str) and value and value != "web-search"
        )
    )
