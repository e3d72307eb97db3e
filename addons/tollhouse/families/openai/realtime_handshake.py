"""The handshake of a Realtime session. Its query names the model, or what the session is for."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_plus

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.openai.body_fields import MAX_MODEL

_MODEL_NAMES: Final = ("model", "deployment")
SOUND: Final = frozenset({"input_audio", "output_audio", "cached_audio"})


def read(request: Request, dialect: Dialect) -> Asked:
    """Azure's query may name a deployment."""
    models, intents = [], []
    for part in request.query.split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name).lower()
        if name in _MODEL_NAMES:
            models.append(unquote_plus(value))
        elif name == "call_id":
            refuse("A call that was begun in another way has no model and no budget here.")
        elif name == "intent":
            intents.append(unquote_plus(value))
    if len(intents) > 1:
        refuse('The query names more than one "intent".')
    if intents == ["transcription"] and not models:
        # A message names the model that writes down what is heard.
        return Asked(stream=True, writes=False, reasons=False, kind=request.operation.kind)
    if len(models) != 1 or not 0 < len(models[0]) <= MAX_MODEL or not models[0].isprintable():
        refuse('The query must name one model, as "model=".')
    return Asked(models[0], stream=True, reasons=False, may=SOUND, kind=request.operation.kind)
