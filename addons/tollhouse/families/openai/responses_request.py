"""The bodies of the Responses and Conversations APIs, read strictly."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.openai import responses_fields as known
from tollhouse.families.openai.body_fields import check, integer, model_of
from tollhouse.families.openai.models import can_reason
from tollhouse.families.openai.objects import named_objects
from tollhouse.families.openai.request import other_models
from tollhouse.families.openai.tools import Hosted, hosted

CAP: Final = "max_output_tokens"
_OF_AUDIO: Final = frozenset({"input_audio", "cached_audio"})


_VERSION: Final = re.compile(r"(?:^|&)(api-version=[\w.-]{1,40})(?:&|$)", re.ASCII)


class ResponseDetail(NamedTuple):
    """What the meter and the estimate have to know of a request."""

    tools: Hosted = Hosted()
    streams: bool = False
    background: bool = False
    """The provider goes on with it when the client has left."""
    kept: bool = True
    """The response is one of the provider's objects afterwards."""
    path: str = ""
    """Where it was asked for."""


def asked_at(request: Request) -> str:
    """Where something was asked for: the path, and the version of the API where the query names one
    (Azure)."""
    version = _VERSION.search(request.query)
    return f"{request.path}?{version[1]}" if version is not None else request.path


def shown_at(at: str, object_id: str) -> str:
    """Where GET shows what was asked for there."""
    path, mark, query = at.partition("?")
    return f"{path}/{object_id}{mark}{query}"


def read(request: Request, dialect: Dialect) -> Asked:
    """A request for a response. A stream of a background response is no stream that the budget
    could end: the provider goes on without its reader. So its hold is that of a plain answer."""
    body = parsed(request.body)
    tree = body.tree
    check(tree, known.KNOWN)
    model = model_of(body)
    _refuse_unbounded(tree)
    reasoning = tree.get("reasoning") or {}
    check(reasoning, known.REASONING, "reasoning.")
    tools = hosted(body, model, integer(tree, "max_tool_calls", 0))
    others, unknown = other_models(body)
    made_by = tuple(filter(None, (tools.image_model, tools.svg_model)))
    others = tuple(dict.fromkeys(one for one in (*others, *made_by) if one != model))
    cap = integer(tree, CAP, 0)
    background, stream = tree.get("background") is True, tree.get("stream") is True
    audio = _has_audio(body)
    return Asked(
        model,
        others,
        unknown,
        stream=stream and not background,
        # A cap of 0 is an error at OpenAI, and may mean no cap elsewhere.
        cap=cap or None,
        tier=body.name(tree.get("service_tier")) or "",
        reasons=any(map(can_reason, (model, *others)))
        and body.name(reasoning.get("effort")) != "none",
        asks=frozenset({"input_audio"}) if audio else frozenset(),
        may=_OF_AUDIO if audio else frozenset(),
        kind=request.operation.kind,
        objects=named_objects(body),
        detail=ResponseDetail(
            tools, stream, background, tree.get("store") is not False, asked_at(request)
        ),
        document=body,
        # A conversation gets the items of the answer, whether that is kept or not.
        keeps=tree.get("store") is not False or tree.get("conversation") is not None,
    )


def read_compact(request: Request, dialect: Dialect) -> Asked:
    """A request to compact a conversation. It has no field for a cap of its output."""
    body = parsed(request.body)
    check(body.tree, known.KNOWN)
    return Asked(
        model_of(body),
        tier=body.name(body.tree.get("service_tier")) or "",
        writes=False,
        kind=request.operation.kind,
        objects=named_objects(body),
        detail=ResponseDetail(kept=False),
        document=body,
    )


def read_count(request: Request, dialect: Dialect) -> Asked:
    """A request to count input tokens, which is free. The model may be left out."""
    body = parsed(request.body)
    check(body.tree, known.KNOWN)
    model = model_of(body) if body.tree.get("model") is not None else ""
    return _free(request, body)._replace(model=model)


def read_conversation(request: Request, dialect: Dialect) -> Asked:
    """A conversation, or items for one. A conversation may be made without a body."""
    body = parsed(request.body if request.body.strip() else b"{}")
    check(body.tree, known.CONVERSATION)
    return _free(request, body)


def _free(request: Request, body: Document) -> Asked:
    return Asked(
        writes=False,
        reasons=False,
        kind=request.operation.kind,
        objects=named_objects(body),
        detail=ResponseDetail(),
    )


def _refuse_unbounded(tree: dict[str, Any]) -> None:
    """A response of several agents makes as many as it likes
    (`types/beta/response_create_params.py`, ``multi_agent``), so that nothing bounds its cost."""
    agents = tree.get("multi_agent") or {}
    check(agents, known.MULTI_AGENT, "multi_agent.")
    if agents.get("enabled") is True:
        refuse(
            '"multi_agent" starts as many agents as the model likes, and nothing bounds what they '
            "cost; leave it out."
        )


def _has_audio(body: Document) -> bool:
    """Whether a part of the input is sound."""
    items = body.tree.get("input")
    for item in items if isinstance(items, list) else ():
        content = item.get("content") if isinstance(item, dict) else None
        for part in (item, *(content if isinstance(content, list) else ())):
            if isinstance(part, dict) and body.name(part.get("type")) == "input_audio":
                return True
    return False
