"""Batches of Mistral, Gemini and Cohere: what shows their usage, of the types of their SDKs, whole and cut at every byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from cohere.batches import Batch, GetBatchResponse
from cohere.types import ApiMeta, ApiMetaBilledUnits, CreateEmbedJobResponse, EmbedJob
from google.genai import types
from mistralai.client import models
from tests.families.samples import mistral as mistral_samples

from tollhouse.families.asked import Dialect, Request
from tollhouse.families.base import Family
from tollhouse.families.cohere import COHERE
from tollhouse.families.google import GOOGLE
from tollhouse.families.meters import AnswerHead, LateMeter, Later, Meter
from tollhouse.families.mistral import MISTRAL
from tollhouse.families.units import Charge, Units

HEAD = AnswerHead(200, [("content-type", "application/json")])


def begun(family: Family, path: str, body: Mapping[str, Any], answer: bytes) -> Meter:
    """The meter of the answer to a request that starts a job."""
    operation = family.operation("POST", path)
    assert operation is not None
    assert (operation.cost, operation.objects) == ("job", "makes")
    asked = family.read(Request(operation, path, (), json.dumps(body).encode()), Dialect())
    meter = family.meter(asked, HEAD)
    assert meter.feed(answer) == answer
    meter.flush()
    return meter


def later(meter: Meter) -> Later | None:
    found: Later | None = getattr(meter, "later", None)
    return found


def shown(family: Family, at: Later, data: bytes, size: int = 7) -> LateMeter:
    assert family.late_meter is not None
    meter = family.late_meter(at, HEAD)
    for start in range(0, len(data), size):
        part = data[start : start + size]
        assert meter.feed(part) == part
    meter.flush()
    return meter


def assert_cut(family: Family, at: Later, data: bytes) -> None:
    """At every byte but the last: a JSON object is over only when it is whole."""
    for end in range(len(data.rstrip())):
        assert not shown(family, at, data[:end], 64).ended


# Mistral

CHAT: dict[str, Any] = json.loads(mistral_samples.whole())
SMALL = "mistral-small-2603"
JOBS = "/v1/batch/jobs"
JOB = Later("j-1", f"{JOBS}/j-1")
IN_PLACE = Later("j-1", f"{JOBS}/j-1?inline=true", "in place")
FILE = Later("f-2", "/v1/files/f-2/content", "output")
CHARGED = (Charge(SMALL, Units(input=18, output=8, cached=4, requests=2), "batch", calls=2),)


def line(body: Any, status: int = 200, error: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "body": body}
    return {"id": "b", "custom_id": "1", "response": response, "error": error}


def mistral_job(status: str = "SUCCESS", done: int = 2, **more: Any) -> bytes:
    fields = {
        "id": "j-1",
        "input_files": ["f-1"],
        "endpoint": "/v1/chat/completions",
        "errors": [],
        "status": status,
        "created_at": 1,
        "total_requests": 2,
        "completed_requests": 2,
        "succeeded_requests": done,
        "failed_requests": 2 - done,
        "metadata": {"status": "x"},
    }
    return models.BatchJob.model_validate(fields | more).model_dump_json().encode()


def lines(*found: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in found)


def test_mistral_begins() -> None:
    """The job is shown where it was asked for. The models of requests in the body count, and its objects."""
    body = {
        "endpoint": "/v1/chat/completions",
        "model": "mistral-small-latest",
        "requests": [{"body": {"model": "mistral-large-latest", "messages": []}}],
        "input_files": ["f-1"],
    }
    meter = begun(MISTRAL, JOBS, body, mistral_job("QUEUED", 0))
    assert (later(meter), meter.created, meter.finish()) == (IN_PLACE, ("j-1",), ())
    filed = begun(MISTRAL, JOBS, {"model": "m", "input_files": ["f-1"]}, mistral_job("QUEUED", 0))
    assert later(filed) == JOB
    operation = MISTRAL.operation("POST", JOBS)
    assert operation is not None
    for fields, hidden in ((body, False), ({"agent_id": "ag"}, True), ({"input_files": []}, True)):
        asked = MISTRAL.read(Request(operation, JOBS, (), json.dumps(fields).encode()), Dialect())
        assert asked.models_unknown == hidden
        if not hidden:
            assert (asked.model, asked.other_models) == (
                "mistral-small-latest",
                ("mistral-large-latest",),
            )
            assert asked.objects == ("f-1",)


def test_mistral_shows_its_file() -> None:
    data = mistral_job(output_file="f-2", error_file="f-3")
    meter = shown(MISTRAL, JOB, data)
    assert (meter.ended, meter.later, meter.finish()) == (True, FILE, ())
    assert meter.created == ("j-1", "f-2", "f-3")
    assert_cut(MISTRAL, JOB, data)


def test_mistral_shows_a_job_without_its_outputs() -> None:
    """They stand in the job where they are asked for, so that it is asked for again."""
    assert not shown(MISTRAL, IN_PLACE, mistral_job()).ended
    assert shown(MISTRAL, IN_PLACE, mistral_job("FAILED", 0)).error == "failed"
    assert shown(MISTRAL, IN_PLACE, mistral_job(output_file="f-2")).later == FILE
    meter = shown(MISTRAL, IN_PLACE, mistral_job(outputs=[line(CHAT), line(CHAT)]))
    assert (meter.ended, meter.finish()) == (True, CHARGED)


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_mistral_shows_its_outputs(size: int) -> None:
    """With ``?inline=true``: they count, and the file is not asked for."""
    failed = line({"object": "error", "message": "m"}, 422)
    data = mistral_job(output_file="f-2", outputs=[line(CHAT), failed, line(CHAT)])
    meter = shown(MISTRAL, JOB, data, size)
    assert (meter.ended, meter.later, meter.error) == (True, None, "")
    assert meter.finish() == CHARGED
    if size == 7:
        assert_cut(MISTRAL, JOB, data)


def test_the_lines_of_mistrals_file() -> None:
    failed = line(None, 422, {"message": "m"})
    data = lines(line(CHAT), failed, line(CHAT))
    meter = shown(MISTRAL, FILE, data)
    assert (meter.ended, meter.finish()) == (True, CHARGED)
    # A file that ends in the middle of a line can't be read. One that ends behind a line is not told apart by its bytes:
    # the road sees to it that an answer has come whole.
    for end in range(len(data)):
        cut = shown(MISTRAL, FILE, data[:end], 64)
        behind = data[:end].endswith(b"}\n") or data[end : end + 1] == b"\n"
        assert cut.ended == (behind and end > 0)


OCR = {"model": "mistral-ocr-2512", "pages": [], "usage_info": {"pages_processed": 3}}
NOTED = OCR | {"document_annotation": "{}"}
TRANSCRIBED = {
    "model": "voxtral-mini-2602",
    "text": "Hello.",
    "usage": {"prompt_audio_seconds": 3, "prompt_tokens": 4, "total_tokens": 10},
}
EMBEDDED = {"model": "mistral-embed", "data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}}


@pytest.mark.parametrize(
    ("body", "charge"),
    [
        (OCR, Charge("mistral-ocr-2512", Units(pages=3, requests=1), "batch")),
        (NOTED, Charge("mistral-ocr-2512", Units(pages=3, requests=1), "batch+annotated")),
        (TRANSCRIBED, Charge("voxtral-mini-2602", Units(milliseconds=3000, requests=1), "batch")),
        (EMBEDDED, Charge("mistral-embed", Units(input=5, requests=1), "batch")),
    ],
)
def test_other_endpoints_of_mistral(body: Any, charge: Charge) -> None:
    meter = shown(MISTRAL, FILE, lines(line(body)))
    assert (meter.ended, meter.finish()) == (True, (charge,))


@pytest.mark.parametrize(
    ("status", "done", "ended", "error"),
    [
        ("RUNNING", 1, False, ""),
        ("CANCELLATION_REQUESTED", 0, False, ""),
        ("FAILED", 0, True, "failed"),
        ("CANCELLED", 0, True, "failed"),
        ("CANCELLED", 1, True, ""),
        ("TIMEOUT_EXCEEDED", 1, True, ""),
    ],
)
def test_mistrals_job_without_a_file(status: str, done: int, ended: bool, error: str) -> None:
    """One in which nothing was done costs nothing. What another costs is not known: its hold stays."""
    meter = shown(MISTRAL, JOB, mistral_job(status, done))
    assert (meter.ended, meter.error, meter.later, meter.finish()) == (ended, error, None, ())
    if done:
        filed = shown(MISTRAL, JOB, mistral_job(status, done, output_file="f-2"))
        assert filed.later == (FILE if ended else None)


# Gemini

FLASH = "gemini-2.5-flash"
STARTS = f"/v1beta/models/{FLASH}:batchGenerateContent"
EMBEDS = "/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent"
BATCH = Later("batches/b1", "/v1beta/batches/b1", "batch")
RESPONSES = Later("files/batch-b1", "/download/v1beta/files/batch-b1:download?alt=media", "output")


def answered(read: int = 9, written: int = 4, **more: Any) -> dict[str, Any]:
    document = types.GenerateContentResponse.model_validate(
        {
            "model_version": FLASH,
            "candidates": [{"content": {"parts": [{"text": 'The "traveller".'}], "role": "model"}}],
            "usage_metadata": {
                "prompt_token_count": read,
                "candidates_token_count": written,
                "total_token_count": read + written,
            },
            **more,
        }
    )
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def inlined(response: Any = None, error: Any = None) -> dict[str, Any]:
    found = {"metadata": {"key": "1"}, "response": response, "error": error}
    return {key: value for key, value in found.items() if value is not None}


FAILED = inlined(error={"code": 3, "message": "m"})


def operation(
    state: str = "SUCCEEDED", output: Any = None, stats: Any = None, **more: Any
) -> bytes:
    """As the API answers; `_BatchJob_from_mldev` in `batches.py` of google-genai reads it."""
    metadata = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": f"models/{FLASH}",
        "displayName": "d",
        "output": output or {},
        "batchStats": stats or {"requestCount": "2", "successfulRequestCount": "2"},
        "state": f"BATCH_STATE_{state}",
        "name": "batches/b1",
    }
    return json.dumps({"name": "batches/b1", "metadata": metadata, **more}).encode()


def in_place(*found: Any) -> dict[str, Any]:
    return {"inlinedResponses": {"inlinedResponses": list(found)}}


OF_TWO = (Charge(FLASH, Units(input=18, output=8, requests=2), "batch", calls=2),)


def test_gemini_begins() -> None:
    """The batch is shown below the version that was asked for."""
    for path, facts in ((STARTS, "batch"), (EMBEDS, "batch of vectors")):
        meter = begun(GOOGLE, path, {"batch": {}}, operation("PENDING"))
        assert later(meter) == BATCH._replace(facts=facts)
        assert (meter.created, meter.finish()) == (("batches/b1",), ())
    meter = begun(GOOGLE, STARTS, {"batch": {}}, b'{"name":"batches/../files/x"}')
    assert later(meter) is None


def test_the_models_of_geminis_requests() -> None:
    """They count beside that of the path, in either spelling."""
    named = [{"request": {"model": f"models/{name}"}} for name in (FLASH, "gemini-2.5-pro")]
    starts = GOOGLE.operation("POST", STARTS)
    assert starts is not None
    for key in ("inputConfig", "input_config"):
        body = json.dumps({"batch": {key: {"requests": {"requests": named}}}}).encode()
        asked = GOOGLE.read(Request(starts, STARTS, (), body), Dialect())
        assert (asked.model, asked.other_models) == (FLASH, ("gemini-2.5-pro",))
        assert not asked.models_unknown
    many = [{"request": {"model": f"models/m{number}"}} for number in range(33)]
    body = json.dumps({"batch": {"inputConfig": {"requests": {"requests": many}}}}).encode()
    assert GOOGLE.read(Request(starts, STARTS, (), body), Dialect()).models_unknown


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("repeated", [True, False])
def test_gemini_shows_its_responses(size: int, repeated: bool) -> None:
    """They count once, also where the operation repeats them."""
    output = in_place(inlined(answered()), FAILED, inlined(answered()))
    more = {"done": True, "response": output} if repeated else {}
    data = operation(output=output, **more)
    meter = shown(GOOGLE, BATCH, data, size)
    assert (meter.ended, meter.later, meter.error) == (True, None, "")
    assert meter.finish() == OF_TWO
    if size == 7:
        assert_cut(GOOGLE, BATCH, data)


def test_gemini_shows_its_responses_elsewhere() -> None:
    """An operation that has ended, and a batch by itself."""
    output = in_place(inlined(answered()), inlined(answered()))
    alone = {"name": "batches/b1", "state": "BATCH_STATE_SUCCEEDED", "output": output}
    done = {"name": "batches/b1", "done": True, "response": output}
    for document in (alone, done, done | {"response": {"output": output}}):
        meter = shown(GOOGLE, BATCH, json.dumps(document).encode())
        assert (meter.ended, meter.finish()) == (True, OF_TWO)


@pytest.mark.parametrize("state", ["SUCCEEDED", "CANCELLED", "EXPIRED", "FAILED"])
def test_gemini_shows_its_file(state: str) -> None:
    """A batch that was cancelled has what ran until then."""
    data = operation(state, {"responsesFile": "files/batch-b1"})
    meter = shown(GOOGLE, BATCH, data)
    assert (meter.ended, meter.later, meter.finish()) == (True, RESPONSES, ())
    assert meter.created == ("batches/b1", "files/batch-b1")
    assert_cut(GOOGLE, BATCH, data)
    vectors = shown(GOOGLE, BATCH._replace(facts="batch of vectors"), data)
    assert vectors.later == RESPONSES._replace(facts="output of vectors")


def test_the_lines_of_geminis_file() -> None:
    """With a key, or alone. A line that is a status has failed."""
    data = lines({"key": "a", "response": answered()}, {"key": "b", "error": {"code": 3}})
    data += lines(answered(), {"code": 13, "message": "m"})
    meter = shown(GOOGLE, RESPONSES, data)
    assert (meter.ended, meter.finish()) == (True, OF_TWO)
    unread = lines({"key": "a", "response": {"candidates": []}})
    assert not shown(GOOGLE, RESPONSES, data + unread).ended


def test_gemini_searches() -> None:
    """Searches stand beside the tokens, and have no half price."""
    grounding = {"web_search_queries": ["who pays"], "grounding_chunks": [{"web": {"uri": "u"}}]}
    found = answered(candidates=[{"grounding_metadata": grounding}])
    meter = shown(GOOGLE, RESPONSES, lines({"key": "a", "response": found}))
    assert meter.finish()[1:] == (Charge("google_search", Units(requests=1)),)


def test_gemini_makes_vectors() -> None:
    embedding = types.SingleEmbedContentResponse.model_validate(
        {"embedding": {"values": [0.5, -0.25]}, "token_count": 6}
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    counted = {"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 6}}
    units = Units(input=12, requests=2)
    for key in ("inlinedResponses", "inlinedEmbedContentResponses"):
        found = [inlined(embedding), inlined(counted), FAILED]
        data = operation(output={key: {"inlinedResponses": found}})
        meter = shown(GOOGLE, BATCH._replace(facts="batch of vectors"), data)
        assert (meter.ended, meter.finish()) == (True, (Charge("", units, "batch", calls=2),))
    data = lines({"key": "a", "response": embedding}, {"key": "b", "response": counted})
    meter = shown(GOOGLE, RESPONSES._replace(facts="output of vectors"), data)
    assert meter.finish() == (Charge("", units, "batch", calls=2),)


@pytest.mark.parametrize(
    ("state", "stats", "ended", "error"),
    [
        ("PENDING", {"requestCount": "2", "pendingRequestCount": "2"}, False, ""),
        ("RUNNING", None, False, ""),
        ("FAILED", {"requestCount": "2", "failedRequestCount": "2"}, True, "failed"),
        ("CANCELLED", {"requestCount": "2"}, True, "failed"),
        ("CANCELLED", {"requestCount": "2", "successfulRequestCount": "1"}, True, ""),
        ("EXPIRED", {"x": 1}, True, ""),
    ],
)
def test_geminis_batch_without_output(state: str, stats: Any, ended: bool, error: str) -> None:
    """One in which nothing has succeeded costs nothing. What another costs is not known: its hold stays."""
    meter = shown(GOOGLE, BATCH, operation(state, stats=stats))
    assert (meter.ended, meter.error, meter.later, meter.finish()) == (ended, error, None, ())


def test_what_can_not_be_read_of_gemini() -> None:
    """Its hold stays."""
    for bad in ({"response": {}}, {}, {"response": answered(), "x": "x" * (1 << 20)}):
        data = operation(output=in_place(inlined(answered()), bad))
        assert not shown(GOOGLE, BATCH, data, 1 << 16).ended


# Cohere

EMBED_JOBS, BATCHES = "/v1/embed-jobs", "/v2/batches"


def embed_job(status: str, billed: dict[str, Any] | None = None, **more: Any) -> bytes:
    fields: dict[str, Any] = {
        "job_id": "e-1",
        "status": status,
        "created_at": "2026-11-01T00:00:00Z",
        "input_dataset_id": "d-1",
        "model": "embed-english-v3.0",
        "truncate": "END",
        "meta": ApiMeta(billed_units=None if billed is None else ApiMetaBilledUnits(**billed)),
    }
    return EmbedJob(**fields | more).json().encode()


def batch(status: str, **more: Any) -> bytes:
    found = Batch(
        id="b-1",
        name="n",
        input_dataset_id="d-1",
        model="command-a-03-2025",
        status=f"BATCH_STATUS_{status}",
        num_records=2,
        **more,
    )
    return GetBatchResponse(batch=found).json().encode()


def test_cohere_begins() -> None:
    """Both name the dataset that they read."""
    made = CreateEmbedJobResponse(job_id="e-1", meta=ApiMeta()).json().encode()
    for path, id_, answer in ((EMBED_JOBS, "e-1", made), (BATCHES, "b-1", batch("QUEUED"))):
        body = {"model": "embed-english-v3.0"} | {
            "dataset_id" if id_ == "e-1" else "input_dataset_id": "d-1"
        }
        meter = begun(COHERE, path, body, answer)
        assert later(meter) == Later(id_, f"{path}/{id_}")
        assert (meter.created, meter.finish()) == ((id_,), ())
        starts = COHERE.operation("POST", path)
        assert starts is not None
        asked = COHERE.read(Request(starts, path, (), json.dumps(body).encode()), Dialect())
        assert (asked.model, asked.objects) == ("embed-english-v3.0", ("d-1",))


E1, B1 = Later("e-1", f"{EMBED_JOBS}/e-1"), Later("b-1", f"{BATCHES}/b-1")
EMBED_CHARGE = Charge("embed-english-v3.0", Units(input=1200, requests=1))
BATCH_CHARGE = Charge("command-a-03-2025", Units(input=1000, output=50, requests=1), calls=2)
COUNTED: dict[str, Any] = {
    "input_tokens": "1000",
    "output_tokens": "50",
    "num_successful_records": 2,
}


@pytest.mark.parametrize("status", ["complete", "cancelled"])
def test_coheres_embed_job(status: str) -> None:
    """One that was cancelled is charged what it has done."""
    data = embed_job(status, {"input_tokens": 1200.0}, output_dataset_id="d-2")
    meter = shown(COHERE, E1, data)
    assert (meter.ended, meter.later, meter.finish()) == (True, None, (EMBED_CHARGE,))
    assert meter.created == ("e-1", "d-2")
    assert_cut(COHERE, E1, data)


@pytest.mark.parametrize("status", ["COMPLETED", "CANCELED", "FAILED"])
def test_coheres_batch(status: str) -> None:
    data = batch(status, **COUNTED, output_dataset_id="d-2")
    meter = shown(COHERE, B1, data)
    assert (meter.ended, meter.later, meter.finish()) == (True, None, (BATCH_CHARGE,))
    assert meter.created == ("b-1", "d-2")
    assert_cut(COHERE, B1, data)


@pytest.mark.parametrize(
    ("at", "data", "ended", "error"),
    [
        (E1, embed_job("processing"), False, ""),
        (E1, embed_job("cancelling"), False, ""),
        (E1, embed_job("complete"), True, ""),
        (E1, embed_job("cancelled"), True, ""),
        (E1, embed_job("failed"), True, "failed"),
        (B1, batch("IN_PROGRESS", num_successful_records=1), False, ""),
        (B1, batch("CANCELING"), False, ""),
        (B1, batch("COMPLETED", num_successful_records=2), True, ""),
        (B1, batch("CANCELED", num_successful_records=0), True, "failed"),
        (B1, batch("FAILED"), True, "failed"),
    ],
)
def test_coheres_jobs_without_usage(at: Later, data: bytes, ended: bool, error: str) -> None:
    """One that has failed costs nothing. What another costs is not known: its hold stays."""
    meter = shown(COHERE, at, data)
    assert (meter.ended, meter.error, meter.finish()) == (ended, error, ())


@pytest.mark.parametrize(
    ("family", "method", "path", "id_"),
    [
        (MISTRAL, "GET", "/v1/batch/jobs/j-1", "j-1"),
        (MISTRAL, "POST", "/v1/batch/jobs/j-1/cancel", "j-1"),
        (MISTRAL, "GET", "/v1/files/f-2/content", "f-2"),
        (GOOGLE, "GET", "/v1beta/batches/b1", "batches/b1"),
        (GOOGLE, "GET", "/v1beta/files/batch-b1:download", "files/batch-b1"),
        (GOOGLE, "GET", "/download/v1beta/files/batch-b1:download", "files/batch-b1"),
        (COHERE, "GET", "/v1/embed-jobs/e-1", "e-1"),
        (COHERE, "GET", "/v2/batches/b-1", "b-1"),
    ],
)
def test_who_may_show_it(family: Family, method: str, path: str, id_: str) -> None:
    """The usage is looked for by the object of the path."""
    found = family.match(method, path)
    assert found is not None
    assert found.operation.shows_usage
    assert (found.operation.cost, found.objects) == ("free", (id_,))
