"""What the provider keeps: ids in bodies, in answers and in paths, and which operation each path is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.families.samples.forms import FORM, form

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

JSON: Headers = (("content-type", "application/json"),)
NO_TYPE: Headers = (("accept", "*/*"),)


def read(path: str, body: bytes, headers: Headers = JSON) -> Asked:
    operation = OPENAI.operation("POST", path)
    assert operation is not None
    return OPENAI.read(Request(operation, path, headers, body), Dialect())


@pytest.mark.parametrize(
    ("path", "body", "objects"),
    [
        ("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/responses"}, ("file-1",)),
        ("/v1/vector_stores", {"file_ids": ["file-1", "file-2", "file-1"]}, ("file-1", "file-2")),
        (
            "/v1/assistants",
            {
                "model": "m",
                "tool_resources": {
                    "code_interpreter": {"file_ids": ["file-1"]},
                    "file_search": {
                        "vector_store_ids": ["vs_1"],
                        "vector_stores": [{"file_ids": ["file-2"]}],
                    },
                },
            },
            ("file-1", "vs_1", "file-2"),
        ),
        ("/v1/threads/runs", {"assistant_id": "asst_1"}, ("asst_1",)),
        (
            "/v1/threads/thread_1/messages",
            {"attachments": [{"file_id": "file-1"}], "content": "file_id: file-9"},
            ("file-1",),
        ),
        ("/v1/fine_tuning/jobs", {"training_file": "a", "validation_file": "b"}, ("a", "b")),
        ("/v1/uploads/upload_1/complete", {"part_ids": ["part_1", "part_2"]}, ("part_1", "part_2")),
        ("/v1/containers", {"file_ids": [{"id": "x", "other": "y"}]}, ("x",)),
        ("/v1/vector_stores", {"metadata": {"file_id": None}}, ()),
        ("/v1/videos/edits", {"video": {"id": "video_1"}, "prompt": "p"}, ("video_1",)),
        ("/v1/videos", {"input_reference": {"file_id": "file-1"}}, ("file-1",)),
        (
            "/v1/evals/eval_1/runs",
            {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}},
            ("file-1",),
        ),
        # The requests of everybody who uses the key: nobody has made them.
        (
            "/v1/evals/eval_1/runs",
            {"data_source": {"type": "completions", "source": {"type": "stored_completions"}}},
            ("all stored_completions",),
        ),
        (
            "/v1/evals/eval_1/runs",
            {"data_source": {"type": "responses", "source": {"type": "responses"}}},
            ("all responses",),
        ),
        (
            "/v1/evals/eval_1/runs",
            {
                "data_source": {
                    "source": {
                        "type": "file_content",
                        "content": [{"item": {"id": "a", "source": "b", "video": "c"}}],
                    }
                }
            },
            (),
        ),
    ],
)
def test_ids_in_a_body(path: str, body: dict[str, Any], objects: tuple[str, ...]) -> None:
    """Wherever they stand, each once. What a text says is no id."""
    assert read(path, json.dumps(body).encode()).objects == objects


def test_ids_in_a_form() -> None:
    assert read("/v1/files", form(("file", b"file_id", "a")), FORM).objects == ()
    found = read("/v1/containers/c_1/files", form(("file_id", b"file-1")), FORM)
    assert found.objects == ("file-1",)
    video = form(("video[id]", b"video_1"), ("input_reference[file_id]", b"file-1"))
    assert read("/v1/videos/edits", video, FORM).objects == ("video_1", "file-1")
    assert read("/v1/videos/edits", form(("video", b"\0\1", "a.mp4")), FORM).objects == ()
    listed = form(("file_ids[]", b"file-1"), ("file_ids[]", b"file-2"))
    assert read("/v1/vector_stores", listed, FORM).objects == ("file-1", "file-2")


def test_bodies_are_sent_as_they_are_read() -> None:
    """A form under its own type, JSON as JSON, and nothing without a type."""
    body = form(("purpose", b"batch"), ("file", b"x", "a"))
    assert OPENAI.sent_headers(FORM, read("/v1/files", body, FORM)) == FORM
    text: Headers = (("content-type", "text/plain"),)
    assert OPENAI.sent_headers(text, read("/v1/threads", b"{}", text)) == JSON
    nothing = read("/v1/batches/b_1/cancel", b"", NO_TYPE)
    assert (OPENAI.sent_headers(NO_TYPE, nothing), nothing.objects) == (NO_TYPE, ())


@pytest.mark.parametrize(
    "body", [b"x", b'{"a":1,"a":2}', b"[]", b'{"file_id":"a","file_id":"b"}', b"\xff"]
)
def test_a_body_that_is_none(body: bytes) -> None:
    with pytest.raises(Refused):
        read("/v1/vector_stores", body)


@pytest.mark.parametrize(
    ("answer", "created"),
    [
        (b'{"id":"file-1","object":"file"}', ("file-1",)),
        (b'\n {"object":"upload","file":{"id":"file-1"},"id":"upload_1"}', ("upload_1", "file-1")),
        (b'{"data":[{"id":"x"}],"metadata":{"id":"y"}}', ()),
        (
            b'{"id":"batch_1","output_file_id":"file-2","error_file_id":null,"input_file_id":"f"}',
            ("batch_1", "file-2"),
        ),
        (b'{"id":"run_1","object":"thread.run","thread_id":"thread_1"}', ("run_1", "thread_1")),
        (
            b'{"id":"ftjob-1","result_files":["file-3",{},"file-4"]}',
            ("ftjob-1", "file-3", "file-4"),
        ),
        (b'{"id":7}', ()),
        (b'{"id":""}', ()),
        (b'{"id":"%b"}' % (b"x" * 257), ()),
        (b'{"id":"a\\nb"}', ()),
        (b'{"id":"file-1', ()),
        (b'{"id":"file-1",', ("file-1",)),
        (b"<html>", ()),
    ],
)
def test_ids_in_an_answer(answer: bytes, created: tuple[str, ...]) -> None:
    """The outermost one, as soon as it has come; and those of what came into being with it."""
    meter = OPENAI.meter(read("/v1/files", b""), AnswerHead(200, JSON))
    for at in range(len(answer)):
        assert meter.feed(answer[at : at + 1]) == answer[at : at + 1]
    meter.flush()
    assert (meter.created, meter.finish()) == (created, ())


def test_a_container_costs_by_its_memory() -> None:
    """It is a session of the code interpreter, and makes an object."""
    path = "/v1/containers"
    operation = OPENAI.operation("POST", path)
    assert operation is not None
    assert (operation.cost, operation.objects) == ("metered", "makes")
    asked = read(path, b'{"name":"c","memory_limit":"4g"}')
    assert (asked.model, asked.tier) == ("code_interpreter", "4g")
    held = OPENAI.estimate(asked, "worst", Limits(1, 1), Dialect())
    assert (held.units, held.beside) == (Units(requests=1), ())
    meter = OPENAI.meter(asked, AnswerHead(200, JSON))
    meter.feed(b'{"id":"cntr_1"}')
    assert meter.created == ("cntr_1",)
    assert meter.finish() == (Charge("code_interpreter", Units(requests=1), "4g"),)
    with pytest.raises(Refused):
        read(path, b'{"memory_limit":4}')


@pytest.mark.parametrize(
    ("method", "path", "kind", "cost", "objects"),
    [
        ("POST", "/v1/threads/runs", "jobs", "job", "makes"),
        ("POST", "/v1/threads/thread_1", "objects", "free", ""),
        ("POST", "/v1/threads/thread_1/runs", "jobs", "job", "makes"),
        ("GET", "/v1/threads/thread_1/runs", "objects", "free", ""),
        ("POST", "/v1/threads/thread_1/runs/run_1/submit_tool_outputs", "jobs", "job", "makes"),
        ("POST", "/v1/threads/thread_1/runs/run_1/cancel", "objects", "free", ""),
        ("GET", "/v1/files", "objects", "free", "lists"),
        ("DELETE", "/v1/files/file-1", "objects", "free", "deletes"),
        # The file itself stays.
        ("DELETE", "/v1/vector_stores/vs_1/files/file-1", "objects", "free", ""),
        ("POST", "/v1/vector_stores/vs_1/files", "objects", "free", ""),
        ("POST", "/v1/vector_stores/vs_1/search", "file_search", "metered", ""),
        ("POST", "/v1/batches", "batches", "job", "makes"),
        ("GET", "/v1/batches", "objects", "free", "lists"),
        # Their answers name the files that the job has made.
        ("GET", "/v1/batches/batch_1", "objects", "free", "makes"),
        ("POST", "/v1/batches/batch_1/cancel", "objects", "free", "makes"),
        ("GET", "/v1/fine_tuning/jobs/ftjob-1", "objects", "free", "makes"),
        ("POST", "/v1/videos/video_1/remix", "jobs", "job", "makes"),
        ("POST", "/v1/evals/eval_1/runs", "jobs", "job", "makes"),
        ("POST", "/v1/realtime/client_secrets", "sessions", "mints", ""),
        ("POST", "/v1/realtime/translations/client_secrets", "sessions", "mints", ""),
        ("POST", "/v1/live/sessions/s_1/fork", "sessions", "mints", ""),
        ("POST", "/v1/chatkit/sessions", "sessions", "mints", ""),
        ("POST", "/v1/organization/admin_api_keys", "account", "account", ""),
        ("GET", "/v1/organization/projects/p/api_keys/k", "account", "account", ""),
        ("DELETE", "/v1/projects/p/users/u/roles/r", "account", "account", ""),
    ],
)
def test_operations(method: str, path: str, kind: str, cost: str, objects: str) -> None:
    """Of paths that another route could take for its own."""
    found = OPENAI.operation(method, path)
    assert found is not None
    assert (found.kind, found.cost, found.objects) == (kind, cost, objects)


@pytest.mark.parametrize(
    "path",
    ["/v1/realtime/client_secrets", "/v1/agents/sessions", "/v1/organization/admin_api_keys"],
)
def test_what_is_never_open(path: str) -> None:
    """The family refuses it itself, if a gate should not have."""
    with pytest.raises(Refused) as refused:
        read(path, b"{}")
    assert refused.value.denial.code == "path_not_allowed"


def test_ids_in_a_path() -> None:
    """Each is a group of its own."""
    path = "/v1/vector_stores/vs_1/files/file-1/content"
    [match] = [found for route in OPENAI.routes if (found := route.path.fullmatch(path))]
    assert match.groupdict() == {"object": "vs_1", "object2": "file-1"}


@pytest.mark.parametrize("path", ["/v1/agents", "/v1/agents/sessions/s", "/v1/safety/alerts/a"])
def test_what_no_route_names_is_closed(path: str) -> None:
    assert OPENAI.operation("GET", path) is None
