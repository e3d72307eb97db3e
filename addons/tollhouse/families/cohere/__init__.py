"""Cohere's API: https://docs.cohere.com/reference.

routes       the endpoints
request      what a body asks for, read strictly
estimate     the units that a request will take
usage        what the members of an answer mean
meter        which reader an answer gets
compatible   the paths at which OpenAI's format is spoken
dataset_jobs  embed jobs and batches
errors       our errors, and what theirs say of a key
kinds        all of these, by kind of operation
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Family
from tollhouse.families.cohere import dataset_jobs, errors
from tollhouse.families.cohere.kinds import KINDS
from tollhouse.families.cohere.routes import ROUTES

COHERE: Final = Family(
    "cohere",
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
    late_meter=dataset_jobs.late_meter,
)
