"""Claude at Vertex: Anthropic's messages, whose model stands in the path.

https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude. The body has
``anthropic_version`` and no model, and the answer is Anthropic's own.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.anthropic import estimate, meter, objects, rewrite
from tollhouse.families.anthropic import request as anthropic
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.google.request import model_of


def read(request: Request, dialect: Dialect) -> Asked:
    """The body has to say whether it streams as the path does."""
    asked = anthropic.read(request, dialect, model_of(request.path))
    if asked.stream != request.path.endswith(":streamRawPredict"):
        refuse('The body\'s "stream" is not what the path says.')
    return asked


KIND: Final = Kind(read, estimate.estimate, meter.meter, rewrite.rewrite)
COUNT_KIND: Final = Kind(anthropic.count, objects.estimate, objects.meter)
