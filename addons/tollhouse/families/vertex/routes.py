"""Which endpoints of Vertex AI are open, and what each is.

https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest. The caller is free to choose
the project and the place in the path. Google charges the project in the path, and takes only one in
which the gateway's credential may use Vertex. So the rights of that credential say who can pay.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.google.routes import (
    CACHE,
    COMPAT_CHAT,
    COUNT,
    EMBED,
    IMAGES,
    JOB,
    LIVE,
    generates,
    interactions,
    kept,
    route,
)
from tollhouse.families.operation import MODELS, Operation

VECTORS: Final = Operation("predict_vectors", "metered", reads_body=True)
CLAUDE: Final = Operation("claude", "metered", reads_body=True)
CLAUDE_COUNT: Final = Operation("count_tokens", "free", reads_body=True, creates=False)
MISTRAL: Final = Operation("mistral", "metered", reads_body=True)
_V: Final = r"/v1(?:beta1)?"
_NAME: Final = r"(?:[A-Za-z0-9._@-]|%40)+"
_ID: Final = r"[A-Za-z0-9._~-]+"
_IN: Final = r"/projects/[A-Za-z0-9._:-]+/locations/[a-z0-9-]+"
_PLACE: Final = _V + _IN
_WHERE: Final = rf"{_V}(?:{_IN})?"
"""Without a project in express mode: https://cloud.google.com/vertex-ai/generative-ai/docs/start/express-mode/overview."""
_GOOGLES: Final = rf"{_WHERE}/publishers/google/models"
_CLAUDES: Final = rf"{_PLACE}/publishers/anthropic/models"
_TUNED: Final = rf"{_PLACE}/endpoints/{_ID}"
"""The model of an endpoint of one's own is not in the request. Its name is ``endpoints/ID``."""
_OPERATION: Final = Operation("operation", "free")
_FETCH: Final = Operation("operation", "free", reads_body=True, creates=False)

ROUTES: Final = (
    *generates(rf"{_GOOGLES}/{_NAME}"),
    *generates(_TUNED),
    route("POST", rf"{_GOOGLES}/{_NAME}:embedContent", EMBED),
    route("POST", rf"{_GOOGLES}/{_NAME}:(?:countTokens|computeTokens)", COUNT),
    route("POST", rf"{_GOOGLES}/(?:imagen-|imagegeneration){_NAME}:predict", IMAGES),
    route(
        "POST",
        rf"{_GOOGLES}/(?:(?:text|gemini)-(?:multilingual-)?embedding-){_NAME}:predict",
        VECTORS,
    ),
    route("POST", rf"{_GOOGLES}/{_NAME}:predictLongRunning", JOB),
    route("POST", rf"{_GOOGLES}/{_NAME}:fetchPredictOperation", _FETCH),
    route(
        "GET",
        rf"{_PLACE}/(?P<object>(?:publishers/google/models/{_NAME}/|tuningJobs/{_ID}/)?operations/{_ID})",
        _OPERATION,
    ),
    # `publishers.models.list` is in v1beta1 alone: aiplatform_v1beta1.publishers.models of google-api-python-client.
    route("GET", r"/v1beta1/publishers/google/models", MODELS),
    route("GET", rf"{_V}/publishers/[a-z0-9-]+/models/{_NAME}", MODELS),
    # google-genai `live.py`. A message names the project, the place and the model.
    route(
        "GET",
        r"/ws/google\.cloud\.aiplatform\.v1(?:beta1)?\.LlmBidiService/BidiGenerateContent",
        LIVE,
    ),
    # https://cloud.google.com/vertex-ai/generative-ai/docs/start/openai
    route("POST", rf"{_PLACE}/endpoints/openapi/chat/completions", COMPAT_CHAT),
    # https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/count-tokens
    route("POST", rf"{_CLAUDES}/count-tokens:rawPredict", CLAUDE_COUNT),
    route("POST", rf"{_CLAUDES}/claude-{_NAME}:(?:rawPredict|streamRawPredict)", CLAUDE),
    # https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/mistral
    route(
        "POST",
        rf"{_PLACE}/publishers/mistralai/models/{_NAME}:(?:rawPredict|streamRawPredict)",
        MISTRAL,
    ),
    route("POST", rf"{_PLACE}/cachedContents", CACHE),
    *kept(_PLACE, "cachedContents", "caches"),
    route("POST", rf"{_PLACE}/(?:batchPredictionJobs|tuningJobs)", JOB),
    *kept(_PLACE, "batchPredictionJobs", "batches"),
    *kept(_PLACE, "tuningJobs", "tuning"),
    *interactions(_PLACE),
)
