"""Mistral's API: https://docs.mistral.ai/api.

routes          the endpoints
request         what a body asks for, read strictly
estimate        the units that a request will take
connectors      the tools that Mistral runs and charges by use
usage           what the members of an answer mean
meter           which reader an answer gets
kinds           all of these, by kind of operation
transcription   seconds of recordings
batch_jobs      batches, and the lines of their output
errors          our errors, and what theirs say of a key
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Family
from tollhouse.families.mistral import batch_jobs, errors
from tollhouse.families.mistral.kinds import KINDS
from tollhouse.families.mistral.routes import ROUTES

MISTRAL: Final = Family(
    "mistral",
    routes=ROUTES,
    error_body=errors.error_body,
    error_event=errors.error_event,
    stream_error=errors.stream_error,
    verdicts=errors.VERDICTS,
    spoken_by_others=True,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
    late_meter=batch_jobs.late_meter,
)
