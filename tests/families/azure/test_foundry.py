"""Claude at Foundry: which of Anthropic's endpoints there are, what a request names, and in whose form it is refused."""

from __future__ import annotations

import json

import pytest

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.azure import AZURE

MESSAGES = "/anthropic/v1/messages"


def read(body: bytes, path: str = MESSAGES) -> Asked:
    operation = AZURE.operation("POST", path)
    assert operation is not None
    return AZURE.read(Request(operation, path, (), body), Dialect("on_request"))


def test_the_deployment_stands_in_the_body() -> None:
    """It is the model, and a stream is not made to ask for its usage: it always tells it."""
    asked = read(b'{"model":"my-claude","max_tokens":7,"stream":true,"messages":[]}')
    assert (asked.model, asked.cap, asked.stream) == ("my-claude", 7, True)
    assert not asked.asks_for_usage
    counted = read(b'{"model":"my-claude","messages":[]}', f"{MESSAGES}/count_tokens")
    assert (counted.model, counted.writes) == ("my-claude", False)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{MESSAGES}/batches"),
        ("GET", f"{MESSAGES}/batches/msgbatch_1/results"),
        ("GET", "/anthropic/v1/models"),
        ("POST", "/anthropic/v1/sessions"),
        ("POST", "/anthropic/v1/deployments/d/run"),
        ("POST", "/anthropic/v1/dreams"),
        ("POST", "/anthropic/v1/chat/completions"),
        ("POST", "/anthropic/v1/complete"),
        ("POST", "/anthropic/messages"),
        ("POST", "/openai/v1/messages"),
        ("POST", "/v1/messages"),
    ],
)
def test_what_foundry_does_not_have_is_closed(method: str, path: str) -> None:
    """Batches, models and agents among it."""
    assert AZURE.operation(method, path) is None


@pytest.mark.parametrize(
    ("path", "cost", "objects"),
    [
        (MESSAGES, "metered", ""),
        (f"{MESSAGES}/count_tokens", "free", ""),
        ("/anthropic/v1/files", "free", "makes"),
        ("/anthropic/v1/skills", "free", "makes"),
        ("/anthropic/v1/organizations/api_keys", "account", ""),
        ("/anthropic/v1/oauth/token", "mints", ""),
    ],
)
def test_what_its_endpoints_are(path: str, cost: str, objects: str) -> None:
    """As at Anthropic itself."""
    operation = AZURE.operation("POST", path)
    assert operation is not None
    assert (operation.cost, operation.objects) == (cost, objects)
    matched = AZURE.match("DELETE", "/anthropic/v1/files/file_1")
    assert matched is not None
    assert matched.objects == ("file_1",)


@pytest.mark.parametrize(
    ("path", "claudes"),
    [
        (MESSAGES, True),
        ("/anthropic/v1/models", True),
        ("/anthropic", False),
        ("/openai/v1/chat/completions", False),
        ("/openai/anthropic/", False),
        ("", False),
    ],
)
def test_in_whose_form_a_call_is_refused(path: str, claudes: bool) -> None:
    """In Anthropic's below its path, also where that path is closed, and in OpenAI's everywhere else."""
    denial = Denial("budget_exceeded")
    body = json.loads(AZURE.at(path).error_body(denial, "call_1"))
    event = AZURE.at(path).last_event(denial, "call_1", Asked(kind="messages"))
    assert body["error"]["type"] == ("billing_error" if claudes else "insufficient_quota")
    assert (body.get("type") == "error") is claudes
    assert event.startswith(b"event: error\n") is claudes
