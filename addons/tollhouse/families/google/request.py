"""The body of a request to a model, read strictly: what is metered must be what Google reads.

https://ai.google.dev/api/generate-content, https://ai.google.dev/api/embeddings and
https://ai.google.dev/api/caching. The model stands in the path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.google import spelled
from tollhouse.families.google.contents import InputCount, InputSums, refuse_video
from tollhouse.families.google.models import can_reason, makes_video, may_write, only_speaks, plain
from tollhouse.families.google.spelled import known, members

MAX_CAP: Final = 2**31 - 1
MAX_CANDIDATES: Final = 128
"""8 at Gemini (https://ai.google.dev/api/generate-content#GenerationConfig). The next power that no
request can mean by mistake."""
BODY: Final = known(
    *("contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "model"),
    *("generationConfig", "cachedContent", "serviceTier", "labels", "store"),
    *("generateContentRequest", "requests", "content", "taskType", "title"),
    *("outputDimensionality", "embedContentConfig", "ttl", "expireTime", "displayName", "name"),
)
CONFIG: Final = known(
    *("maxOutputTokens", "candidateCount", "thinkingConfig", "responseModalities", "temperature"),
    *("mediaResolution", "routingConfig", "modelConfig", "speechConfig", "imageConfig", "topP"),
    *("topK", "seed", "stopSequences", "responseSchema", "responseJsonSchema", "responseMimeType"),
    *("responseFormat", "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs"),
)
_THINKING: Final = known("thinkingBudget", "thinkingLevel", "includeThoughts")
_ROUTING: Final = known("manualMode", "autoMode")
_PATH: Final = re.compile(
    r".*/((?:(?:publishers/[^/]+/)?models|tunedModels|endpoints)/[^/:]+):[^/]+"
)
_TIER_HEADERS: Final = ("x-vertex-ai-llm-shared-request-type", "x-vertex-ai-llm-request-type")
_SPEECH: Final = {"AUDIO": "output_audio", "IMAGE": "output_image"}


class Detail(NamedTuple):
    """What the meter has to know. ``framing`` is that of a stream: ``sse`` or ``array``."""

    framing: str = ""
    tools: frozenset[str] = frozenset()
    hours: int = 0
    """Whole hours that a cache is kept, begun ones too."""
    goes_on: bool = False
    """Google goes on with it when nobody reads the answer."""
    path: str = ""
    """Where it was asked for, if its answer is kept and shown below that."""


def model_of(path: str) -> str:
    """The model of the path as the table of prices names it. That of an endpoint of one's own and of
    a tuned model keeps what stands before it."""
    match = _PATH.fullmatch(path)
    return plain(match[1]) if match is not None else ""


def read_generate(request: Request, dialect: Dialect) -> Asked:
    """``generateContent`` and ``streamGenerateContent``."""
    document, values = _body(request)
    model = model_of(request.path)
    _same_model(values, document, request.path)
    config = members(spelled.obj(values, "generationConfig") or {}, CONFIG, "generationConfig.")
    where = "generationConfig."
    cap = spelled.integer(config, "maxOutputTokens", 0, MAX_CAP, where)
    choices = spelled.integer(config, "candidateCount", 0, MAX_CANDIDATES, where) or 1
    thinking = members(
        spelled.obj(config, "thinkingConfig", where) or {}, _THINKING, where + "thinkingConfig."
    )
    budget = spelled.integer(thinking, "thinkingBudget", -1, MAX_CAP, where + "thinkingConfig.")
    found = _count(document, values, model, config)
    others, unknown = _routing(config, document)
    streams = request.operation.kind == "stream"
    return Asked(
        model,
        others,
        unknown,
        stream=streams,
        cap=cap or None,
        choices=choices,
        tier=tier_of(values, document, request),
        reasons=budget != 0 and any(map(can_reason, (model, *others))),
        asks=found.asks | _modalities(config, document, model),
        may=found.may | may_write(model),
        kind=request.operation.kind,
        objects=found.objects,
        detail=Detail(_framing(request.query) if streams else "", found.tools),
        document=found,
    )


def read_count(request: Request, dialect: Dialect) -> Asked:
    """``countTokens`` and other requests that cost nothing: only the objects that they name count."""
    document, values = _body(request)
    inner = spelled.obj(values, "generateContentRequest")
    if inner is not None:
        if others := sorted(values.keys() - {"generateContentRequest", "model"}):
            refuse(
                f'The body has both "generateContentRequest" and "{others[0]}". Google counts one '
                "of them: send one."
            )
        values = members(inner, BODY, "generateContentRequest.")
    found = _count(document, values, "", {})
    return Asked(writes=False, reasons=False, objects=found.objects, detail=Detail())


def read_embed(request: Request, dialect: Dialect) -> Asked:
    """``embedContent`` and ``batchEmbedContents``."""
    document, values = _body(request)
    model = model_of(request.path)
    several = "requests" in values
    if several and "content" in values:
        refuse('The body has both "requests" and "content". Google reads one of them: send one.')
    contents = InputCount(document, model)
    for one in spelled.objects(values, "requests") if several else [values]:
        inner = members(one, BODY, "requests.") if several else values
        _same_model(inner, document, request.path)
        contents.content(inner.get("content", {}), "content")
        contents.rendered(inner.get("title"))
    found = contents.found()
    refuse_video(found.video, "of which vectors are made")
    return Asked(
        model,
        writes=False,
        reasons=False,
        asks=found.asks,
        may=found.may,
        objects=found.objects,
        detail=Detail(),
        document=found,
    )


def _body(request: Request) -> tuple[Document, dict[str, Any]]:
    document = parsed(request.body)
    return document, members(document.tree, BODY)


def _same_model(values: Mapping[str, Any], document: Document, path: str) -> None:
    """A body may repeat the model of the path, and no other."""
    name = spelled.text(values, "model", document)
    if name and name != model_of(path) and plain(name.rpartition("/models/")[2]) != model_of(path):
        refuse('The "model" of the body is not that of the path.')


def _count(
    document: Document, values: Mapping[str, Any], model: str, config: Mapping[str, Any]
) -> InputSums:
    resolution = spelled.text(config, "mediaResolution", document, "generationConfig.").upper()
    contents = InputCount(document, model, resolution)
    contents.contents(values, "contents")
    if "content" in values:
        contents.content(values["content"], "content")
    if "systemInstruction" in values:
        contents.content(values["systemInstruction"], "systemInstruction")
    contents.tools(values)
    for schema in ("responseSchema", "responseJsonSchema", "responseFormat"):
        contents.rendered(config.get(schema))
    if "cachedContent" in values:
        contents.cached(values["cachedContent"])
    for key, value in document.tree.items():
        if key.replace("_", "").lower() not in BODY:
            contents.rendered({key: value})
    return contents.found()


def cache_contents(request: Request) -> tuple[Document, dict[str, Any], InputSums]:
    """Of ``cachedContents``: the body, its known members, and what is to be kept."""
    document, values = _body(request)
    model = plain(spelled.text(values, "model", document).rpartition("/models/")[2])
    return document, values, _count(document, values, model, {})


def tier_of(values: Mapping[str, Any], document: Document, request: Request) -> str:
    """The service tier that is asked for: in the body at Gemini, in a header at Vertex
    (https://cloud.google.com/vertex-ai/generative-ai/docs/flex-paygo)."""
    said = spelled.text(values, "serviceTier", document).lower()
    if said in ("", "unspecified", "service_tier_unspecified"):
        for name, value in request.headers:
            if name in _TIER_HEADERS and value.strip().lower() in ("flex", "priority"):
                return value.strip().lower()
        return ""
    return said.removeprefix("service_tier_")


def _modalities(config: Mapping[str, Any], document: Document, model: str) -> frozenset[str]:
    where = "generationConfig."
    asked = {word.upper() for word in spelled.words(config, "responseModalities", document, where)}
    refuse_video("VIDEO" in asked or makes_video(model), "as an answer")
    if only_speaks(model):
        asked.discard("AUDIO")
    return frozenset(part for word, part in _SPEECH.items() if word in asked)


def _routing(config: Mapping[str, Any], document: Document) -> tuple[tuple[str, ...], bool]:
    """The models that Vertex may take instead: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerationConfig#RoutingConfig."""
    if "modelConfig" in config:
        return (), True
    routing = spelled.obj(config, "routingConfig", "generationConfig.")
    if routing is None:
        return (), False
    modes = members(routing, _ROUTING, "routingConfig.")
    manual = members(spelled.obj(modes, "manualMode") or {}, known("modelName"), "manualMode.")
    name = plain(spelled.text(manual, "modelName", document))
    return ((name,) if name else ()), "autoMode" in modes or not name


def _framing(query: str) -> str:
    """What the query says. ``alt`` is also taken with a ``$`` before it:
    https://cloud.google.com/apis/docs/system-parameters."""
    said = {
        value.lower()
        for name, value in parse_qsl(query, keep_blank_values=True)
        if name.strip().lower() in ("alt", "$alt")
    }
    if len(said) > 1:
        refuse("The query has two different values of alt.")
    return "sse" if said == {"sse"} else "array"
