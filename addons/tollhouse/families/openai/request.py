"""The request's body: read strictly, because what is metered must be what the provider reads.

Two parsers may disagree about a key that is given twice, about ``Model`` (Go's encoding/json folds
case), about NaN or about text in another encoding. Each of these is refused.
"""

from __future__ import annotations

from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import Document, parsed, refuse, shown
from tollhouse.families.openai.known_fields import KNOWN
from tollhouse.families.openai.models import can_reason
from tollhouse.families.openai.objects import chat_objects
from tollhouse.families.openai.rewrite import CAPS

MAX_N: Final = 128
"""https://platform.openai.com/docs/api-reference/chat/create#chat-create-n"""
_MAX_CAP: Final = 2**31 - 1
_MAX_MODEL: Final = 256

_MODEL_LISTS: Final = (
    "models",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
)
"""Where routers in OpenAI's format take models to fall back on: https://openrouter.ai/docs/features/model-routing and
https://docs.litellm.ai/docs/proxy/reliability."""
_MAX_MODELS: Final = 32
_STREAM_OPTIONS: Final = frozenset(
    {"include_usage", "include_obfuscation", "continuous_usage_stats"}
)
_SILENT: Final = ("text", "refusal", "image_url")
"""Kinds of parts that have no sound. A ``file`` may be one of sound."""
_OF_AUDIO: Final = frozenset({"input_audio", "output_audio", "cached_audio"})
_MISSING: Final = object()


def read(request: Request, dialect: Dialect) -> Asked:
    """Raises Refused("bad_request") for a body that can't be read in exactly one way.

    A stream whose usage comes ``on_request`` is made to ask for it where the client did not.
    """
    read_body, kind = parsed(request.body), request.operation.kind
    document = read_body.tree
    _refuse_case_variants(document, KNOWN, "")
    model = read_body.name(document.get("model", request.model or _MISSING))
    if model is _MISSING:
        refuse('The body has no "model".')
    if (
        not isinstance(model, str)
        or not model
        or len(model) > _MAX_MODEL
        or not model.isprintable()
    ):
        refuse(f'"model" must be a string of 1 to {_MAX_MODEL} printable characters.')
    model = request.model or model
    tier = _optional(document, "service_tier", str, "a string") or ""
    others, unknown = other_models(read_body)
    if kind == "embeddings":
        return Asked(
            model,
            others,
            unknown,
            tier=tier,
            document=read_body,
            writes=False,
            reasons=False,
            kind=kind,
        )

    stream = _optional(document, "stream", bool, "true or false") or False
    options = _optional(document, "stream_options", dict, "an object")
    asks = False
    if options is not None:
        _refuse_case_variants(options, _STREAM_OPTIONS, "stream_options.")
        asks = (
            _optional(options, "include_usage", bool, "true or false", "stream_options.") or False
        )
    caps = [cap for key in CAPS if (cap := _integer(document, key, 0, _MAX_CAP)) is not None]
    # ``best_of`` is no field of OpenAI's chat. A server that knows it writes as many answers.
    choices = max(_integer(document, key, 1, MAX_N) or 1 for key in ("n", "best_of"))
    audio, may = _audio(read_body)
    return Asked(
        model,
        others,
        unknown,
        stream,
        # Both caps at once are an error at OpenAI. Elsewhere either may win. A cap of 0 is an error
        # at OpenAI too, and means no cap elsewhere.
        cap=max(caps) if caps and all(caps) else None,
        choices=choices,
        tier=tier,
        reasons=any(map(can_reason, (model, *others)))
        and document.get("reasoning_effort") != "none",
        asks=audio,
        may=may,
        kind=kind,
        objects=chat_objects(read_body),
        detail=document.get("web_search_options") is not None,
        asks_for_usage=stream and not asks and dialect.usage_in_stream == "on_request",
        document=read_body,
        # A server other than OpenAI's may take 1 and "true" for true.
        keeps=document.get("store") not in (None, False),
    )


def _refuse_case_variants(found: dict[str, Any], known: frozenset[str], where: str) -> None:
    for key in found:
        if key not in known and (folded := key.casefold()) in known:
            refuse(f'The body has the key {shown(key)}; it is "{where}{folded}", in lower case.')


def _optional[T](
    found: dict[str, Any], key: str, kind: type[T], what: str, where: str = ""
) -> T | None:
    value = found.get(key)
    if value is not None and not isinstance(value, kind):
        refuse(f'"{where}{key}" must be {what}.')
    return value


def _integer(document: dict[str, Any], key: str, low: int, high: int) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        refuse(f'"{key}" must be a whole number from {low} to {high}.')
    return value


def other_models(body: Document) -> tuple[tuple[str, ...], bool]:
    """Every model beside ``model`` that the request can reach, and whether there may be others."""
    document = body.tree
    found: list[Any] = []
    # A route is the router's own choice of a model.
    unknown = document.get("route") is not None
    for key in _MODEL_LISTS:
        value = document.get(key)
        if isinstance(value, list):
            found += value
        elif value is not None:
            unknown = True
    tools = document.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("model") is not None:
            found.append(tool["model"])
    found = [body.name(value) for value in found]
    names = tuple(
        dict.fromkeys(name for name in found if isinstance(name, str) and len(name) <= _MAX_MODEL)
    )
    unknown = unknown or len(found) > _MAX_MODELS or any(name not in names for name in found)
    return names[:_MAX_MODELS], unknown


def _audio(body: Document) -> tuple[frozenset[str], frozenset[str]]:
    """Two sets of token parts of audio: those that are asked for by name, and those that the tokens
    may turn out to be. They may be audio where audio is asked for, where an earlier answer is
    named, and where a kind of part may have sound."""
    asks = set()
    document = body.tree
    modalities = document.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        asks.add("output_audio")
    may = False
    messages = document.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        if message.get("audio") is not None:
            asks.add("input_audio")
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = body.name(part.get("type")) if isinstance(part, dict) else None
            if kind == "input_audio":
                asks.add("input_audio")
            elif kind not in _SILENT:
                may = True
    return frozenset(asks), _OF_AUDIO if asks or may else frozenset()
