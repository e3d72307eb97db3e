"""The request's body: read strictly, because what is metered must be what the provider reads.

Two parsers may disagree about a key that is given twice, about ``Model`` (Go's encoding/json folds case), about NaN or
about text in another encoding; each of these is refused, so that there is nothing to disagree about.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from tollhouse.denial import Refused
from tollhouse.families.formats.jsonscan import Member, members
from tollhouse.providers.base import EndpointKind

MAX_DEPTH: Final = 100
"""Nested objects and arrays. A request nests about 10; schemas of tools somewhat more."""
MAX_N: Final = 128
"""https://platform.openai.com/docs/api-reference/chat/create#chat-create-n"""
_CAPS: Final = ("max_completion_tokens", "max_tokens")
_MAX_CAP: Final = 2**31 - 1
_MAX_MODEL: Final = 256

_WORDS: Final = (
    "model stream stream_options messages input max_tokens max_completion_tokens n best_of tools tool_choice functions "
    "function_call modalities audio prediction service_tier reasoning_effort verbosity response_format stop seed user "
    "web_search_options temperature top_p store metadata logprobs top_logprobs logit_bias frequency_penalty "
    "presence_penalty parallel_tool_calls safety_identifier prompt_cache_key prompt_cache_options encoding_format "
    "dimensions models fallbacks context_window_fallbacks content_policy_fallbacks route"
)
_KEYS: Final = frozenset(_WORDS.split())
_MODEL_LISTS: Final = ("models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""Where routers in OpenAI's format take models to fall back on: https://openrouter.ai/docs/features/model-routing and
https://docs.litellm.ai/docs/proxy/reliability."""
_MAX_MODELS: Final = 32
_STREAM_KEYS: Final = frozenset({"include_usage", "include_obfuscation", "continuous_usage_stats"})
_SILENT: Final = ("text", "refusal", "image_url")
"""Kinds of parts that have no sound. A ``file`` may be one of sound."""
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's body as it will be sent, and what the budget and the meter need of it.

    ``output_cap`` is in tokens and for each of ``n`` answers; None is no cap, 0 an endpoint without output. ``audio``
    says that audio goes in or may come out. ``service_tier`` is the one asked for, "" if none. ``other_models`` are those
    that the provider may use instead of ``model``; ``models_unknown`` says that there are more, named in a way that can't
    be read.
    """

    body: bytes
    model: str
    stream: bool
    output_cap: int | None
    n: int
    injected_usage: bool
    document: dict[str, Any]
    service_tier: str = ""
    audio: bool = False
    other_models: tuple[str, ...] = ()
    models_unknown: bool = False


def prepare(body: bytes, kind: EndpointKind, usage_in_stream: Literal["on_request", "always"]) -> Prepared:
    """Reads the body of a billable request; raises Refused("bad_request") if it cannot be read in exactly one way.

    A stream of chat completions whose usage comes ``on_request`` gets ``stream_options.include_usage`` set to true
    where the client did not ask for it (``injected_usage``), and no other byte changes.
    """
    document = _parse(body)
    _refuse_case_variants(document, _KEYS, "")
    model = document.get("model", _MISSING)
    if model is _MISSING:
        _refuse('The body has no "model".')
    if not isinstance(model, str) or not model or len(model) > _MAX_MODEL or not model.isprintable():
        _refuse(f'"model" must be a string of 1 to {_MAX_MODEL} printable characters.')
    tier = _optional(document, "service_tier", str, "a string") or ""
    others, unknown = _other_models(document)
    if kind != "chat":
        return Prepared(body, model, False, 0, 1, False, document, tier, other_models=others, models_unknown=unknown)

    stream = _optional(document, "stream", bool, "true or false") or False
    options = _optional(document, "stream_options", dict, "an object")
    asked = False
    if options is not None:
        _refuse_case_variants(options, _STREAM_KEYS, "stream_options.")
        asked = _optional(options, "include_usage", bool, "true or false", "stream_options.") or False
    caps = [cap for key in _CAPS if (cap := _integer(document, key, 0, _MAX_CAP)) is not None]
    # best_of is no field of OpenAI's chat; where a server knows it, so many answers are written.
    answers = max(_integer(document, key, 1, MAX_N) or 1 for key in ("n", "best_of"))
    inject = stream and not asked and usage_in_stream == "on_request"
    return Prepared(
        body=_ask_for_usage(body, document) if inject else body,
        model=model,
        stream=stream,
        # Both at once is an error at OpenAI; elsewhere either may win. So is 0, which elsewhere means no cap.
        output_cap=max(caps) if caps and all(caps) else None,
        n=answers,
        injected_usage=inject,
        document=document,
        service_tier=tier,
        audio=_has_audio(document),
        other_models=others,
        models_unknown=unknown,
    )


def _refuse(why: str) -> NoReturn:
    raise Refused("bad_request", why)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        _refuse(f"The body has the key {_shown(twice)} twice in one object.")
    return found


def _constant(name: str) -> NoReturn:
    _refuse(f"The body has {name}, which JSON does not know.")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        _refuse("The body is not UTF-8.")
    except RecursionError:
        _refuse(f"The body nests deeper than {MAX_DEPTH} levels.")
    except ValueError as error:
        where = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        _refuse(f"The body is not valid JSON{where}.")
    if not isinstance(document, dict):
        _refuse("The body is not a JSON object.")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _refuse_depth(document)
    return document


def _refuse_depth(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    _refuse(f"The body nests deeper than {MAX_DEPTH} levels.")


def _refuse_case_variants(found: dict[str, Any], known: frozenset[str], where: str) -> None:
    for key in found:
        if key not in known and (folded := key.casefold()) in known:
            _refuse(f'The body has the key {_shown(key)}; it is "{where}{folded}", in lower case.')


def _optional[T](found: dict[str, Any], key: str, kind: type[T], what: str, where: str = "") -> T | None:
    value = found.get(key)
    if value is None or isinstance(value, kind):
        return value
    _refuse(f'"{where}{key}" must be {what}.')


def _integer(document: dict[str, Any], key: str, low: int, high: int) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        _refuse(f'"{key}" must be a whole number from {low} to {high}.')
    return value


def lower_cap(body: bytes, cap: int) -> bytes:
    """``body``, which `prepare` has let through as a chat request, with an output cap of at most ``cap`` tokens for each
    answer; no other byte changes. A request with none gets ``max_completion_tokens``."""
    text = body.decode("latin-1")
    found = [member for member in members(text, 0, whole=False) if member.key in _CAPS]
    if all(member.value is None for member in found):
        if not found:
            return _insert(body, body.index(b"{") + 1, b'"max_completion_tokens":%d,' % cap)
        found = [member._replace(value=cap + 1) for member in found[:1]]
    for member in reversed(found):
        if member.value is not None and (member.value > cap or member.value == 0):
            body = body[: member.value_at] + b"%d" % cap + body[member.value_end :]
    return body


def _other_models(document: dict[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Every model beside ``model`` that the request can reach, and whether there may be others."""
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
    names = tuple(dict.fromkeys(name for name in found if isinstance(name, str) and len(name) <= _MAX_MODEL))
    unknown = unknown or len(found) > _MAX_MODELS or any(name not in names for name in found)
    return names[:_MAX_MODELS], unknown


def _has_audio(document: dict[str, Any]) -> bool:
    """Whether tokens of audio may be counted: asked for, in a part, in an earlier answer that is named, or in a kind of
    part that is not known."""
    modalities = document.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        return True
    messages = document.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        if message.get("audio") is not None:
            return True
        content = message.get("content")
        if isinstance(content, list) and not all(isinstance(p, dict) and p.get("type") in _SILENT for p in content):
            return True
    return False


def _ask_for_usage(body: bytes, document: dict[str, Any]) -> bytes:
    """The body with ``include_usage`` true. ``body`` is a valid object without duplicate keys, and has a model."""
    asked = b'"include_usage":true'
    if "stream_options" not in document:
        return _insert(body, body.index(b"{") + 1, b'"stream_options":{' + asked + b"},")
    text = body.decode("latin-1")
    place = _member(text, 0, "stream_options")
    options = place.value
    if options is None:  # null
        return body[: place.value_at] + b"{" + asked + b"}" + body[place.value_end :]
    if "include_usage" in options:
        inner = _member(text, place.value_at, "include_usage")
        return body[: inner.value_at] + b"true" + body[inner.value_end :]
    return _insert(body, place.value_at + 1, asked + (b"," if options else b""))


def _member(text: str, start: int, key: str) -> Member:
    return next(member for member in members(text, start, whole=False) if member.key == key)


def _insert(body: bytes, at: int, text: bytes) -> bytes:
    view = memoryview(body)
    return b"".join((view[:at], text, view[at:]))


def _shown(key: str) -> str:
    return json.dumps(key[:64])
