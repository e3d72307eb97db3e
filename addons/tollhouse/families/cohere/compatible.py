"""OpenAI's format at ``/compatibility/v1``: https://docs.cohere.com/docs/compatibility-api.

It refuses ``stream_options``, so that no stream is made to ask for its usage (`Dialect.usage_in_stream`):
https://strandsagents.com/docs/user-guide/concepts/model-providers/cohere/.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.jsonscan import places
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.openai import OPENAI
from tollhouse.families.openai.routes import CHAT, EMBEDDINGS
from tollhouse.families.units import Estimate

_AS: Final = {"compatible chat": CHAT, "compatible embeddings": EMBEDDINGS}


def _theirs(asked: Asked) -> Asked:
    return asked._replace(kind=_AS[asked.kind].kind)


def read(request: Request, dialect: Dialect) -> Asked:
    kind = request.operation.kind
    asked = OPENAI.read(request._replace(operation=_AS[kind]), dialect)
    return asked._replace(kind=kind)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return OPENAI.estimate(_theirs(asked), mode, limits, dialect)


def meter(asked: Asked, head: AnswerHead) -> Meter:
    return OPENAI.meter(_theirs(asked), head)


def rewrite(body: bytes, asked: Asked) -> bytes:
    """A cap that is not there gets the name that Cohere knows."""
    known = (place.key for place in places(body))
    if asked.lowered_to is None or "max_completion_tokens" in known:
        return OPENAI.rewrite(body, _theirs(asked))
    return lower_cap(body, asked.lowered_to, "max_tokens")


COMPATIBLE: Final = Kind(read, estimate, meter, rewrite)
