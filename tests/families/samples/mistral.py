"""Mistral's samples, built with the types of its SDK."""

from __future__ import annotations

import json
from typing import Any

from mistralai.client import models
from tests.families.samples.kit import EVENTS, Exchange, Samples, sse

from tollhouse.families.mistral import MISTRAL
from tollhouse.families.units import Charge, Units

_MODEL = "mistral-small-2603"
_CHAT = "/v1/chat/completions"
_ASKED = b'{"model":"mistral-small-latest","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20'
_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 2},
    "service_tier": "standard",
}
_COUNTED = Charge(_MODEL, Units(input=9, output=4, cached=2, requests=1), "standard")


def whole(content: str = "Hello.", usage: dict[str, Any] | None = None) -> bytes:
    document = models.ChatCompletionResponse.model_validate(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": _MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": usage or _USAGE,
        }
    )
    return document.model_dump_json(by_alias=True).encode()


def chunk(content: str, finish: str | None = None, usage: dict[str, Any] | None = None) -> str:
    fields: dict[str, Any] = {
        "id": "1",
        "model": _MODEL,
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}],
    }
    if usage is not None:
        fields["usage"] = usage
    return models.CompletionChunk.model_validate(fields).model_dump_json(exclude_unset=True)


def named(*events: dict[str, Any]) -> bytes:
    """Events of a conversation."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


_STARTED = {"type": "conversation.response.started", "conversation_id": "conv_1"}
_SAID = {"type": "message.output.delta", "id": "m", "content": "Hello.", "model": _MODEL}
_CONVERSATION_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 20,
    "connector_tokens": 7,
    "connectors": {"web_search": 2, "my_own_server": 5},
}
_DONE = {"type": "conversation.response.done", "usage": _CONVERSATION_USAGE}
_OF_CONVERSATION = (
    Charge(_MODEL, Units(input=16, output=4, requests=1)),
    Charge("web_search", Units(requests=2)),
)
_TALK = b'{"model":"mistral-small-latest","inputs":"Say hello.","tools":[{"type":"web_search"}],"completion_args":{"max_tokens":20}'
_CONVERSATION = models.ConversationResponse.model_validate(
    {
        "conversation_id": "conv_1",
        "outputs": [
            {"type": "message.output", "role": "assistant", "content": "Hello.", "model": _MODEL}
        ],
        "usage": _CONVERSATION_USAGE,
    }
)

FORM = (("content-type", "multipart/form-data; boundary=b"),)
_HEARD = {
    "model": "voxtral-mini-2602",
    "text": "Hello.",
    "language": "en",
    "usage": {
        "prompt_audio_seconds": 3,
        "prompt_tokens": 4,
        "completion_tokens": 6,
        "total_tokens": 40,
    },
}
_OF_SOUND = (Charge("voxtral-mini-2602", Units(milliseconds=3_000, requests=1)),)


def form(**fields: bytes) -> bytes:
    """A multipart body; the field ``file`` is a file."""
    parts = b""
    for name, value in fields.items():
        file = b'; filename="a.mp3"' if name == "file" else b""
        head = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
        parts += head % (name.encode(), file) + value + b"\r\n"
    return parts + b"--b--\r\n"


_OPEN = (
    ("POST", _CHAT),
    ("POST", "/v1/fim/completions"),
    ("POST", "/v1/agents/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/chat/moderations"),
    ("POST", "/v1/classifications"),
    ("POST", "/v1/chat/classifications"),
    ("POST", "/v1/ocr"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/conversations"),
    ("POST", "/v1/conversations/conv_1"),
    ("POST", "/v1/conversations/conv_1/restart"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/conversations/conv_1"),
    ("GET", "/v1/conversations/conv_1/history"),
    ("GET", "/v1/conversations/conv_1/messages"),
    ("DELETE", "/v1/conversations/conv_1"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/f-1"),
    ("GET", "/v1/files/f-1/content"),
    ("DELETE", "/v1/files/f-1"),
    ("POST", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs/j-1"),
    ("POST", "/v1/batch/jobs/j-1/cancel"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/libraries/l-1/documents"),
    ("POST", "/v1/client/sessions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/mistral-small-latest"),
)

SAMPLES = (
    Samples(
        MISTRAL,
        _OPEN,
        provider="mistral",
        exchanges=(
            Exchange("chat", _CHAT, _ASKED + b"}", whole(), (_COUNTED,)),
            Exchange("no usage", _CHAT, _ASKED + b"}", b'{"model":"m","usage":null}', ()),
            Exchange(
                "stream",
                _CHAT,
                _ASKED + b',"stream":true}',
                sse(chunk("Hel"), chunk("lo.", "stop", _USAGE), "[DONE]"),
                (_COUNTED,),
                EVENTS,
                text=len(sse(chunk("Hel"))),
            ),
            Exchange(
                "an error in a stream",
                _CHAT,
                _ASKED + b',"stream":true}',
                sse(
                    chunk("Hel"), '{"object":"error","message":"m","type":"internal","code":"3000"}'
                ),
                (),
                EVENTS,
                text=len(sse(chunk("Hel"))),
                error="3000",
            ),
            Exchange(
                "fim",
                "/v1/fim/completions",
                b'{"model":"codestral-2508","prompt":"def f(","suffix":"return","max_tokens":20}',
                whole(),
                (_COUNTED,),
            ),
            Exchange(
                "an agent",
                "/v1/agents/completions",
                b'{"agent_id":"ag_1","messages":[{"role":"user","content":[{"type":"file","file_id":"f-1"}]}],"max_tokens":20}',
                whole(),
                (_COUNTED,),
                objects=("ag_1", "f-1"),
            ),
            Exchange(
                "embeddings",
                "/v1/embeddings",
                b'{"model":"mistral-embed","input":["Say hello."]}',
                models.EmbeddingResponse.model_validate(
                    {
                        "id": "1",
                        "object": "list",
                        "model": "mistral-embed",
                        "usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0},
                        "data": [{"object": "embedding", "embedding": [0.5], "index": 0}],
                    }
                )
                .model_dump_json()
                .encode(),
                (Charge("mistral-embed", Units(input=4, requests=1)),),
            ),
            Exchange(
                "a moderation",
                "/v1/chat/moderations",
                b'{"model":"mistral-moderation-2411","input":[{"role":"user","content":"Say hello."}]}',
                b'{"id":"1","model":"mistral-moderation-2411","results":[],"usage":{"prompt_tokens":9,"total_tokens":9}}',
                (Charge("mistral-moderation-2411", Units(input=9, requests=1)),),
            ),
            Exchange(
                "ocr",
                "/v1/ocr",
                b'{"model":"mistral-ocr-latest","document":{"type":"file","file_id":"f-1"},"pages":"0-2,7"}',
                models.OCRResponse.model_validate(
                    {
                        "pages": [],
                        "model": "mistral-ocr-4-1",
                        "usage_info": {"pages_processed": 3, "doc_size_bytes": 9},
                    }
                )
                .model_dump_json()
                .encode(),
                (Charge("mistral-ocr-4-1", Units(pages=3, requests=1)),),
                objects=("f-1",),
            ),
            Exchange(
                "annotated pages",
                "/v1/ocr",
                b'{"model":"m","document":{"type":"document_url","document_url":"https://a.b/c"},"bbox_annotation_format":{}}',
                b'{"pages":[],"model":"m","usage_info":{"pages_processed":30}}',
                (Charge("m", Units(pages=30, requests=1), "annotated"),),
            ),
            Exchange(
                "speech",
                "/v1/audio/speech",
                '{"model":"voxtral-tts","input":"Même les poètes","voice_id":"v-1"}'.encode(),
                b'{"audio_data":"UklGRg=="}',
                (Charge("", Units(characters=15, requests=1)),),
                objects=("v-1",),
            ),
            Exchange(
                "a conversation",
                "/v1/conversations",
                _TALK + b"}",
                _CONVERSATION.model_dump_json().encode(),
                _OF_CONVERSATION,
                created=("conv_1",),
            ),
            Exchange(
                "a streamed conversation",
                "/v1/conversations",
                _TALK + b',"stream":true}',
                named(_STARTED, _SAID, _DONE),
                _OF_CONVERSATION,
                EVENTS,
                text=len(named(_STARTED, _SAID)),
                created=("conv_1",),
            ),
            Exchange(
                "agents that hand over",
                "/v1/conversations/conv_1",
                b'{"inputs":"Say hello.","stream":true,"completion_args":{"max_tokens":20}}',
                named(
                    _STARTED,
                    _SAID,
                    {**_SAID, "model": "mistral-large-2512"},
                    {
                        "type": "conversation.response.done",
                        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
                    },
                ),
                (Charge("", Units(input=9, output=4, requests=1)),),
                EVENTS,
                text=len(named(_STARTED, _SAID)),
                created=("conv_1",),
            ),
            Exchange(
                "a conversation that fails",
                "/v1/conversations/conv_1/restart",
                b'{"from_entry_id":"e","inputs":"Say hello.","stream":true}',
                named(
                    {**_STARTED, "conversation_id": "conv_2"},
                    {"type": "conversation.response.error", "message": "m", "code": 500},
                ),
                (),
                EVENTS,
                error="500",
                created=("conv_2",),
            ),
            Exchange(
                "a transcription",
                "/v1/audio/transcriptions",
                form(model=b"voxtral-mini-latest", file=b"x" * 2_500),
                models.TranscriptionResponse.model_validate(_HEARD).model_dump_json().encode(),
                _OF_SOUND,
                sent=FORM,
            ),
            Exchange(
                "a streamed transcription",
                "/v1/audio/transcriptions",
                form(model=b"voxtral-mini-latest", file_id=b"f-1", stream=b"true"),
                named(
                    {"type": "transcription.text.delta", "text": "Hello."},
                    {"type": "transcription.done", **_HEARD},
                ),
                _OF_SOUND,
                EVENTS,
                text=len(named({"type": "transcription.text.delta", "text": "Hello."})),
                sent=FORM,
                objects=("f-1",),
            ),
            Exchange(
                "an upload",
                "/v1/files",
                b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nocr\r\n--b--\r\n',
                b'{"id":"f-1","object":"file"}',
                (),
                sent=(("content-type", "multipart/form-data; boundary=b"),),
                created=("f-1",),
            ),
            Exchange(
                "batch",
                "/v1/batch/jobs",
                b'{"endpoint":"/v1/chat/completions","model":"m","input_files":["f-1"]}',
                models.BatchJob.model_validate(
                    {
                        "id": "j-1",
                        "input_files": ["f-1"],
                        "errors": [],
                        "status": "QUEUED",
                        "endpoint": "/v1/chat/completions",
                        "created_at": 1,
                        "total_requests": 2,
                        "completed_requests": 0,
                        "succeeded_requests": 0,
                        "failed_requests": 0,
                    }
                )
                .model_dump_json()
                .encode(),
                (),
                created=("j-1",),
                objects=("f-1",),
            ),
        ),
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"messages":[]}',
            b'{"model":"m","max_tokens":"7"}',
            b'{"model":"m","n":true}',
            b'{"model":"m","stream":1}',
            b'{"model":"m","tools":{}}',
            b'{"model":"m","top_p":NaN}',
        ),
        verdicts=(
            (402, b"", "no_money"),
            (401, b'{"detail":"Unauthorized"}', "refused"),
            (401, b'{"message":"Unauthorized","request_id":"r"}', "refused"),
            (
                429,
                b'{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}',
                None,
            ),
            (
                429,
                b'{"object":"error","message":"Service tier capacity exceeded","type":"invalid_request_error"}',
                None,
            ),
            (
                422,
                b'{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}}',
                None,
            ),
        ),
    ),
)
