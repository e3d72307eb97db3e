"""Which endpoints of the Gemini API are open, and what each is: https://ai.google.dev/api.

Closed are what no route names, and among it: ``PATCH`` of a cache (it makes the storage dearer, and
its model is not in the request), corpora, permissions, webhooks and agents.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.operation import MODELS, Cost, Objects, Operation, Route

GENERATE: Final = Operation("generate", "metered", reads_body=True)
STREAM: Final = Operation("stream", "metered", reads_body=True)
EMBED: Final = Operation("embed", "metered", reads_body=True)
COUNT: Final = Operation("count", "free", reads_body=True, creates=False)
IMAGES: Final = Operation("predict_images", "metered", reads_body=True)
CACHE: Final = Operation("cache", "metered", reads_body=True, objects="makes")
INTERACTION: Final = Operation("interaction", "metered", reads_body=True, objects="makes")
INTERACTIONS: Final = Operation("interactions", "free", shows_usage=True)
CANCEL_INTERACTION: Final = Operation("interactions", "free", reads_body=True, shows_usage=True)
UPLOAD: Final = Operation("upload", "free", reads_body=True, objects="makes", upload="bytes")
JOB: Final = Operation("job", "job", reads_body=True, objects="makes")
BATCH: Final = Operation("batch", "job", reads_body=True, objects="makes")
SHOWN_BATCH: Final = Operation("batches", "free", objects="makes", shows_usage=True)
"""A batch is shown, and the file that it has made."""
OUTPUT: Final = Operation("file", "free", shows_usage=True)
"""A file, which may be the output of a batch."""
JOB_UPLOAD: Final = Operation("job_upload", "job", reads_body=True, objects="makes")
UPLOAD_PART: Final = Operation(
    "upload_part", "free", reads_body=True, objects="makes", upload="bytes"
)
"""A request behind the first of an upload in several. The first is charged."""
MINT: Final = Operation("auth_token", "mints", reads_body=True)
LIVE: Final = Operation("live", "metered", objects="makes", socket=True)
COMPAT_CHAT: Final = Operation("chat", "metered", reads_body=True)
COMPAT_EMBEDDINGS: Final = Operation("embeddings", "metered", reads_body=True)

_V: Final = r"/v1(?:beta|alpha)?"
NAME: Final = r"[A-Za-z0-9._-]+"
_ID: Final = r"[A-Za-z0-9._~-]+"
_PART: Final = re.compile(
    r"(?:upload_protocol=resumable&)?upload_id=[A-Za-z0-9_-]+(?:&upload_protocol=resumable)?"
)
"""The query of the ``x-goog-upload-url`` that the first request's answer gives."""
_MODEL: Final = rf"(?:models|tunedModels)/{NAME}"
_TO_STORE: Final = re.compile(
    rf"/upload{_V}/(?P<object>fileSearchStores/{_ID}):uploadToFileSearchStore"
)


def route(method: str, path: str, operation: Operation) -> Route:
    return Route(method, re.compile(path), operation)


def _object(kind: str, *, body: bool = False, does: Objects = "", cost: Cost = "free") -> Operation:
    return Operation(kind, cost, reads_body=body, objects=does)


def kept(prefix: str, collection: str, kind: str, *, shown: bool = True) -> tuple[Route, ...]:
    """The list of a kind of objects, one of them (if ``shown``), and its end."""
    one = rf"{prefix}/(?P<object>{collection}/{_ID})"
    return (
        route("GET", rf"{prefix}/{collection}", _object(kind, does="lists")),
        *((route("GET", one, _object(kind)),) if shown else ()),
        route("DELETE", one, _object(kind, does="deletes")),
    )


def generates(model: str) -> tuple[Route, ...]:
    """What a model writes, whole and as a stream."""
    return (
        route("POST", rf"{model}:generateContent", GENERATE),
        route("POST", rf"{model}:streamGenerateContent", STREAM),
    )


