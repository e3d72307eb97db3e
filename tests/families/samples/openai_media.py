"""OpenAI's samples of images, sound, decisions and of what it keeps. The answers are those of its SDK's own types."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from openai.types import (
    Decision,
    FileObject,
    ImageEditCompletedEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImagesResponse,
    ModerationCreateResponse,
    VectorStore,
)
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)
from pydantic import BaseModel
from tests.families.samples.forms import FORM, form, wav
from tests.families.samples.kit import EVENTS, Exchange, Samples
from tests.families.samples.openai import SPEAKS_OPENAI
from tests.families.samples.openai_paths import MORE_OPEN

from tollhouse.families.asked import Dialect
from tollhouse.families.openai import OPENAI
from tollhouse.families.openai.routes_more import MORE_ROUTES
from tollhouse.families.units import Charge, Units


def said(kind: type[BaseModel], **fields: Any) -> bytes:
    """The JSON of one of the SDK's types, which judges the fields."""
    return kind.model_validate(fields).model_dump_json(exclude_unset=True).encode()


def named(*events: bytes) -> bytes:
    """Server-sent events under the names of their types."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (json.loads(event)["type"].encode(), event) for event in events
    )


_IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 272,
    "total_tokens": 322,
}
_IMAGE_UNITS = Units(input=50, input_image=40, output=272, output_image=272, requests=1)
_IMAGE_EVENT = {
    "b64_json": "aW1hZ2U=",
    "background": "opaque",
    "created_at": 1,
    "output_format": "png",
    "quality": "low",
    "size": "1024x1024",
}
_PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 40
_HEARD_TOKENS = {
    "type": "tokens",
    "input_tokens": 34,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 30},
    "output_tokens": 9,
    "total_tokens": 43,
}
_HEARD_UNITS = Units(input=34, input_audio=30, output=9, requests=1)
_WHISPERED = form(("file", wav(3.5), "a.wav"), ("model", b"whisper-1"))

EXCHANGES = (
    Exchange(
        "image",
        "/v1/images/generations",
        b'{"model":"gpt-image-1","prompt":"A tollhouse.","size":"1024x1024","quality":"low"}',
        said(ImagesResponse, created=1, data=[{"b64_json": "aW1hZ2U="}], usage=_IMAGE_USAGE),
        (Charge("", _IMAGE_UNITS),),
    ),
    Exchange(
        "image that is streamed",
        "/v1/images/generations",
        b'{"model":"gpt-image-1","prompt":"A tollhouse.","stream":true,"partial_images":1}',
        named(
            said(
                ImageGenPartialImageEvent,
                **_IMAGE_EVENT,
                partial_image_index=0,
                type="image_generation.partial_image",
            ),
            said(
                ImageGenCompletedEvent,
                **_IMAGE_EVENT,
                usage=_IMAGE_USAGE,
                type="image_generation.completed",
            ),
        ),
        (Charge("", _IMAGE_UNITS),),
        EVENTS,
    ),
    Exchange(
        "image that is edited",
        "/v1/images/edits",
        form(
            ("model", b"gpt-image-1"),
            ("prompt", b"A toll bar."),
            ("image[]", _PNG, "a.png"),
            ("stream", b"true"),
        ),
        named(
            said(
                ImageEditCompletedEvent,
                **_IMAGE_EVENT,
                usage=_IMAGE_USAGE,
                type="image_edit.completed",
            )
        ),
        (Charge("", _IMAGE_UNITS),),
        EVENTS,
        sent=FORM,
    ),
    Exchange(
        "image of a file that is kept",
        "/v1/images/edits",
        b'{"model":"gpt-image-1","prompt":"A bar.","images":[{"file_id":"file-7"}]}',
        said(ImagesResponse, created=1, data=[{"b64_json": "aW1hZ2U="}], usage=_IMAGE_USAGE),
        (Charge("", _IMAGE_UNITS),),
        objects=("file-7",),
    ),
    Exchange(
        "images by the piece",
        "/v1/images/variations",
        form(("model", b"dall-e-2"), ("image", _PNG, "a.png"), ("n", b"2")),
        said(ImagesResponse, created=1, data=[{"url": "https://a/1"}, {"url": "https://a/2"}]),
        (Charge("", Units(images=2, requests=1)),),
        sent=FORM,
    ),
    Exchange(
        "speech by characters",
        "/v1/audio/speech",
        '{"model":"tts-1","input":"Bis zwölf!","voice":"alloy"}'.encode(),
        b"\xff\xf3sound",
        (Charge("", Units(characters=10, requests=1)),),
        (("content-type", "audio/mpeg"),),
    ),
    Exchange(
        "speech by tokens, untold",
        "/v1/audio/speech",
        b'{"model":"gpt-4o-mini-tts","input":"Who pays?","voice":"alloy"}',
        b"\xff\xf3sound",
        (),
        (("content-type", "audio/mpeg"),),
    ),
    Exchange(
        "speech by tokens",
        "/v1/audio/speech",
        b'{"model":"gpt-4o-mini-tts","input":"Who pays at the toll?","voice":"alloy","stream_format":"sse"}',
        named(
            b'{"type":"speech.audio.delta","audio":"c291bmQ="}',
            b'{"type":"speech.audio.done","usage":'
            b'{"input_tokens":6,"output_tokens":31,"total_tokens":37}}',
        ),
        (Charge("", Units(input=6, output=31, requests=1)),),
        EVENTS,
    ),
    Exchange(
        "transcription by tokens",
        "/v1/audio/transcriptions",
        form(("file", wav(3), "a.wav"), ("model", b"gpt-4o-transcribe")),
        said(Transcription, text="The toll is paid.", usage=_HEARD_TOKENS),
        (Charge("", _HEARD_UNITS),),
        sent=FORM,
    ),
    Exchange(
        "transcription that is streamed",
        "/v1/audio/transcriptions",
        form(("file", wav(3), "a.wav"), ("model", b"gpt-4o-transcribe"), ("stream", b"true")),
        named(
            said(TranscriptionTextDeltaEvent, delta="The toll", type="transcript.text.delta"),
            said(
                TranscriptionTextDoneEvent,
                text="The toll is paid.",
                type="transcript.text.done",
                usage=_HEARD_TOKENS,
            ),
        ),
        (Charge("", _HEARD_UNITS),),
        EVENTS,
        sent=FORM,
    ),
    Exchange(
        "transcription by time",
        "/v1/audio/transcriptions",
        _WHISPERED,
        said(Transcription, text="Paid.", usage={"type": "duration", "seconds": 4}),
        (Charge("", Units(milliseconds=4_000, requests=1)),),
        sent=FORM,
    ),
    Exchange(
        "translation with a duration",
        "/v1/audio/translations",
        _WHISPERED,
        said(TranscriptionVerbose, duration=3.5, language="english", text="Paid."),
        (Charge("", Units(milliseconds=4_000, requests=1)),),
        sent=FORM,
    ),
    Exchange(
        "decision",
        "/v1/decisions",
        b'{"model":"gpt-6-luna","input":"Paid.","questions":[{"type":"predicate","question":"Is it paid?"}]}',
        said(
            Decision,
            answers=[{"type": "predicate", "probability": 0.9}],
            model="gpt-6-luna",
            usage={
                "input_tokens": 20,
                "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 25,
            },
        ),
        (Charge("gpt-6-luna", Units(input=20, cached=8, output=5, reasoning=2, requests=1)),),
    ),
    Exchange(
        "error",
        "/v1/images/generations",
        b'{"model":"dall-e-3","prompt":"A tollhouse."}',
        b'{"error":{"message":"m","type":"server_error","code":null}}',
        (),
        error="server_error",
    ),
    Exchange(
        "moderation",
        "/v1/moderations",
        b'{"model":"omni-moderation-latest","input":"Pay!"}',
        said(ModerationCreateResponse, id="modr-1", model="omni-moderation", results=[]),
        (),
    ),
    Exchange(
        "file",
        "/v1/files",
        form(("purpose", b"assistants"), ("file", b"a,b\r\n1,2", "a.csv")),
        said(
            FileObject,
            id="file-1",
            bytes=8,
            created_at=1,
            filename="a.csv",
            object="file",
            purpose="assistants",
            status="processed",
        ),
        (),
        sent=FORM,
        created=("file-1",),
    ),
    Exchange(
        "vector store",
        "/v1/vector_stores",
        b'{"name":"tolls","file_ids":["file-1","file-2"]}',
        said(
            VectorStore,
            id="vs_1",
            created_at=1,
            file_counts={
                "cancelled": 0,
                "completed": 0,
                "failed": 0,
                "in_progress": 2,
                "total": 2,
            },
            last_active_at=None,
            metadata=None,
            name="tolls",
            object="vector_store",
            status="in_progress",
            usage_bytes=0,
        ),
        (),
        created=("vs_1",),
        objects=("file-1", "file-2"),
    ),
    Exchange(
        "search",
        "/v1/vector_stores/vs_1/search",
        b'{"query":"Who pays?"}',
        b'{"object":"vector_store.search_results.page","data":[]}',
        (Charge("file_search", Units(requests=1)),),
    ),
)

SAMPLES = (
    Samples(
        replace(OPENAI, routes=MORE_ROUTES),
        MORE_OPEN,
        dialect=Dialect("on_request", own_rules=True),
        provider="openai",
        exchanges=EXCHANGES,
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"prompt":"p"}',
            b'{"model":"m","n":11}',
            b'{"model":"m","n":1.5}',
            b'{"model":"m","stream":"yes"}',
        ),
        **SPEAKS_OPENAI,
    ),
)
