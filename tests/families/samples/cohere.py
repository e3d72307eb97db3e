"""Cohere's samples, built with the types of its SDK."""

from __future__ import annotations

import json
from typing import Any

import cohere
from cohere.batches import Batch, CreateBatchResponse
from cohere.types import ApiMeta, CreateEmbedJobResponse
from tests.families.samples.kit import EVENTS, JSON, Exchange, Samples, sse

from tollhouse.families.cohere import COHERE
from tollhouse.families.units import Charge, Units

LINES = (("content-type", "application/stream+json"),)
_CHAT, _V1 = "/v2/chat", "/v1/chat"
_ASKED = b'{"model":"command-a-03-2025","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20'
_ASKED_V1 = b'{"model":"command-r","message":"Say hello.","max_tokens":20'
_BILLED = {"input_tokens": 8.2, "output_tokens": 4.0}
_TOKENS = {"input_tokens": 509.0, "output_tokens": 6.0}
_USAGE = {"billed_units": _BILLED, "tokens": _TOKENS, "cached_tokens": 3.0}
_COUNTED = (Charge("", Units(input=9, output=4, cached=3, requests=1)),)
_UNCACHED = (Charge("", Units(input=9, output=4, requests=1)),)
_META = {"api_version": {"version": "1"}, "billed_units": _BILLED, "tokens": _TOKENS}


def whole(text: str = "Hello.", usage: dict[str, Any] | None = None, **message: Any) -> bytes:
    document = cohere.V2ChatResponse.model_validate(
        {
            "id": "c-1",
            "finish_reason": "COMPLETE",
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": text}],
                **message,
            },
            "usage": usage or _USAGE,
        }
    )
    return document.model_dump_json(exclude_none=True).encode()


def event(document: dict[str, Any]) -> bytes:
    return f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


def said(text: str) -> bytes:
    delta = {"message": {"content": {"text": text}}}
    return event({"type": "content-delta", "index": 0, "delta": delta})


def end(**delta: Any) -> bytes:
    return event({"type": "message-end", "id": "c-1", "delta": delta})


def line(**document: Any) -> bytes:
    return json.dumps({"is_finished": "response" in document, **document}).encode() + b"\n"


START = event({"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant"}}})
_LINE = line(event_type="text-generation", text="Hello.")
_LAST = line(
    event_type="stream-end",
    finish_reason="COMPLETE",
    response={"text": "Hello.", "generation_id": "g", "meta": _META},
)
_EMBEDDED = b'{"id":"1","embeddings":{"float":[[0.5]]},"meta":{"billed_units":%s}}'

