"""What a batch costs: its results are read line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.anthropic.batches import BatchResults
from tollhouse.families.base import AnswerHead, Dialect, Later, Request
from tollhouse.families.units import Charge, Units

HEAD = AnswerHead(200, [("content-type", "application/binary")])


def line(kind: str = "succeeded", **message: Any) -> bytes:
    result: dict[str, Any] = {"type": kind}
    if kind == "succeeded":
        usage = {"input_tokens": 90, "output_tokens": 7, "service_tier": "batch"}
        result["message"] = {"model": "claude-sonnet-4-5", "usage": usage} | message
    return json.dumps({"custom_id": "one", "result": result}).encode() + b"\n"


def read(data: bytes, size: int = 11) -> BatchResults:
    meter = BatchResults()
    for start in range(0, len(data), size):
        assert meter.feed(data[start : start + size]) == data[start : start + size]
    assert not meter.ended
    meter.flush()
    return meter


def test_where_it_is_shown() -> None:
    """At its results."""
    operation = ANTHROPIC.operation("POST", "/v1/messages/batches")
    assert operation is not None
    params = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }
    body = json.dumps({"requests": [{"custom_id": "one", "params": params}]}).encode()
    asked = ANTHROPIC.read(Request(operation, "/v1/messages/batches", [], body), Dialect())
    meter = ANTHROPIC.meter(asked, HEAD)
    meter.feed(b'{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}')
    assert getattr(meter, "later", None) == Later(
        "msgbatch_1", "/v1/messages/batches/msgbatch_1/results"
    )


@pytest.mark.parametrize("size", [1, 11, 1 << 20])
def test_lines_are_added(size: int) -> None:
    """By model, at the price of a batch. What has not succeeded costs nothing; a tool's uses stand behind the models."""
    searched = {
        "usage": {
            "input_tokens": 10,
            "output_tokens": 1,
            "server_tool_use": {"web_search_requests": 2},
        }
    }
    data = line() + line("errored") + line("expired") + line(**searched)
    data += line(model="claude-opus-4-5") + line("canceled").rstrip(b"\n")
    meter = read(data, size)
    assert (meter.ended, meter.error) == (True, "")
    assert meter.finish() == (
        Charge("claude-sonnet-4-5", Units(input=100, output=8, requests=2), "batch", calls=2),
        Charge("claude-opus-4-5", Units(input=90, output=7, requests=1), "batch"),
        Charge("web_search", Units(requests=2)),
    )


def test_nothing_has_succeeded() -> None:
    """It costs nothing."""
    meter = read(line("errored") + line("canceled"))
    assert (meter.ended, meter.error, meter.finish()) == (True, "failed", ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        line() + b"no JSON\n",
        line() + line()[:-20],
        line() + b"[]\n",
        line() + b'{"custom_id":"one"}\n',
        line(usage=None),
        line() + b'{"x":"' + b"x" * (1 << 20) + b'"}\n',
        b"".join(line(model=f"m{number}") for number in range(65)),
    ],
)
def test_what_can_not_be_read(data: bytes) -> None:
    """What it costs is not known then: its hold stays."""
    assert not read(data, 1 << 16).ended
