"""OpenAI's SDK for Node through the running gateway, by the proxy and by the base URL: it returns what it returns from the
stand-in itself, the stand-in receives the same, and a refusal is the SDK's own error and is not sent again.

The calls are made by tests/e2e/node/calls.mjs.
"""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import PLACEHOLDER, Road
from tests.support.openai_media import FILE, HEARD, answered
from tests.support.requires import program

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import (
    Behaviour,
    reply,
    reset_before_headers,
)

pytestmark = pytest.mark.requires("node-openai")

SCRIPT = Path(__file__).parent / "node" / "calls.mjs"
JSON = ("content-type", "application/json")
TOOL_CALL = {
    "id": "chatcmpl-tool",
    "object": "chat.completion",
    "created": 1_741_569_952,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "call_road",
                        "type": "function",
                        "function": {"name": "road", "arguments": '{"to": "渡し"}'},
                    }
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49},
}
# By call: what the stand-in does with each of its requests.
CALLS: dict[str, list[Behaviour]] = {
    "plain": [Behaviour()],
    "stream": [Behaviour()],
    "counted_stream": [Behaviour()],
    "embedding": [Behaviour()],
    "tool": [reply(200, json.dumps(TOOL_CALL).encode(), [JSON]), Behaviour()],
    "image": [Behaviour()],
    "response": [Behaviour(), Behaviour()],
    "upload": [answered(FILE)],
    "transcription": [answered(HEARD)],
    "realtime": [Behaviour()],
    "response_socket": [Behaviour()],
}
# Calls that are WebSockets, and how their answers end.
SOCKETS = {"realtime": "response.done", "response_socket": "response.completed"}
# Of the connection, not of the call. The gateway asks for answers that are not compressed, so that it can count them.
HOP = {"host", "connection", "content-length", "accept-encoding"}
# Chosen anew for each WebSocket, and what is offered but not taken.
HOP |= {"sec-websocket-key", "sec-websocket-extensions"}

ways = pytest.mark.parametrize("way", ["proxy", "base_url"])


def environment(road: Road, way: str) -> dict[str, str]:
    """All that Node is told."""
    if way == "base_url":
        return {"OPENAI_BASE_URL": road.base_url, "OPENAI_API_KEY": road.token}
    if way == "proxy":
        return {
            "HTTPS_PROXY": road.proxy_url,
            "NODE_EXTRA_CA_CERTS": str(road.ca_file),
            "OPENAI_API_KEY": PLACEHOLDER,
        }
    return {
        "OPENAI_BASE_URL": f"https://localhost:{road.standin.port}/v1",
        "NODE_EXTRA_CA_CERTS": str(road.directory / "provider-ca.pem"),
        "OPENAI_API_KEY": road.standin.key,
    }


def run(
    road: Road, way: str, *names: str, script: list[Behaviour] | None = None
) -> tuple[list[dict[str, Any]], list[Received]]:
    """What the SDK gave for each of the calls, and what the stand-in received."""
    road.standin.clear()
    road.standin.script(*(script or []))
    done = subprocess.run(
        [program("node-openai"), str(SCRIPT), *names],
        env=environment(road, way),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), road.standin.snapshot()


def limit(road: Road, *limits: str) -> None:
    wanted = {"project": road.project, "tenant": road.tenant, "limits": list(limits)}
    perform(load_config(road.gateway.config), "project_set", wanted)


def head(received: Received) -> tuple[str, str, list[tuple[str, str]]]:
    """What is the same from wherever it comes."""
    headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in received.headers]
    return (
        received.method,
        received.target,
        sorted((name, text(received, value)) for name, value in headers if name not in HOP),
    )


def text(received: Received, given: str) -> str:
    """Without the boundary of its form, which is another one each time."""
    _, _, boundary = received.get("content-type").partition("boundary=")
    return given.replace(boundary, "BOUNDARY") if boundary else given


@ways
def test_it_is_the_same_as_without_a_gateway(road: Road, way: str) -> None:
    """Objects, chunks, events and ids of requests on the one side; method, path, headers, bodies and messages on the other."""
    # This SDK speaks Realtime over TLS alone, whatever the base URL says.
    names = [name for name in CALLS if (way, name) != ("base_url", "realtime")]
    script = [behaviour for name in names for behaviour in CALLS[name]]
    straight, sent_straight = run(road, "direct", *names, script=script)
    through, sent = run(road, way, *names, script=script)
    assert through == straight
    assert [one["thrown"] for one in through] == [None] * len(names)
    returned = {name: one["returned"] for name, one in zip(names, through, strict=True)}
    assert through[0]["ids"] == ["req_000000000001"]
    assert returned["counted_stream"][-1]["usage"]["total_tokens"] > 0
    assert [len(vector["embedding"]) for vector in returned["embedding"][0]["data"]] == [1536, 1536]
    assert [one["choices"][0]["finish_reason"] for one in returned["tool"]] == [
        "tool_calls",
        "stop",
    ]
    assert returned["response"][-1]["type"] == "response.completed"
    assert returned["upload"] == [FILE]
    assert returned["transcription"] == [HEARD]
    for name, last in SOCKETS.items():
        assert name not in returned or returned[name][-1]["type"] == last
    assert [head(one) for one in sent] == [head(one) for one in sent_straight]
    assert len(sent) == len(script)
    for number, (one, other) in enumerate(zip(sent, sent_straight, strict=True)):
        if number == names.index("stream"):
            # The count that this client did not ask for is asked for, and is not shown to it.
            assert one.document() == {**other.document(), "stream_options": {"include_usage": True}}
        else:
            bodies = [text(each, each.body.decode("latin-1")) for each in (one, other)]
            assert bodies[0] == bodies[1]
        assert one.messages == other.messages
        assert one.bills == other.bills
    sockets = [one for one in sent if one.messages]
    assert len(sockets) == len(SOCKETS.keys() & names)
    lines = road.wait_lines(len(script))
    told = [(line["status"], line["charged_by"]) for line in lines]
    assert told.count((101, "usage")) == len(sockets)
    # A file that is kept for the caller costs a request.
    assert told.count((200, "none")) == 1
    assert told.count((200, "usage")) == len(script) - len(sockets) - 1
    assert {line["listener"] for line in lines} == {way}
    assert road.used() == sum(Decimal(line["cost_usd"]) for line in lines) > 0
    for line in lines:
        if line["status"] == 101:
            [bill] = next(one.bills for one in sockets if one.target.startswith(line["path"]))
            assert line["tokens"]["input"] == bill["input_tokens"]
            assert line["tokens"]["output"] == bill["output_tokens"]


