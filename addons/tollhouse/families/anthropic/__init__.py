"""Anthropic's API, and that of all who speak like it: https://platform.claude.com/docs/en/api.

routes          the endpoints
request         the body of a request for messages, read strictly
message_fields  its known fields
extras          what it lets the provider do beside one answer of one model
estimate        what it will take
message_tokens  the tokens of its input
pictures        tokens of images and documents
rewrite         the bytes of a request that are changed
meter           usage in an answer, as it streams by
usage           what the members of an answer mean
openai_format   chats in OpenAI's format
batches         what a batch costs, when its results are there
objects         files, skills, batches and sessions
errors          our errors, and what theirs say of a key
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.anthropic import (
    batches,
    errors,
    estimate,
    meter,
    objects,
    openai_format,
    request,
    rewrite,
)
from tollhouse.families.anthropic.routes import ROUTES
from tollhouse.families.base import Family
from tollhouse.families.formats.kinds import Kind, Kinds, unchanged

MESSAGES: Final = Kind(request.read, estimate.estimate, meter.meter, rewrite.rewrite)
FREE_KINDS: Final = {
    "count_tokens": Kind(request.count, objects.estimate, objects.meter),
    "upload": Kind(
        objects.read_upload,
        objects.estimate,
        objects.meter,
        unchanged,
        objects.as_they_are,
    ),
}
KINDS: Final = Kinds(
    {
        "messages": MESSAGES,
        "chat": openai_format.KIND,
        "batch": Kind(batches.read, objects.estimate, batches.meter),
        "agents": Kind(objects.read_agents, objects.estimate, objects.meter),
        **FREE_KINDS,
    }
)

ANTHROPIC: Final = Family(
    "anthropic",
    routes=ROUTES,
    error_body=errors.error_body,
    error_event=errors.error_event,
    verdicts=errors.VERDICTS,
    spoken_by_others=True,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
    late_meter=batches.late_meter,
)
