"""Which model a request to Azure names, and when its stream is made to tell its usage."""

from __future__ import annotations

import pytest

from tollhouse.denial import Refused
from tollhouse.families.azure import AZURE
from tollhouse.families.base import Asked, Dialect, Request

CHAT = "/openai/deployments/my-deployment/chat/completions"
V1 = "/openai/v1/chat/completions"
BODY = b'{"messages":[],"max_tokens":7}'
NAMED = b'{"model":"other","messages":[]}'
STREAM = b'{"model":"m","messages":[],"stream":true}'


def read(path: str, body: bytes, query: str = "") -> Asked:
    operation = AZURE.operation("POST", path)
    assert operation is not None
    return AZURE.read(Request(operation, path, (), body, query), Dialect("on_request"))


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        (CHAT, BODY, "my-deployment"),
        (CHAT, NAMED, "my-deployment"),
        (CHAT, b" { } ", "my-deployment"),
        (CHAT, b'{"tools":[{"model":"x"}]}', "my-deployment"),
        (V1, NAMED, "other"),
        ("/openai/deployments/a.b_c-1/embeddings", b'{"input":"a"}', "a.b_c-1"),
    ],
)
def test_the_deployment_is_the_model(path: str, body: bytes, model: str) -> None:
    """The path's, whatever the body says; at the v1 path the body's."""
    assert read(path, body).model == model


def test_a_body_without_a_model_is_sent_as_it_came() -> None:
    """What is read beside it is the same, and only a lowered cap changes it."""
    asked = read(CHAT, BODY)
    assert asked.cap == 7
    assert AZURE.rewrite(BODY, asked) == BODY
    lowered = AZURE.rewrite(BODY, asked._replace(lowered_to=3))
    assert lowered == b'{"messages":[],"max_tokens":3}'


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (CHAT, b'{"n":0}', '"n" must be'),
        (CHAT, b'{"model":5}', '"model" must be'),
        (CHAT, b'{"a":1,"a":2}', '"a" twice'),
        (CHAT, b"{", "not valid JSON"),
        (CHAT, b"no", "not valid JSON"),
        (V1, BODY, 'no "model"'),
    ],
)
def test_what_is_refused(path: str, body: bytes, why: str) -> None:
    """As of OpenAI, and a body without a model where the path names none."""
    with pytest.raises(Refused) as refused:
        read(path, body)
    assert why in refused.value.denial.why


@pytest.mark.parametrize(
    ("query", "asks"),
    [
        ("", True),
        ("api-version=2024-10-21", True),
        ("api-version=2024-09-01-preview", True),
        ("api-version=2024-08-01-preview", False),
        ("a=b&api-version=2023-05-15", False),
        ("api-version=preview", True),
    ],
)
def test_which_versions_are_asked_for_their_usage(query: str, asks: bool) -> None:
    """Those that know the option."""
    assert read(CHAT, STREAM, query).asks_for_usage is asks


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/a/b/chat/completions",
        "/openai/deployments/a%20b/chat/completions",
        "/openai/deployments/d/models",
        "/openai/deployments",
        "/openai/chat/completions",
        "/v1/chat/completions",
        "/v1/messages",
    ],
)
def test_what_is_closed(path: str) -> None:
    """What is no path of Azure's, and what is not open."""
    assert AZURE.operation("POST", path) is None
    assert AZURE.operation("GET", path) is None
