"""What a batch costs: its results are read line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.asked import Dialect, Request
from tollhouse.families.meters import AnswerHead, LateMeter, Later
from tollhouse.families.units import Charge, Units

HEAD = AnswerHead(200, [("content-type", "application/binary")])


def line(kind: str = "succeeded", **message: Any) -> bytes:
    result: dict[str, Any] = {"type": kind}
    if kind == "succeeded":
        usage = {"input_tokens": 90, "output_tokens": 7, "service_tier": "batch"}
        result["message"] = {"model": "claude-sonnet-4-5", "usage": usage} | message
    return json.dumps({"custom_id": "one", "result": result}).encode() + b"\n"


def read(data: bytes, size: int = 11) -> LateMeter:
    assert ANTHROPIC.late_meter is not None
    meter = ANTHROPIC.late_meter(
        Later("msgbatch_1", "/v1/messages/batches/msgbatch_1/results"), HEAD
    )
    for start in range(0, len(data), size):
        assert meter.feed(data[start : start + size]) == data[start : start + size]
    assert not meter.ended
    meter.flush()
    return meter


def begun(*more: dict[str, Any]) -> Later | None:
    """Where the usage of a batch is shown; each of ``more`` is what one request has beside its message."""
    operation = ANTHROPIC.operation("POST", "/v1/messages/batches")
    assert operation is not None
    params = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }
    requests = [{"custom_id": "one", "params": params | fields} for fields in more]
    body = json.dumps({"requests": requests}).encode()
    asked = ANTHROPIC.read(Request(operation, "/v1/messages/batches", [], body), Dialect())
    meter = ANTHROPIC.meter(asked, HEAD)
    meter.feed(b'{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}')
    found: Later | None = getattr(meter, "later", None)
    return found


def test_where_it_is_shown() -> None:
    """At its results."""
    assert begun({}) == Later("msgbatch_1", "/v1/messages/batches/msgbatch_1/results")


EXECUTION = {"type": "code_execution_20250825", "name": "code_execution"}
SEARCH = {"type": "web_search_20260209", "name": "web_search"}


@pytest.mark.parametrize(
    ("more", "charged"),
    [
        ([{}], 0),
        ([{"tools": [EXECUTION]}], 2),
        ([{"tools": [EXECUTION, SEARCH]}], 0),
        ([{"tools": [SEARCH]}, {"tools": [EXECUTION]}, {"fallbacks": "default"}], 2),
    ],
)
def test_containers(more: list[dict[str, Any]], charged: int) -> None:
    """Each line that names one is charged the least time, if a request of the batch asks for what is charged."""
    shown = begun(*more)
    assert shown is not None
    assert ANTHROPIC.late_meter is not None
    meter = ANTHROPIC.late_meter(shown, HEAD)
    meter.feed(line(container={"id": "container_1"}) + line() + line(container={"id": "c2"}))
    meter.flush()
    time = Units(milliseconds=charged * 300_000)
    tools = (Charge("code_execution", time, calls=charged),) if charged else ()
    assert (meter.ended, meter.finish()[1:]) == (True, tools)


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


STEPS = (32_000, 100_000, 128_000, 200_000, 256_000, 272_000, 512_000)


@given(st.lists(st.integers(1, 1_000_000) | st.sampled_from([*STEPS, *(n + 1 for n in STEPS)])))
def test_lines_of_different_lengths(lengths: list[int]) -> None:
    """Lines on both sides of a step of a price are never one item: the mean of an item is on the side of each of its lines."""
    meter = read(b"".join(map(of_length, lengths)), 1 << 20)
    items = meter.finish()
    assert sum(item.units.input for item in items) == sum(lengths)
    for start in STEPS:
        above = sum(item.calls for item in items if -(-item.units.input // item.calls) > start)
        assert above == sum(length > start for length in lengths)


def of_length(tokens: int) -> bytes:
    return line(usage={"input_tokens": tokens, "output_tokens": 1})


def test_one_long_line_among_short_ones() -> None:
    """Each is charged by its own length."""
    meter = read(of_length(1_000) * 99 + of_length(300_000), 1 << 20)
    assert meter.finish() == (
        Charge("claude-sonnet-4-5", Units(input=99_000, output=99, requests=99), "batch", calls=99),
        Charge("claude-sonnet-4-5", Units(input=300_000, output=1, requests=1), "batch"),
    )


def test_lines_of_all_lengths() -> None:
    meter = read(b"".join(map(of_length, range(1, 1_000_000, 997))), 1 << 20)
    assert (meter.ended, len(meter.finish())) == (True, 95)


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
        b"".join(line(model=f"m{number}") for number in range(257)),
    ],
)
def test_what_can_not_be_read(data: bytes) -> None:
    """What it costs is not known then: its hold stays."""
    assert not read(data, 1 << 16).ended
