"""Files, skills, batches and sessions: what their requests name, and what their answers say exists now."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.meters import AnswerHead
from tollhouse.families.operation import Cost

PARAMS = {"model": "claude-a", "max_tokens": 5, "messages": []}


def _asked(path: str, body: bytes, method: str = "POST") -> Asked:
    operation = ANTHROPIC.operation(method, path)
    assert operation is not None
    return ANTHROPIC.read(Request(operation, path, (), body), Dialect())


def _batch(*params: Any) -> bytes:
    return json.dumps(
        {"requests": [{"custom_id": str(n), "params": one} for n, one in enumerate(params)]}
    ).encode()


def test_a_batch_names_the_models_and_objects_of_all_its_requests() -> None:
    """So that a project's list of models and the owner of each object can be asked."""
    kept = {**PARAMS, "model": "claude-b", "container": "container_1"}
    second = {**PARAMS, "fallbacks": [{"model": "claude-c"}]}
    asked = _asked("/v1/messages/batches", _batch(PARAMS, kept, second, kept))
    assert (asked.model, asked.other_models) == ("claude-a", ("claude-b", "claude-c"))
    assert (asked.objects, asked.writes, asked.models_unknown) == (("container_1",), False, False)
    many = [{**PARAMS, "model": f"claude-{n}"} for n in range(33)]
    assert _asked("/v1/messages/batches", _batch(*many)).models_unknown
    asked = _asked("/v1/messages/batches", _batch({**PARAMS, "fallbacks": "default"}, kept))
    assert (asked.models_unknown, asked.objects) == (True, ("container_1",))


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"requests":[]}',
        b'{"requests":[{}]}',
        b'{"requests":[{"params":5}]}',
        b'{"requests":[5]}',
        _batch({**PARAMS, "Model": "claude-b"}),
        _batch({"max_tokens": 5}),
    ],
)
def test_a_batch_that_can_be_read_in_two_ways(body: bytes) -> None:
    """Each of its requests is read as strictly as one alone."""
    with pytest.raises(Refused) as refused:
        _asked("/v1/messages/batches", body)
    assert refused.value.denial.code == "bad_request"


def test_an_agent_chooses_its_models_itself() -> None:
    """A project with a list of models can't let it through. Some of its requests have no body."""
    assert _asked("/v1/sessions", b'{"agent":"agent_1"}').models_unknown
    assert _asked("/v1/sessions/sess_1/archive", b"").models_unknown
    with pytest.raises(Refused):
        _asked("/v1/sessions", b'{"agent":1,"agent":2}')


def test_what_a_session_may_use_is_named() -> None:
    """Each of them has an owner."""
    body = {
        "agent": {"type": "agent", "id": "agent_1"},
        "environment_id": "env_1",
        "vault_ids": ["vlt_1"],
        "resources": [{"type": "file", "file_id": "file_1"}],
    }
    asked = _asked("/v1/sessions", json.dumps(body).encode())
    assert sorted(asked.objects) == ["agent_1", "env_1", "file_1", "vlt_1"]
    matched = ANTHROPIC.match("POST", "/v1/deployments/dep_1/run")
    assert matched is not None
    assert matched.objects == ("dep_1",)


def test_an_upload_keeps_its_content_type() -> None:
    """It is no JSON."""
    asked = _asked("/v1/files", b"\xff--x")
    headers = (("content-type", "multipart/form-data; boundary=x"),)
    assert ANTHROPIC.sent_headers(headers, asked) == headers
    assert ANTHROPIC.rewrite(b"\xff--x", asked) == b"\xff--x"


@pytest.mark.parametrize(
    ("answer", "created"),
    [
        (b'{"type":"file","id":"file_1"}', ("file_1",)),
        (b'{"id":5}', ()),
        (b'{"id":""}', ()),
        (b'{"inner":{"id":"file_1"}}', ()),
        (b"nonsense", ()),
    ],
)
def test_what_is_made(answer: bytes, created: tuple[str, ...]) -> None:
    """Its id, in whatever pieces it comes. Nothing is charged."""
    meter = ANTHROPIC.meter(_asked("/v1/files", b""), AnswerHead(200, ()))
    assert b"".join(meter.feed(answer[at : at + 1]) for at in range(len(answer))) == answer
    assert (meter.flush(), meter.created, meter.finish()) == (b"", created, ())


@pytest.mark.parametrize(
    ("method", "path", "cost", "objects"),
    [
        ("POST", "/v1/messages", "metered", ""),
        ("POST", "/v1/messages/count_tokens", "free", ""),
        ("POST", "/v1/messages/batches", "job", "makes"),
        ("GET", "/v1/messages/batches", "free", "lists"),
        ("GET", "/v1/messages/batches/b/results", "free", ""),
        ("DELETE", "/v1/files/f", "free", "deletes"),
        ("POST", "/v1/skills", "free", "makes"),
        ("POST", "/v1/sessions/s/events", "job", ""),
        ("POST", "/v1/deployments/d/run", "job", ""),
        ("POST", "/v1/dreams", "job", "makes"),
        ("POST", "/v1/oauth/token", "mints", ""),
        ("GET", "/v1/organizations/api_keys", "account", ""),
        ("POST", "/v1/organizations/workspaces", "account", ""),
    ],
)
def test_what_each_endpoint_costs(method: str, path: str, cost: Cost, objects: str) -> None:
    """And what it does with objects that the provider keeps."""
    operation = ANTHROPIC.operation(method, path)
    assert operation is not None
    assert (operation.cost, operation.objects) == (cost, objects)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/complete"),
        ("POST", "/v1/messages/"),
        ("POST", "//v1/messages"),
        ("POST", "/V1/messages"),
        ("PUT", "/v1/messages"),
        ("GET", "/v1/vaults"),
        ("POST", "/v1/agents"),
        ("GET", "/v1/files/a/b"),
        ("GET", "/v1/files/.%2e/x"),
    ],
)
def test_what_is_closed(method: str, path: str) -> None:
    """All that no route names."""
    assert ANTHROPIC.operation(method, path) is None
