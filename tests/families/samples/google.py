"""Google's samples, made with the types of google-genai where it has them."""

from __future__ import annotations

import json
from typing import Any

from google.genai import types
from tests.families.samples.kit import EVENTS, Exchange, Samples

from tollhouse.families.google import GOOGLE
from tollhouse.families.units import Charge, Units

MODEL = "gemini-2.5-flash"
PATH = f"/v1beta/models/{MODEL}:generateContent"
STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent"
ASKED = b'{"contents":[{"role":"user","parts":[{"text":"Say hello."}]}],"generationConfig":{"maxOutputTokens":20}}'
GROUNDED = ASKED[:-1] + b',"tools":[{"googleSearch":{}}]}'


def answer(text: str = "Hello.", **members: Any) -> str:
    """A `GenerateContentResponse` in Google's own spelling."""
    content = types.Content(role="model", parts=[types.Part(text=text)])
    made = types.GenerateContentResponse(
        candidates=[types.Candidate(content=content, index=0)],
        model_version=MODEL,
        response_id="r1",
    )
    return json.dumps({**made.model_dump(mode="json", by_alias=True, exclude_none=True), **members})


def counts(prompt: int, output: int = 0, **more: Any) -> dict[str, Any]:
    """``usageMetadata``. A count of 0 is missing."""
    found = {"promptTokenCount": prompt, "candidatesTokenCount": output, **more}
    return {"usageMetadata": {key: value for key, value in found.items() if value}}


def crlf(*events: str) -> bytes:
    """Events as Gemini writes them."""
    return b"".join(f"data: {event}\r\n\r\n".encode() for event in events)


_EARLY = answer("Hel", usageMetadata={"trafficType": "ON_DEMAND"})
_LATE = answer("lo.", **counts(9, 4, thoughtsTokenCount=5, totalTokenCount=18))
_FLASH = Charge(MODEL, Units(input=9, output=9, reasoning=5, requests=1))
_ERROR = '{\n  "error": {\n    "code": 503,\n    "message": "m",\n    "status": "UNAVAILABLE"\n  }\n}\n\n'
_INTERACTION = {
    "id": "v1_abc",
    "model": "gemini-3.5-flash",
    "status": "completed",
    "usage": {
        "total_input_tokens": 9,
        "total_output_tokens": 4,
        "total_thought_tokens": 2,
        "total_tokens": 15,
    },
}
_INTERACTION_CHARGE = Charge("gemini-3.5-flash", Units(input=9, output=6, reasoning=2, requests=1))

OPEN = (
    ("POST", PATH),
    ("POST", STREAM),
    ("POST", "/v1alpha/tunedModels/mine:generateContent"),
    ("POST", "/v1/models/gemini-embedding-001:embedContent"),
    ("POST", "/v1beta/models/gemini-embedding-001:batchEmbedContents"),
    ("POST", f"/v1beta/models/{MODEL}:countTokens"),
    ("POST", "/v1beta/models/imagen-4.0-generate-001:predict"),
    ("POST", "/v1beta/models/veo-3.1-generate-preview:predictLongRunning"),
    ("POST", f"/v1beta/models/{MODEL}:batchGenerateContent"),
    ("POST", "/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent"),
    ("GET", "/v1beta/models"),
    ("GET", "/v1beta/models/gemini-x"),
    ("GET", "/v1/models"),
    ("GET", "/v1beta/tunedModels"),
    ("GET", "/v1beta/tunedModels/mine"),
    ("POST", "/v1beta/tunedModels"),
    ("GET", "/v1beta/models/veo-3.1-generate-preview/operations/op1"),
    ("GET", "/v1beta/batches"),
    ("GET", "/v1beta/batches/b1"),
    ("DELETE", "/v1beta/batches/b1"),
    ("POST", "/v1beta/batches/b1:cancel"),
    ("POST", "/v1beta/cachedContents"),
    ("GET", "/v1beta/cachedContents"),
    ("GET", "/v1beta/cachedContents/c1"),
    ("DELETE", "/v1beta/cachedContents/c1"),
    ("POST", "/upload/v1beta/files"),
    ("GET", "/v1beta/files"),
    ("GET", "/v1beta/files/f1"),
    ("DELETE", "/v1beta/files/f1"),
    ("GET", "/v1beta/files/f1:download"),
    ("GET", "/download/v1beta/files/f1:download"),
    ("POST", "/v1beta/fileSearchStores"),
    ("GET", "/v1beta/fileSearchStores"),
    ("GET", "/v1beta/fileSearchStores/s1"),
    ("DELETE", "/v1beta/fileSearchStores/s1"),
    ("GET", "/v1beta/fileSearchStores/s1/documents"),
    ("GET", "/v1beta/fileSearchStores/s1/documents/d1"),
    ("DELETE", "/v1beta/fileSearchStores/s1/documents/d1"),
    ("POST", "/v1beta/fileSearchStores/s1:importFile"),
    ("POST", "/upload/v1beta/fileSearchStores/s1:uploadToFileSearchStore"),
    ("POST", "/upload/v1beta/fileSearchStores/s1:uploadToFileSearchStore?upload_id=u1"),
    ("POST", "/v1beta/interactions"),
    ("GET", "/v1beta/interactions/v1_abc"),
    ("POST", "/v1beta/interactions/v1_abc/cancel"),
    ("DELETE", "/v1beta/interactions/v1_abc"),
    ("POST", "/v1alpha/auth_tokens"),
    ("POST", "/v1beta/openai/chat/completions"),
    ("POST", "/v1beta/openai/embeddings"),
    ("GET", "/v1beta/openai/models"),
    ("GET", "/v1beta/openai/models/gemini-x"),
)

