"""Mistral's models at Vertex: chats in OpenAI's format, whose model stands in the path.

https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/mistral. A stream tells its
usage without being asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.google.request import model_of
from tollhouse.families.openai import estimate, meter, rewrite
from tollhouse.families.openai import request as openai
from tollhouse.families.operation import Operation

_CHAT: Final = Operation("chat", "metered", reads_body=True)


def read(request: Request, dialect: Dialect) -> Asked:
    """The body names the model again, and has to say whether it streams as the path does."""
    asked = openai.read(
        request._replace(operation=_CHAT), replace(dialect, usage_in_stream="always")
    )
    streams = request.path.endswith(":streamRawPredict")
    if asked.stream != streams:
        refuse('The body\'s "stream" is not what the path says.')
    return asked._replace(model=model_of(request.path), kind=request.operation.kind)


KIND: Final = Kind(read, estimate.estimate, meter.meter, rewrite.rewrite)
