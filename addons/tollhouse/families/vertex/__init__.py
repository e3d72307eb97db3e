"""Google's API, as Vertex AI speaks it: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest.

Vertex has no code for an empty account.

routes        the endpoints
claude        Claude
mistral_chat  Mistral's models
"""

from dataclasses import replace
from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.anthropic import errors as anthropic
from tollhouse.families.asked import Asked
from tollhouse.families.formats.kinds import Kind, Kinds
from tollhouse.families.google import GOOGLE, OF_MODELS, errors, live, predictions
from tollhouse.families.vertex import claude, mistral_chat
from tollhouse.families.vertex.routes import ROUTES

KINDS: Final = Kinds(
    {
        **OF_MODELS,
        "live": Kind(live.read, live.estimate, live.unread),
        "predict_vectors": Kind(
            predictions.read_vectors, predictions.estimate_vectors, predictions.vector_meter
        ),
        "mistral": mistral_chat.KIND,
        "claude": claude.KIND,
        "count_tokens": claude.COUNT_KIND,
    }
)


def stream_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """Claude's client reads Anthropic's event."""
    if asked.kind == "claude":
        return anthropic.error_event(denial, call_id)
    return errors.stream_error(denial, call_id, asked)


VERTEX: Final = replace(
    GOOGLE,
    routes=ROUTES,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
    stream_error=stream_error,
)