_OPEN = (
    ("POST", _CHAT),
    ("POST", _V1),
    ("POST", "/v1/generate"),
    ("POST", "/v1/summarize"),
    ("POST", "/v2/embed"),
    ("POST", "/v1/embed"),
    ("POST", "/v2/rerank"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/classify"),
    ("POST", "/v2/parse"),
    ("POST", "/compatibility/v1/chat/completions"),
    ("POST", "/compatibility/v1/embeddings"),
    ("POST", "/v1/tokenize"),
    ("POST", "/v1/detokenize"),
    ("POST", "/v1/datasets"),
    ("GET", "/v1/datasets"),
    ("GET", "/v1/datasets/d-1"),
    ("DELETE", "/v1/datasets/d-1"),
    ("POST", "/v1/connectors"),
    ("PATCH", "/v1/connectors/c-1"),
    ("GET", "/v1/connectors"),
    ("GET", "/v1/connectors/c-1"),
    ("DELETE", "/v1/connectors/c-1"),
    ("POST", "/v1/embed-jobs"),
    ("GET", "/v1/embed-jobs"),
    ("GET", "/v1/embed-jobs/j-1"),
    ("POST", "/v1/embed-jobs/j-1/cancel"),
    ("POST", "/v2/batches"),
    ("GET", "/v2/batches"),
    ("GET", "/v2/batches/b-1"),
    ("POST", "/v2/batches/b-1:cancel"),
    ("POST", "/v1/finetuning/finetuned-models"),
    ("GET", "/v1/finetuning/finetuned-models"),
    ("GET", "/v1/finetuning/finetuned-models/f-1"),
    ("GET", "/v1/finetuning/finetuned-models/f-1/events"),
    ("GET", "/v1/finetuning/finetuned-models/f-1/training-step-metrics"),
    ("DELETE", "/v1/finetuning/finetuned-models/f-1"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/command-r"),
)

_OF_V2 = (
    Exchange("chat", _CHAT, _ASKED + b"}", whole(), _COUNTED),
    Exchange("no usage", _CHAT, _ASKED + b"}", b'{"id":"c","usage":{"billed_units":null}}', ()),
    Exchange("an error", _CHAT, _ASKED + b"}", b'{"message":"m","id":"i"}', (), error="error"),
    Exchange(
        "stream",
        _CHAT,
        _ASKED + b',"stream":true,"thinking":{"type":"enabled","token_budget":9}}',
        START + said("Hel") + said("lo.") + end(finish_reason="COMPLETE", usage=_USAGE),
        _COUNTED,
        EVENTS,
        text=len(START + said("Hel")),
    ),
    Exchange(
        "an error at the end of a stream",
        _CHAT,
        _ASKED + b',"stream":true}',
        START + said("Hel") + end(finish_reason="ERROR", error="internal"),
        (),
        EVENTS,
        text=len(START + said("Hel")),
        error="ERROR",
    ),
    Exchange(
        "embeddings",
        "/v2/embed",
        b'{"model":"embed-v4.0","input_type":"classification","texts":["Say hello."]}',
        _EMBEDDED % b'{"input_tokens":3.0}',
        (Charge("", Units(input=3, requests=1)),),
    ),
    Exchange(
        "embeddings of images by tokens",
        "/v2/embed",
        b'{"model":"embed-v4.0","inputs":[{"content":[{"type":"text","text":"Say hello."},'
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}',
        _EMBEDDED % b'{"input_tokens":3,"image_tokens":250}',
        (Charge("", Units(input=253, input_image=250, requests=1)),),
    ),
    Exchange(
        "embeddings of images by number",
        "/v1/embed",
        b'{"model":"embed-english-v3.0","images":["data:image/png;base64,AA=="]}',
        _EMBEDDED % b'{"images":1}',
        (Charge("", Units(images=1, requests=1)),),
    ),
    Exchange(
        "rerank",
        "/v2/rerank",
        b'{"model":"rerank-v3.5","query":"Who pays?","documents":["a","b"]}',
        cohere.V2RerankResponse.model_validate(
            {
                "id": "r",
                "results": [{"index": 0, "relevance_score": 0.5}],
                "meta": {"billed_units": {"search_units": 1.0}},
            }
        )
        .model_dump_json(exclude_none=True)
        .encode(),
        (Charge("", Units(searches=1, requests=1)),),
    ),
    Exchange(
        "pages",
        "/v2/parse",
        b'{"model":"parse","document":{"type":"url","url":"https://a.b/c.pdf"}}',
        b'{"id":"p","pages":[],"meta":{"billed_units":{"pages":12}}}',
        (Charge("", Units(pages=12, requests=1)),),
    ),
)
_OF_V1 = (
    Exchange(
        "chat of v1",
        _V1,
        _ASKED_V1 + b"}",
        json.dumps({"text": "Hello.", "generation_id": "g", "meta": _META}).encode(),
        _UNCACHED,
    ),
    Exchange(
        "lines",
        _V1,
        _ASKED_V1 + b',"stream":true}',
        line(event_type="stream-start", generation_id="g") + _LINE + _LAST,
        _UNCACHED,
        LINES,
        text=len(line(event_type="stream-start", generation_id="g") + _LINE),
    ),
    Exchange(
        "events of v1",
        _V1,
        _ASKED_V1 + b',"stream":true}',
        sse(_LINE.decode().strip(), _LAST.decode().strip()),
        _UNCACHED,
        EVENTS,
        text=len(sse(_LINE.decode().strip())),
        sent=(*JSON, ("accept", "text/event-stream")),
    ),
    Exchange(
        "an error at the end of lines",
        _V1,
        _ASKED_V1 + b',"stream":true}',
        _LINE + line(event_type="stream-end", finish_reason="ERROR_LIMIT", response={"text": ""}),
        (),
        LINES,
        text=len(_LINE),
        error="ERROR_LIMIT",
    ),
    Exchange(
        "several generations",
        "/v1/generate",
        b'{"model":"command","prompt":"Say hello.","num_generations":2,"max_tokens":20}',
        json.dumps({"id": "g", "generations": [], "meta": _META}).encode(),
        _UNCACHED,
    ),
    Exchange(
        "a summary",
        "/v1/summarize",
        b'{"model":"command","text":"Say hello."}',
        json.dumps({"id": "s", "summary": "Hello.", "meta": _META}).encode(),
        _UNCACHED,
    ),
    Exchange(
        "classification",
        "/v1/classify",
        b'{"model":"m","inputs":["a","b"],"examples":[]}',
        b'{"id":"c","classifications":[],"meta":{"billed_units":{"classifications":2}}}',
        (Charge("", Units(requests=2)),),
    ),
)
_OPENAI = b'{"model":"command-a-03-2025","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20'
_OTHERS = (
    Exchange(
        "in OpenAI's format",
        "/compatibility/v1/chat/completions",
        _OPENAI + b"}",
        b'{"model":"command-a-03-2025","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}',
        (Charge("command-a-03-2025", Units(input=9, output=4, requests=1)),),
    ),
    Exchange(
        "a stream in OpenAI's format",
        "/compatibility/v1/chat/completions",
        _OPENAI + b',"stream":true}',
        sse(
            '{"model":"m","choices":[{"index":0,"delta":{"content":"Hello."}}]}',
            '{"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}',
            "[DONE]",
        ),
        (Charge("m", Units(input=9, output=4, requests=1)),),
        EVENTS,
        text=len(sse('{"model":"m","choices":[{"index":0,"delta":{"content":"Hello."}}]}')),
    ),
    Exchange(
        "embeddings in OpenAI's format",
        "/compatibility/v1/embeddings",
        b'{"model":"embed-v4.0","input":"Say hello."}',
        b'{"data":[],"model":"embed-v4.0","usage":{"prompt_tokens":3}}',
        (Charge("embed-v4.0", Units(input=3, requests=1)),),
    ),
    Exchange("tokens", "/v1/tokenize", b'{"text":"a","model":"m"}', b'{"tokens":[1]}', ()),
    Exchange(
        "a dataset",
        "/v1/datasets",
        b"--b\r\n\r\n--b--\r\n",
        b'{"id":"d-1"}',
        (),
        query="name=a&type=embed-input",
        sent=(("content-type", "multipart/form-data; boundary=b"),),
        created=("d-1",),
    ),
    Exchange(
        "a connector",
        "/v1/connectors",
        b'{"name":"a","url":"https://a.b"}',
        b'{"connector":{"id":"c-1","name":"a"}}',
        (),
        created=("c-1",),
    ),
)

_JOBS = (
    Exchange(
        "embed job",
        "/v1/embed-jobs",
        b'{"model":"embed-english-v3.0","dataset_id":"d-1","input_type":"search_document"}',
        CreateEmbedJobResponse(job_id="e-1", meta=ApiMeta()).json().encode(),
        (),
        created=("e-1",),
        objects=("d-1",),
    ),
    Exchange(
        "batch",
        "/v2/batches",
        b'{"name":"n","model":"command-a-03-2025","input_dataset_id":"d-1"}',
        CreateBatchResponse(
            batch=Batch(
                id="b-1",
                name="n",
                status="BATCH_STATUS_QUEUED",
                input_dataset_id="d-1",
                model="command-a-03-2025",
            )
        )
        .json()
        .encode(),
        (),
        created=("b-1",),
        objects=("d-1",),
    ),
)

SAMPLES = (
    Samples(
        COHERE,
        _OPEN,
        provider="cohere",
        exchanges=(*_OF_V2, *_OF_V1, *_OTHERS, *_JOBS),
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"messages":[]}',
            b'{"model":"m","max_tokens":"7"}',
            b'{"model":"m","max_tokens":7.5}',
            b'{"model":"m","stream":"true"}',
            b'{"model":"m","thinking":{"token_budget":-1}}',
            b'{"model":"m","thinking":{"Token_budget":1}}',
            b'{"model":"m","p":NaN}',
        ),
        verdicts=(
            (498, b'{"message":"invalid token","id":"i"}', "refused"),
            (401, b'{"message":"invalid api token","id":"i"}', "refused"),
            (402, b'{"message":"Please add or update your payment method","id":"i"}', "no_money"),
            (403, b'{"message":"forbidden"}', None),
            (429, b'{"message":"You are past the per minute request limit"}', None),
            (499, b'{"message":"request cancelled"}', None),
        ),
    ),
)
