"""Work whose usage comes later: what an answer says of it, then and when it is over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.meters import AnswerHead, LateMeter, Later, Meter
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units

HEAD = AnswerHead(200, [("content-type", "application/json")])
USAGE = {"input_tokens": 90, "output_tokens": 7}
UNITS = Units(input=90, output=7, requests=1)
RESPONSE = {"id": "resp_1", "object": "response", "status": "queued", "usage": None}
BATCH = {"id": "batch_1", "object": "batch", "status": "validating"}


def asked(path: str, body: Any, query: str = "") -> Asked:
    operation = OPENAI.operation("POST", path)
    assert operation is not None
    headers = [("content-type", "application/json")]
    request = Request(operation, path, headers, json.dumps(body).encode(), query)
    return OPENAI.read(request, Dialect())


def fed[M: Meter](meter: M, answer: Any, size: int = 7) -> M:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    for start in range(0, len(data), size):
        part = data[start : start + size]
        assert meter.feed(part) == part
    meter.flush()
    return meter


def late(facts: str, answer: Any, path: str = "/v1/batches/batch_1") -> LateMeter:
    assert OPENAI.late_meter is not None
    return fed(OPENAI.late_meter(Later("batch_1", path, facts), HEAD), answer)


def later(meter: Meter) -> Later | None:
    found: Later | None = getattr(meter, "later", None)
    return found


def test_a_response_that_is_queued() -> None:
    """Where it is shown, and with which tools; at Azure with the version of the API and no other part of the query."""
    body = {"model": "gpt-4o", "input": "hi", "background": True, "tools": [{"type": "web_search"}]}
    found = later(fed(OPENAI.meter(asked("/v1/responses", body), HEAD), RESPONSE))
    assert found is not None
    assert (found.id, found.path) == ("resp_1", "/v1/responses/resp_1")
    searched = {**RESPONSE, "status": "completed", "usage": USAGE, "model": "gpt-4o"}
    searched["tool_usage"] = {"web_search": {"num_requests": 2}}
    over = late(found.facts, searched)
    assert over.ended
    assert over.finish() == (Charge("gpt-4o", UNITS), Charge("web_search", Units(requests=2)))
    azure = asked("/v1/responses", body, "x=1&api-version=2025-04-01-preview&y=2")
    at = later(fed(OPENAI.meter(azure, HEAD), RESPONSE))
    assert at is not None
    assert at.path == "/v1/responses/resp_1?api-version=2025-04-01-preview"


@pytest.mark.parametrize(
    ("background", "answer"),
    [
        (False, {}),
        (True, {"status": "completed", "usage": USAGE}),
        (True, {"status": "failed"}),
        (True, {"id": "../files"}),
        (True, {"id": None}),
        (True, {"id": "r" * 201}),
    ],
)
def test_nothing_comes_later(background: bool, answer: dict[str, Any]) -> None:
    """It is not in the background, it is over, or it can't be asked for."""
    body = {"model": "gpt-4o", "input": "hi", "background": background}
    meter = fed(OPENAI.meter(asked("/v1/responses", body), HEAD), RESPONSE | answer)
    assert later(meter) is None


def test_a_stream_that_is_left() -> None:
    """Of the background: its usage comes later. One that came to its end has it."""
    body = {"model": "gpt-4o", "input": "hi", "background": True, "stream": True}
    begun = json.dumps({"type": "response.created", "response": RESPONSE}).encode()
    over = RESPONSE | {"status": "completed", "usage": USAGE, "model": "gpt-4o"}
    ended = json.dumps({"type": "response.completed", "response": over}).encode()
    events = b"data: " + begun + b"\n\n"
    left = fed(OPENAI.meter(asked("/v1/responses", body), HEAD), events)
    found = later(left)
    assert found is not None
    assert left.finish() == ()
    whole = fed(
        OPENAI.meter(asked("/v1/responses", body), HEAD), events + b"data: " + ended + b"\n\n"
    )
    assert later(whole) is None
    assert whole.finish() == (Charge("gpt-4o", UNITS),)
    assert late(found.facts, b"data: " + ended + b"\n\n").finish() == (Charge("gpt-4o", UNITS),)


@pytest.mark.parametrize("status", ["queued", "in_progress", "a new one", None, 3])
def test_a_response_that_is_not_over(status: Any) -> None:
    assert not late("", RESPONSE | {"status": status, "usage": USAGE}).ended


@pytest.mark.parametrize("facts", ["", "no JSON", "[1,2,3,4,5,6,7,8,9,10,11,12,13]", "{}"])
def test_facts_of_another_version(facts: str) -> None:
    """They harm no count."""
    answer = RESPONSE | {"status": "incomplete", "usage": USAGE}
    assert late(facts, answer).finish()[0].units == UNITS


