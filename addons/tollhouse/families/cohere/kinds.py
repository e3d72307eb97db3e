"""How each kind of operation is read, estimated and metered."""

from __future__ import annotations

from typing import Final, NoReturn

from tollhouse.families.asked import Asked
from tollhouse.families.cohere import dataset_jobs, estimate, meter, request
from tollhouse.families.cohere.compatible import COMPATIBLE
from tollhouse.families.formats.kinds import Kind, Kinds
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.headers import Headers


def lower(body: bytes, asked: Asked) -> bytes:
    """The thoughts count within the cap as well."""
    if asked.lowered_to is None:
        return body
    if asked.detail.thinks > asked.lowered_to:
        body = lower_cap(body, asked.lowered_to, "token_budget", inside="thinking")
    return lower_cap(body, asked.lowered_to, "max_tokens")


def as_they_came(headers: Headers, asked: Asked) -> Headers:
    """An upload is sent under the content type that has its boundary."""
    return headers


def _free(*_: object) -> NoReturn:
    raise AssertionError("it costs nothing")


_JOB: Final = Kind(dataset_jobs.read, _free, dataset_jobs.meter)
_V1: Final = Kind(request.read_v1, estimate.estimate_text, meter.meter, lower)

KINDS: Final = Kinds(
    {
        "chat": Kind(request.read_chat, estimate.estimate_text, meter.meter, lower),
        "chat v1": _V1,
        "generate": _V1,
        "summarize": _V1,
        "embed": Kind(request.read_input, estimate.estimate_embed, meter.meter),
        "rerank": Kind(request.read_input, estimate.estimate_rerank, meter.meter),
        "classify": Kind(request.read_input, estimate.estimate_classify, meter.meter),
        "parse": Kind(request.read_input, estimate.estimate_parse, meter.meter),
        "compatible chat": COMPATIBLE,
        "compatible embeddings": COMPATIBLE,
        "tokens": Kind(request.read_free, _free, meter.meter_object),
        "embed job": _JOB,
        "batch": _JOB,
        "shown job": Kind(request.read_free, _free, dataset_jobs.shown_meter),
        "connector": Kind(request.read_free, _free, meter.meter_object),
        "dataset": Kind(request.read_upload, _free, meter.meter_object, sent_headers=as_they_came),
    }
)