EXCHANGES = (
    Exchange(
        "generate",
        PATH,
        ASKED,
        answer("Hello.", **counts(9, 4, totalTokenCount=13)).encode(),
        (Charge(MODEL, Units(input=9, output=4, requests=1)),),
    ),
    Exchange(
        "stream",
        STREAM,
        ASKED,
        crlf(_EARLY, _LATE),
        (_FLASH,),
        EVENTS,
        text=len(crlf(_EARLY)),
        query="alt=sse",
    ),
    Exchange(
        "stream as an array",
        STREAM,
        ASKED,
        f"[{_EARLY}\r\n,\r\n{_LATE}\r\n]".encode(),
        (_FLASH,),
        text=len(f"[{_EARLY}".encode()),
    ),
    Exchange(
        "a prompt that was blocked",
        PATH,
        ASKED,
        json.dumps({"promptFeedback": {"blockReason": "SAFETY"}, **counts(9)}).encode(),
        (Charge("", Units(input=9, requests=1)),),
    ),
    Exchange(
        "grounded",
        PATH,
        GROUNDED,
        answer("It rains.", **counts(9, 4, toolUsePromptTokenCount=30, totalTokenCount=43))
        .replace(
            '"index": 0', '"index": 0, "groundingMetadata": {"webSearchQueries": ["a", "", "b"]}'
        )
        .encode(),
        (
            Charge(MODEL, Units(input=39, output=4, requests=1)),
            Charge("google_search", Units(requests=1)),
        ),
    ),
    Exchange(
        "error in a stream",
        STREAM,
        ASKED,
        crlf(_EARLY) + _ERROR.encode(),
        (),
        EVENTS,
        text=len(crlf(_EARLY)),
        error="503",
        query="alt=sse",
    ),
    Exchange(
        "embeddings",
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        b'{"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"Say hello."}]}}]}',
        b'{"embeddings":[{"values":[0.1]}],"usageMetadata":{"promptTokenCount":3}}',
        (Charge("", Units(input=3, requests=1)),),
    ),
    Exchange(
        "images",
        "/v1beta/models/imagen-4.0-generate-001:predict",
        b'{"instances":[{"prompt":"A tollhouse."}],"parameters":{"sampleCount":1}}',
        b'{"predictions":[{"mimeType":"image/png","bytesBase64Encoded":"aGk="}]}',
        (Charge("", Units(images=1, requests=1)),),
    ),
    Exchange(
        "a cache",
        "/v1beta/cachedContents",
        b'{"model":"models/gemini-2.5-flash","contents":[{"parts":[{"text":"'
        + b"Long. " * 500
        + b'"}]}],"ttl":"3599s"}',
        b'{"name":"cachedContents/c1","model":"models/gemini-2.5-flash","usageMetadata":{"totalTokenCount":700}}',
        (
            Charge("", Units(input=700, cache_write=700, requests=1)),
            Charge("cache_storage", Units(requests=1)),
        ),
        created=("cachedContents/c1",),
    ),
    Exchange(
        "an upload",
        "/upload/v1beta/files",
        b"\x89PNG any bytes",
        b'{"file":{"name":"files/f1","uri":"https://generativelanguage.googleapis.com/v1beta/files/f1"}}',
        (),
        created=("files/f1",),
    ),
    Exchange(
        "an upload to a store, in one request",
        "/upload/v1beta/fileSearchStores/s1:uploadToFileSearchStore",
        b"--b\r\n\r\n{}\r\n--b\r\n\r\n\x89PNG any bytes\r\n--b--",
        b'{"name":"fileSearchStores/s1/upload/operations/o1"}',
        (),
        created=("fileSearchStores/s1/upload/operations/o1",),
    ),
    Exchange(
        "an upload to a store, its second request",
        "/upload/v1beta/fileSearchStores/s1:uploadToFileSearchStore",
        b"\x89PNG any bytes",
        b'{"name":"fileSearchStores/s1/upload/operations/o1"}',
        (),
        query="upload_id=u1&upload_protocol=resumable",
        sent=(("x-goog-upload-command", "upload, finalize"), ("x-goog-upload-offset", "0")),
        created=("fileSearchStores/s1/upload/operations/o1",),
    ),
    Exchange(
        "a file and a cache are named",
        PATH,
        b'{"contents":[{"parts":[{"file_data":{"file_uri":'
        b'"https://generativelanguage.googleapis.com/v1beta/files/f1","mime_type":"image/png"}}]}],'
        b'"cachedContent":"cachedContents/c1"}',
        answer("Hello.", **counts(900, 4, cachedContentTokenCount=600)).encode(),
        (Charge(MODEL, Units(input=900, output=4, cached=600, requests=1)),),
        objects=("files/f1", "cachedContents/c1"),
    ),
    Exchange(
        "interaction",
        "/v1beta/interactions",
        b'{"model":"gemini-3.5-flash","input":"Say hello.","previous_interaction_id":"v1_old"}',
        json.dumps(_INTERACTION).encode(),
        (_INTERACTION_CHARGE,),
        created=("v1_abc",),
        objects=("v1_old",),
    ),
    Exchange(
        "interaction as events",
        "/v1beta/interactions",
        b'{"model":"gemini-3.5-flash","input":"Say hello.","stream":true}',
        crlf(
            '{"event_type":"interaction.created","interaction":{"id":"v1_abc","status":"in_progress"}}',
            '{"event_type":"step.delta","index":0,"delta":{"type":"text","text":"Hello."}}',
            json.dumps({"event_type": "interaction.completed", "interaction": _INTERACTION}),
            "[DONE]",
        ),
        (_INTERACTION_CHARGE,),
        EVENTS,
        created=("v1_abc",),
    ),
    Exchange(
        "in OpenAI's format",
        "/v1beta/openai/chat/completions",
        b'{"model":"models/gemini-2.5-flash","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20}',
        b'{"id":"1","model":"gemini-2.5-flash","choices":[{"message":{"content":"Hello."}}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":18,"completion_tokens_details":{"reasoning_tokens":5}}}',
        (Charge(MODEL, Units(input=9, output=9, reasoning=5, requests=1)),),
    ),
)