@pytest.mark.parametrize("answer", [BATCH, {"job": BATCH}, {"warning": "w", "job": BATCH}])
def test_a_batch_that_is_started(answer: dict[str, Any]) -> None:
    """At Together it stands in the answer's ``job``. It is an object of its tenant's either way."""
    start = asked("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/responses"})
    meter = fed(OPENAI.meter(start, HEAD), answer)
    assert meter.created == ("batch_1",)
    assert later(meter) == Later("batch_1", "/v1/batches/batch_1", "batch")


@pytest.mark.parametrize("job", [None, {}, {"id": 7}, {"id": "../x"}, "batch_1"])
def test_an_answer_that_starts_no_batch(job: Any) -> None:
    start = asked("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/responses"})
    assert later(fed(OPENAI.meter(start, HEAD), {"job": job})) is None


OUTPUT = {"status": "completed", "output_file_id": "file-2"}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/batches/batch_1", "/v1/files/file-2/content"),
        ("/openai/v1/batches/batch_1", "/openai/v1/files/file-2/content"),
        (
            "/openai/batches/batch_1?api-version=2024-10-21",
            "/openai/files/file-2/content?api-version=2024-10-21",
        ),
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"status": "COMPLETED"},
        {"status": "expired", "request_counts": {"total": 4, "completed": 3}},
        {"status": "failed"},
        {"usage": {"input_tokens": 0, "output_tokens": 0}},
    ],
)
def test_a_batch_whose_output_has_the_usage(path: str, shown: str, more: dict[str, Any]) -> None:
    """The file is at the path of the same API, in the same version."""
    over = late("batch", BATCH | OUTPUT | more, path)
    assert (over.ended, over.finish()) == (True, ())
    assert over.later == Later("file-2", shown, "output")


@pytest.mark.parametrize(
    "more",
    [
        {"status": "finalizing"},
        {"usage": USAGE},
        {"request_counts": {"total": 4, "completed": 0}},
        {"output_file_id": None},
        {"output_file_id": ""},
        {"output_file_id": "../../models"},
        {"output_file_id": ["file-2"]},
    ],
)
def test_a_batch_whose_output_is_not_read(more: dict[str, Any]) -> None:
    """It is not over, tells its usage itself, has done nothing, or names no file."""
    assert late("batch", BATCH | OUTPUT | more).later is None


def test_a_batch_at_an_unknown_path() -> None:
    """Where its files are is not known."""
    assert late("batch", BATCH | OUTPUT, "/v1/batches/batch_2").later is None


CHAT = {"prompt_tokens": 90, "completion_tokens": 7}


def line(status: int = 200, error: Any = None, **body: Any) -> bytes:
    body = {"object": "chat.completion", "model": "gpt-4o", "usage": CHAT} | body
    response = {"status_code": status, "request_id": "req_1", "body": body}
    told = {"id": "batch_req_1", "custom_id": "one", "response": response, "error": error}
    return json.dumps(told).encode() + b"\n"


FAILED = line(400, usage=None, error={"code": "invalid_request"})
NO_ANSWER = json.dumps(
    {"custom_id": "two", "response": None, "error": {"code": "batch_expired"}}
).encode()


def test_the_output_of_a_batch() -> None:
    """By model, at the price of a batch. A request that has failed costs nothing; the words for the standard tier say
    nothing, and those for a dearer one count."""
    response = {"object": "response", "usage": USAGE, "model": "gpt-4o"}
    data = line() + FAILED + line(service_tier="default") + line(service_tier="on_demand")
    data += line(**response) + line(service_tier="priority") + line(model="gpt-4o-mini")
    over = late("output", data + NO_ANSWER)
    assert (over.ended, over.error, over.later) == (True, "", None)
    assert over.finish() == (
        Charge("gpt-4o", Units(input=360, output=28, requests=4), "batch", calls=4),
        Charge("gpt-4o", UNITS, "batch+priority"),
        Charge("gpt-4o-mini", UNITS, "batch"),
    )


def test_a_long_line_of_the_output() -> None:
    """It is no item with the short ones, whose price may be another."""
    long = line(usage={"prompt_tokens": 300_000, "completion_tokens": 1})
    assert late("output", line() + long).finish() == (
        Charge("gpt-4o", UNITS, "batch"),
        Charge("gpt-4o", Units(input=300_000, output=1, requests=1), "batch"),
    )


