"""Google's API, as the Gemini API speaks it: https://ai.google.dev/api.

routes        the endpoints
request       the body of a request to a model, read strictly
spelled       the members of a request's objects, in either spelling
contents      what its contents and tools hold
inline_media  tokens of images, sound, video and documents
kept_names    names of objects that Google keeps
models        what a model's name says
estimate      the tokens that a request will take
rewrite       a lowered cap
interactions  the body of an interaction
predictions   images, and vectors of older models
caches        explicit caches
compat        the same API in OpenAI's format
free          requests that cost nothing
meter         usage in an answer, as it streams by
told          what the members of an answer mean
interacted    the same of an interaction, whose usage may come later
live          a session over a WebSocket
batch_operations  batches, and the lines of their output
usage         counts and searches in the one normal form
errors        our errors, and what theirs say of a key
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollhouse.families.base import Family
from tollhouse.families.formats.kinds import Kind, Kinds
from tollhouse.families.google import (
    batch_operations,
    caches,
    compat,
    errors,
    estimate,
    free,
    interactions,
    live,
    meter,
    predictions,
    request,
    rewrite,
)
from tollhouse.families.google.routes import ROUTES

_GENERATE: Final = Kind(
    request.read_generate, estimate.estimate, meter.generate_meter, rewrite.rewrite
)
_SMALL: Final = Kind(free.read_json, free.nothing, meter.made_meter)
OF_MODELS: Final = {
    "generate": _GENERATE,
    "stream": _GENERATE,
    "embed": Kind(request.read_embed, estimate.estimate, meter.embed_meter),
    "count": Kind(request.read_count, free.nothing, meter.made_meter),
    "predict_images": Kind(
        predictions.read_images, predictions.estimate_images, predictions.ImageMeter
    ),
    "cache": Kind(caches.read_new, caches.estimate_new, meter.cache_meter),
    "chat": compat.KIND,
    "embeddings": compat.KIND,
    "job": Kind(free.read_job, free.nothing, meter.made_meter),
    "interaction": Kind(
        interactions.read, estimate.estimate, meter.interaction_meter, rewrite.rewrite_interaction
    ),
    "interactions": _SMALL,
    "operation": _SMALL,
}
"""What Vertex has as well."""
_UPLOAD: Final = Kind(
    free.read_upload, free.nothing, meter.made_meter, sent_headers=free.unchanged_headers
)
KINDS: Final = Kinds(
    {
        **OF_MODELS,
        "upload": _UPLOAD,
        "job_upload": _UPLOAD,
        "upload_part": replace(_UPLOAD, read=free.read_upload_part),
        "batch": Kind(batch_operations.read, free.nothing, batch_operations.meter),
        "batches": Kind(free.read_json, free.nothing, batch_operations.shown_meter),
        "store": _SMALL,
        "auth_token": _SMALL,
        "live": Kind(live.read, live.estimate, live.unread),
    }
)

GOOGLE: Final = Family(
    "google",
    routes=ROUTES,
    error_body=errors.error_body,
    error_event=errors.error_event,
    verdicts=errors.VERDICTS,
    retry_hint=errors.retry_hint,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
    late_meter=meter.late_meter,
    stream_error=errors.stream_error,
    dialogue=live.LiveDialogue,
)