@ways
def test_an_error_of_the_provider(road: Road, way: str) -> None:
    """Its own class and words. One that the SDK sends again is sent three times in all, and not three times three."""
    body = b'{"error":{"message":"No.","type":"invalid_request_error","param":"model","code":"x"}}'
    busy = reply(429, body, [JSON, ("retry-after-ms", "1")])
    script = [reply(400, body, [JSON]), *[busy] * 3]
    straight, sent_straight = run(road, "direct", "plain", "plain", script=script)
    through, sent = run(road, way, "plain", "plain", script=script)
    assert through == straight
    assert [(one["thrown"]["class"], one["thrown"]["status"]) for one in through] == [
        ("BadRequestError", 400),
        ("RateLimitError", 429),
    ]
    assert len(sent) == len(sent_straight) == 4


@ways
def test_a_provider_in_trouble(road: Road, way: str) -> None:
    """It fails, cuts a connection, and then answers: the SDK has its answer. One that fails on is asked three times in all."""
    failing = reply(500, b'{"error":{"message":"Broken.","type":"server_error"}}', [JSON])
    script = [failing, reset_before_headers(), Behaviour(), *[failing] * 3]
    (first, failed), sent = run(road, way, "plain", "plain", script=script)
    assert first["thrown"] is None
    assert first["returned"][0]["choices"]
    assert (failed["thrown"]["class"], failed["thrown"]["status"]) == ("InternalServerError", 500)
    assert len(sent) == len(script)
    lines = road.wait_lines(2)
    assert [len(line["attempts"]) for line in lines] == [3, 3]
    assert [line["status"] for line in lines] == [200, 500]


@ways
def test_a_refusal_is_not_sent_again(road: Road, way: str) -> None:
    """Each is one request, with our code and words in the class of its status, and nothing leaves. The SDK sends a 429 again
    unless it is told not to."""
    limit(road, "0.0001 usd/day", "0 requests/day")
    names = ("closed_path", "plain", "embedding", "upload", "response_socket")
    given, sent = run(road, way, *names)
    assert sent == []
    *thrown, socket = (one["thrown"] for one in given)
    assert [(one["class"], one["status"], one["code"], one["type"]) for one in thrown] == [
        ("PermissionDeniedError", 403, "path_not_allowed", "permission_error"),
        ("APIError", 402, "budget_exceeded", "insufficient_quota"),
        *[("RateLimitError", 429, "rate_limited", "rate_limit_error")] * 2,
    ]
    words = [
        "'/v1/engines' is not open",
        "may cost up to",
        *["Ask for a higher limit or a grant."] * 2,
    ]
    lines = road.wait_lines(5)
    assert len(lines) == 5
    # Of a handshake this SDK shows the status alone, and tries once whatever it is.
    assert socket["message"] == "Unexpected server response: 429"
    assert (lines[4]["path"], lines[4]["reason"]) == ("/v1/responses", "rate_limited")
    for one, said, line in zip(thrown, words, lines[:4], strict=True):
        assert said in one["message"]
        assert one["message"].endswith(f"[tollhouse: {one['code']}, call {line['call_id']}]")
        assert (line["reason"], line["status"]) == (one["code"], one["status"])


@ways
def test_a_stream_that_the_budget_ends(road: Road, way: str) -> None:
    """The chunks so far, and then the SDK's own error with our code and words; what was seen is paid."""
    limit(road, "0.025 usd/day")
    [one], sent = run(road, way, "stream", script=[Behaviour(text=" word" * 4000)])
    assert 1500 < len(one["returned"]) < 3500
    thrown = one["thrown"]
    assert (thrown["class"], thrown["code"]) == ("APIError", "budget_exceeded")
    assert "The budget does not cover" in thrown["message"]
    assert len(sent) == 1
    [line] = road.wait_lines(1)
    assert thrown["message"].endswith(f"[tollhouse: budget_exceeded, call {line['call_id']}]")
    assert (line["charged_by"], line["reason"]) == ("estimate", "budget_exceeded")
    # A token is 0.00001 USD. It may pass the limit by what one read of the provider's connection brought.
    cost = Decimal(line["cost_usd"])
    assert road.used("0.025 usd/day") == cost >= len(one["returned"]) * Decimal("0.00001")
    assert Decimal("0.022") < cost < Decimal("0.035")