_BATCHES = tuple(
    Exchange(
        f"batch: {method}",
        f"/v1beta/models/{MODEL}:{method}",
        b'{"batch":{"displayName":"d","inputConfig":{"fileName":"files/f1"}}}',
        b'{"name":"batches/b1","metadata":{"state":"BATCH_STATE_PENDING","output":{},"name":"batches/b1"}}',
        (),
        created=("batches/b1",),
        objects=("files/f1",),
    )
    for method in ("batchGenerateContent", "asyncBatchEmbedContent")
)
SAMPLES = (
    Samples(
        GOOGLE,
        OPEN,
        sockets=("/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",),
        provider="gemini",
        exchanges=(*EXCHANGES, *_BATCHES),
        malformed=(
            b"",
            b"[]",
            b'{"contents":[],"contents":[]}',
            b'{"contents":[],"Contents":[]}',
            b'{"generationConfig":{},"generation_config":{}}',
            b'{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":2}}',
            b'{"generationConfig":{"maxOutputTokens":"100"}}',
            b'{"generationConfig":{"maxoutputtokens":1}}',
            b'{"contents":[{"parts":[{"fileData":{"fileUri":"files/a","file_uri":"files/b"}}]}]}',
            b'{"contents":"a","model":"models/gemini-2.5-pro"}',
        ),
        verdicts=(
            (400, b'{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}', "refused"),
            (400, b'[{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}]', "refused"),
            (429, b'{"error":{"message":"Your prepayment credits are depleted."}}', "no_money"),
            (402, b"", "no_money"),
            (429, b'{"error":{"message":"slow down"}}', None),
        ),
    ),
)