def test_tools_in_the_output() -> None:
    """They cost what they cost without a batch."""
    items = [{"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}]
    searched = line(object="response", usage=USAGE, output=items)
    groq = line(choices=[{"message": {"executed_tools": [{"index": 0, "type": "search"}]}}])
    assert late("output", searched + groq).finish() == (
        Charge("gpt-4o", Units(input=180, output=14, requests=2), "batch", calls=2),
        Charge("web_search", Units(requests=2), calls=2),
    )


def test_what_an_output_says_is_paid() -> None:
    """xAI's own amounts are added up."""
    lines = [line(usage=CHAT | {"cost_in_usd_ticks": ticks}) for ticks in (10, 25)]
    assert late("output", lines[0] + lines[1]).finish() == (
        Charge("gpt-4o", Units(input=180, output=14, requests=2), "batch", paid=4, calls=2),
    )


def test_an_output_without_an_answer() -> None:
    """Nothing of the batch has succeeded."""
    over = late("output", FAILED + NO_ANSWER)
    assert (over.ended, over.error, over.finish()) == (True, "failed", ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        line() + line()[:-20],
        line() + b"no JSON\n",
        line() + b'{"custom_id":"one"}\n',
        line() + b'{"response":{"status_code":200,"body":[]},"error":null}\n',
        line(usage=None),
        line(usage={"prompt_tokens": 0, "completion_tokens": 0}),
        line() + line(x="x" * (1 << 20)),
        b"".join(line(model=f"m{number}") for number in range(257)),
    ],
)
def test_an_output_that_can_not_be_read(data: bytes) -> None:
    """What the batch costs is not known then: its hold stays."""
    assert OPENAI.late_meter is not None
    meter = OPENAI.late_meter(Later("file-2", "/v1/files/file-2/content", "output"), HEAD)
    assert not fed(meter, data, 1 << 16).ended


def test_an_output_of_which_a_part_was_read() -> None:
    """Nobody has said that it has come to its end."""
    assert OPENAI.late_meter is not None
    meter = OPENAI.late_meter(Later("file-2", "/v1/files/file-2/content", "output"), HEAD)
    meter.feed(line())
    assert not meter.ended


def test_where_an_output_is_seen() -> None:
    """The content of a file may be one; the file itself is none."""
    for path, shows in (("/v1/files/file-2/content", True), ("/v1/files/file-2", False)):
        found = OPENAI.match("GET", path)
        assert found is not None
        assert (found.operation.shows_usage, found.objects) == (shows, ("file-2",))


def test_a_batch() -> None:
    """It has a usage when it is over, of so many requests, at the price of a batch."""
    start = asked("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/responses"})
    found = later(fed(OPENAI.meter(start, HEAD), BATCH))
    assert found == Later("batch_1", "/v1/batches/batch_1", "batch")
    assert not late("batch", BATCH).ended
    counts = {"total": 4, "completed": 3, "failed": 1}
    over = late("batch", BATCH | {"status": "expired", "usage": USAGE, "request_counts": counts})
    assert (over.ended, over.error) == (True, "")
    assert over.finish() == (Charge("", UNITS, "batch", calls=3),)
    files = BATCH | {"status": "completed", "output_file_id": "file-2", "error_file_id": "file-3"}
    assert late("batch", files).created == ("batch_1", "file-2", "file-3")
    named = BATCH | {"status": "completed", "usage": USAGE, "model": "gpt-4o"}
    assert late("batch", named).finish() == (Charge("gpt-4o", UNITS, "batch"),)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": "failed"}, "failed"),
        ({"status": "cancelled", "request_counts": {"completed": 0}}, "cancelled"),
        ({"status": "cancelled", "request_counts": {"completed": 1}}, ""),
        ({"status": "completed", "usage": None}, ""),
    ],
)
def test_a_batch_without_usage(answer: dict[str, Any], error: str) -> None:
    """Only one in which nothing was done is known to cost nothing."""
    over = late("batch", BATCH | answer)
    assert (over.ended, over.error, over.finish()) == (True, error, ())


ITEM = {"id": "ci_1", "type": "code_interpreter_call", "container_id": "cntr_1"}
CITED = {"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"}
SAID = {
    "id": "msg_1",
    "type": "message",
    "content": [{"type": "output_text", "text": "Here.", "annotations": [CITED, 7]}],
}


def test_what_has_come_of_a_response_is_shown() -> None:
    """Its items, the containers that it used, and the files that it made in them; it costs nothing anew."""
    over = RESPONSE | {"status": "failed", "usage": USAGE, "output": [ITEM, SAID]}
    over["error"] = {"code": "server_error", "message": "m"}
    made = ("resp_1", "ci_1", "cntr_1", "msg_1", "cfile_1")
    assert late("", over).created == made
    operation = OPENAI.operation("GET", "/v1/responses/resp_1")
    assert operation is not None
    assert (operation.objects, operation.shows_usage) == ("makes", True)
    nothing_asked = Asked(kind=operation.kind)
    shown = fed(OPENAI.meter(nothing_asked, HEAD), over)
    assert (shown.created, shown.finish(), shown.error, later(shown)) == (made, (), "", None)
    event = json.dumps({"type": "response.completed", "response": over}).encode()
    events = AnswerHead(200, [("content-type", "text/event-stream")])
    shown = fed(OPENAI.meter(nothing_asked, events), b"data: " + event + b"\n\n")
    assert (shown.created, shown.finish()) == (made, ())
