"""Interactions (https://ai.google.dev/api/interactions-api): the model or the agent stands in the
body, and the fields have one spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.google import spelled
from tollhouse.families.google.contents import InputCount, refuse_video
from tollhouse.families.google.models import can_reason, makes_video, may_write, plain
from tollhouse.families.google.request import MAX_CAP, Detail
from tollhouse.families.google.usage import MAPS, RETRIEVAL, SEARCH, UNCOUNTED
from tollhouse.families.openai.media import elsewhere

BODY: Final = spelled.known(
    *("model", "agent", "input", "stream", "store", "background", "tools", "system_instruction"),
    *("generation_config", "previous_interaction_id", "cached_content", "continuation_token"),
    *("environment", "response_modalities", "response_format", "response_mime_type"),
    *("service_tier", "agent_config", "labels", "safety_settings", "webhook_config"),
)
_NOT_INPUT: Final = frozenset(
    {
        *("model", "agent", "stream", "store", "background", "generation_config", "service_tier"),
        *("previous_interaction_id", "response_modalities", "labels", "safety_settings"),
        *("input", "tools", "webhook_config", "response_mime_type", "cached_content"),
    }
)
_CONFIG: Final = spelled.known("max_output_tokens", "thinking_level", "thinking_summaries")
_UNSEEN: Final = ("previous_interaction_id", "continuation_token", "environment", "agent")
_OF_CLIENT: Final = frozenset({"function", "computer_use"})
_TOOLS: Final = {"google_search": SEARCH, "google_maps": MAPS}
_WEBS: Final = {*UNCOUNTED.values()} - {RETRIEVAL}
_MEDIA: Final = {
    "image": "image/*",
    "audio": "audio/*",
    "video": "video/*",
    "document": "application/pdf",
}
_PARTS: Final = {"audio": "output_audio", "image": "output_image"}


def read(request: Request, dialect: Dialect) -> Asked:
    document = parsed(request.body)
    tree = document.tree
    _refuse_variants(tree, BODY)
    values = {key: value for key, value in tree.items() if value is not None}
    model, agent = (spelled.text(values, name, document) for name in ("model", "agent"))
    if bool(model) == bool(agent):
        refuse('The body must have either a "model" or an "agent".')
    config = spelled.obj(values, "generation_config") or {}
    _refuse_variants(config, _CONFIG)
    cap = spelled.integer(config, "max_output_tokens", 0, MAX_CAP, "generation_config.")
    model = plain(model or agent)
    found = InputCount(document, model)
    _tools(found, values, document)
    _input(found, values.get("input"), document)
    for key, value in values.items():
        if key not in _NOT_INPUT:
            found.rendered(value)
    if any(name in values for name in _UNSEEN):
        found.elsewhere()
    found.objects += _objects(values, document)
    if "cached_content" in values:
        found.cached(values["cached_content"])
    # What works in the background goes on when the stream has ended, so all of it is held.
    goes_on = spelled.boolean(values, "background") or bool(agent)
    counts = found.found()
    modalities = {
        word.lower() for word in spelled.words(values, "response_modalities", document, "")
    }
    refuse_video("video" in modalities or makes_video(model), "as an answer")
    streams = spelled.boolean(values, "stream")
    return Asked(
        model,
        # An agent calls models of its own choice.
        models_unknown=bool(agent),
        stream=streams and not goes_on,
        cap=None if agent else cap or None,
        tier=spelled.text(values, "service_tier", document).lower(),
        reasons=can_reason(model),
        asks=counts.asks | {part for word, part in _PARTS.items() if word in modalities},
        may=counts.may | may_write(model),
        objects=counts.objects,
        detail=Detail(
            # No event of ours ends one that goes on.
            "sse" if streams and not goes_on else "",
            counts.tools,
            goes_on=goes_on,
            path="" if values.get("store") is False else request.path,
        ),
        document=counts,
        keeps=values.get("store") is not False or goes_on,
    )


def _refuse_variants(found: Mapping[str, Any], known: spelled.Known) -> None:
    names = {name.replace("_", ""): name for name in known}
    for key in found:
        name = names.get(key.replace("_", "").lower())
        if name is not None and key != name:
            refuse(f'The body has the key {key[:64]!r}; it is "{name}".')


def _objects(values: Mapping[str, Any], document: Document) -> list[str]:
    """The interaction that this one goes on with, and an environment that was made before."""
    names = ["previous_interaction_id"]
    if isinstance(values.get("environment"), str):
        names.append("environment")
    return [name for key in names if (name := spelled.text(values, key, document))]


def _tools(found: InputCount, values: Mapping[str, Any], document: Document) -> None:
    for tool in spelled.objects(values, "tools"):
        found.rendered(tool)
        kind = spelled.text(tool, "type", document, "tool.")
        if kind in _TOOLS:
            found.use(_TOOLS[kind])
        elif kind == RETRIEVAL:
            _retrieval(found, tool, document)
        elif kind not in _OF_CLIENT:
            found.elsewhere()
        for name in spelled.words(tool, "file_search_store_names", document, "tool."):
            found.store(name)


def _retrieval(found: InputCount, tool: Mapping[str, Any], document: Document) -> None:
    """What is searched in stands in a list, or is said by its configuration alone."""
    types = {*spelled.words(tool, "retrieval_types", document, "tool.")}
    types |= {kind for kind in _WEBS if tool.get(f"{kind}_config") is not None}
    for kind in types or {RETRIEVAL}:
        found.use(kind if kind in _WEBS else RETRIEVAL)


def _input(found: InputCount, value: Any, document: Document) -> None:
    """A text, a content, or a list of contents or of turns and steps that hold them."""
    if isinstance(value, str):
        found.text(value)
    elif isinstance(value, list):
        for item in value:
            _input(found, item, document)
    elif isinstance(value, dict):
        kind = spelled.text(value, "type", document, "input.")
        if kind in _MEDIA:
            _media(found, kind, value, document)
            return
        rest = {}
        for key, inner in value.items():
            if key in ("content", "parts", "result") and isinstance(inner, dict | list):
                _input(found, inner, document)
            elif key == "uri" and isinstance(inner, str):
                found.link(document.name(inner), "")
            else:
                rest[key] = inner
        found.rendered(rest)


def _media(found: InputCount, kind: str, value: Mapping[str, Any], document: Document) -> None:
    mime = spelled.text(value, "mime_type", document) or _MEDIA[kind]
    uri, data = found.look(value.get("uri")), found.look(value.get("data"))
    if uri is not None:
        found.link(uri.head, mime)
    if data is not None and not elsewhere(data.head):
        found.media(mime, data)
    if uri is None and data is None:
        refuse(f'A content of type "{kind}" must have "data" or a "uri".')
