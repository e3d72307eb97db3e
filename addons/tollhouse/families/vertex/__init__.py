"""Google's API, as Vertex AI speaks it: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest.

Vertex has no code for an empty account.

routes        the endpoints
mistral_chat  Mistral's models
"""

from dataclasses import replace
from typing import Final

from tollhouse.families.formats.kinds import Kind, Kinds
from tollhouse.families.google import GOOGLE, OF_MODELS, predictions
from tollhouse.families.vertex import mistral_chat
from tollhouse.families.vertex.routes import ROUTES

KINDS: Final = Kinds(
    {
        **OF_MODELS,
        "predict_vectors": Kind(
            predictions.read_vectors, predictions.estimate_vectors, predictions.vector_meter
        ),
        "mistral": mistral_chat.KIND,
    }
)

VERTEX: Final = replace(
    GOOGLE,
    routes=ROUTES,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
)
