"""The Responses API over a WebSocket, through the running gateway, by OpenAI's own SDK."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from openai import OpenAI
from tests.support.billed import responses_tokens
from tests.support.gateway import Road, road, shared_road

from tollhouse.config.load import load_config
from tollhouse.control.client import perform

__all__ = ["road", "shared_road"]

MODEL = "gpt-4o-mini"


def connect(road: Road, **options: Any) -> Any:
    return road.sdk(**options).responses.connect(
        websocket_connection_options={"proxy": road.proxy_url, "ssl": road.context},
    )


def ask(session: Any, **fields: Any) -> list[Any]:
    session.response.create(**({"model": MODEL, "input": "Hello"} | fields))
    events = []
    for event in session:
        events.append(event)
        if event.type in ("response.completed", "response.failed"):
            return events
    raise AssertionError("the session ended without an answer")


def test_a_session(road: Road) -> None:
    """Two answers, the second behind the first: the line has what the provider's book has."""
    with connect(road) as session:
        first = ask(session)[-1].response
        second = ask(session, previous_response_id=first.id, max_output_tokens=100)[-1].response
    [received] = road.standin.snapshot()
    [line] = road.wait_lines(1)
    assert line["status"] == 101
    assert line["model"] == MODEL
    told = [first.usage, second.usage]
    assert [bill["total_tokens"] for bill in received.bills] == [one.total_tokens for one in told]
    assert line["tokens"] == responses_tokens(received.bills)
    assert line["units"] == {"requests": 2}
    assert line["charged_by"] == "usage"
    assert [json.loads(one)["type"] for one in received.messages] == ["response.create"] * 2
    assert received.get("authorization") == f"Bearer {road.standin.key}"


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "no-such-model-anywhere"},
        {"background": True},
    ],
)
def test_a_request_that_is_refused(road: Road, fields: dict[str, Any]) -> None:
    """It does not leave. The client gets the API's own failure, with our words, and a close."""
    with connect(road) as session:
        ask(session)
        failed = ask(session, **fields)[-1]
        with pytest.raises(Exception, match="1008"):
            session.recv()
    assert failed.type == "response.failed"
    assert failed.response.error.code == "invalid_prompt"
    [received] = road.standin.snapshot()
    assert len(received.messages) == 1
    [line] = road.wait_lines(1)
    assert line["reason"] in ("model_unpriced", "bad_request")
    assert line["tokens"] == responses_tokens(received.bills)


def test_another_tenants_response(road: Road) -> None:
    """Under a key that both use: the tenant itself may go on behind its response, in another session too; nobody else may."""
    with connect(road) as session:
        made = ask(session)[-1].response.id
    with connect(road) as session:
        assert ask(session, previous_response_id=made)[-1].type == "response.completed"
    config = load_config(road.gateway.config)
    perform(config, "project_set", {"project": "rivals", "tenant": "rival", "limits": []})
    token = str(perform(config, "token_create", {"projects": ["rivals"], "label": ""})["token"])
    rival = replace(road, project="rivals", token=token)
    with connect(rival) as session:
        failed = ask(session, previous_response_id=made)[-1]
    assert failed.type == "response.failed"
    assert "No call of tenant rival has made" in failed.response.error.message
    assert [len(one.messages) for one in road.standin.snapshot()] == [1, 1, 0]
    assert road.wait_lines(3)[-1]["reason"] == "object_not_yours"


def test_at_the_base_url(road: Road) -> None:
    """The gate token is the API key there."""
    client = OpenAI(api_key=road.token, base_url=road.base_url)
    with client.responses.connect() as session:
        assert ask(session)[-1].type == "response.completed"
    with client.realtime.connect(model="gpt-realtime") as session:
        session.response.create()
        assert any(event.type == "response.done" for event in iter(session.recv, None)) is True
    lines = road.wait_lines(2)
    assert [line["path"] for line in lines] == ["/v1/responses", "/v1/realtime"]
    assert {line["listener"] for line in lines} == {"base_url"}
    assert {line["charged_by"] for line in lines} == {"usage"}