def interactions(prefix: str) -> tuple[Route, ...]:
    """A new interaction, and the same when it is shown and when it is ended."""
    one = rf"{prefix}/interactions/(?P<object>{_ID})"
    return (
        route("POST", rf"{prefix}/interactions", INTERACTION),
        route("GET", one, INTERACTIONS),
        route("POST", rf"{one}/cancel", CANCEL_INTERACTION),
    )


ROUTES: Final = (
    *generates(rf"{_V}/{_MODEL}"),
    route("POST", rf"{_V}/models/{NAME}:(?:embedContent|batchEmbedContents)", EMBED),
    route("POST", rf"{_V}/{_MODEL}:countTokens", COUNT),
    route("POST", rf"{_V}/models/imagen-{NAME}:predict", IMAGES),
    route("POST", rf"{_V}/models/{NAME}:predictLongRunning", JOB),
    route("POST", rf"{_V}/models/{NAME}:(?:batchGenerateContent|asyncBatchEmbedContent)", BATCH),
    route("GET", rf"{_V}/models", MODELS),
    route("GET", rf"{_V}/models/{NAME}", MODELS),
    route("GET", rf"{_V}/tunedModels", _object("tuned_models", does="lists")),
    route("GET", rf"{_V}/tunedModels/{NAME}", MODELS),
    route("POST", rf"{_V}/tunedModels", JOB),
    # What long work has come to, and its end: Veo's, a tuning's, an import's.
    route(
        "GET",
        rf"{_V}/(?P<object>(?:{_MODEL}/|fileSearchStores/{_ID}/(?:upload/)?)?operations/{_ID})",
        _object("operation"),
    ),
    route("GET", rf"{_V}/(?P<object>batches/{_ID})", SHOWN_BATCH),
    *kept(_V, "batches", "batches", shown=False),
    route("POST", rf"{_V}/(?P<object>batches/{_ID}):cancel", _object("operation", body=True)),
    route("POST", rf"{_V}/cachedContents", CACHE),
    *kept(_V, "cachedContents", "caches"),
    route("POST", rf"/upload{_V}/files", UPLOAD),
    *kept(_V, "files", "file"),
    route("GET", rf"(?:/download)?{_V}/(?P<object>files/{_ID}):download", OUTPUT),
    route("POST", rf"{_V}/fileSearchStores", _object("store", body=True, does="makes")),
    *kept(_V, "fileSearchStores", "stores"),
    route("GET", rf"{_V}/(?P<object>fileSearchStores/{_ID})/documents", _object("stores")),
    route("GET", rf"{_V}/(?P<object>fileSearchStores/{_ID})/documents/{_ID}", _object("stores")),
    route("DELETE", rf"{_V}/(?P<object>fileSearchStores/{_ID})/documents/{_ID}", _object("stores")),
    route("POST", rf"{_V}/(?P<object>fileSearchStores/{_ID}):importFile", JOB),
    Route("POST", _TO_STORE, UPLOAD_PART, query=_PART),
    Route("POST", _TO_STORE, JOB_UPLOAD),
    *interactions(_V),
    route(
        "DELETE", rf"{_V}/interactions/(?P<object>{_ID})", _object("interactions", does="deletes")
    ),
    route("POST", rf"{_V}/auth_tokens", MINT),
    # https://ai.google.dev/api/live
    route(
        "GET",
        r"/ws/google\.ai\.generativelanguage\.v1(?:beta|alpha)?\.GenerativeService\.BidiGenerateContent",
        LIVE,
    ),
    # https://ai.google.dev/gemini-api/docs/openai
    route("POST", r"/v1beta/openai/chat/completions", COMPAT_CHAT),
    route("POST", r"/v1beta/openai/embeddings", COMPAT_EMBEDDINGS),
    route("GET", r"/v1beta/openai/models", MODELS),
    route("GET", rf"/v1beta/openai/models/(?:models/)?{NAME}", MODELS),
)
