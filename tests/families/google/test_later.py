"""Interactions that Google goes on with: what an answer says of their usage, then and when they are over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.families.samples.google import crlf

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.base import Family
from tollhouse.families.google import GOOGLE
from tollhouse.families.meters import AnswerHead, LateMeter, Later, Meter
from tollhouse.families.units import Charge, Units
from tollhouse.families.vertex import VERTEX

HEAD = AnswerHead(200, [("content-type", "application/json")])
PATH = "/v1beta/interactions"
MODEL = "gemini-3.5-flash"
USAGE = {"total_input_tokens": 90, "total_output_tokens": 7, "total_tokens": 97}
ZEROS = dict.fromkeys(USAGE, 0)
UNITS = Units(input=90, output=7, requests=1)
BEGUN = {"id": "v1_a", "object": "interaction", "status": "in_progress", "model": MODEL}
OVER = BEGUN | {"status": "completed", "usage": USAGE}
BACKGROUND = {"model": MODEL, "input": "a", "background": True}
AGENT = {"agent": "deep-research", "input": "a"}


def asked(body: dict[str, Any], path: str = PATH, family: Family = GOOGLE) -> Asked:
    operation = family.operation("POST", path)
    assert operation is not None
    return family.read(Request(operation, path, (), json.dumps(body).encode()), Dialect())


def fed[M: Meter](meter: M, answer: Any, size: int = 7) -> M:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    for start in range(0, len(data), size):
        part = data[start : start + size]
        assert meter.feed(part) == part
    meter.flush()
    return meter


def first(body: dict[str, Any], answer: Any, path: str = PATH, family: Family = GOOGLE) -> Meter:
    return fed(family.meter(asked(body, path, family), HEAD), answer)


def late(facts: str, answer: Any) -> LateMeter:
    assert GOOGLE.late_meter is not None
    return fed(
        GOOGLE.late_meter(Later("v1_abc", "/v1beta/interactions/v1_abc", facts), HEAD), answer
    )


def later(meter: Meter) -> Later | None:
    found: Later | None = getattr(meter, "later", None)
    return found


def event(kind: str, interaction: dict[str, Any] | None = None, **more: Any) -> str:
    inner = {} if interaction is None else {"interaction": interaction}
    return json.dumps({"event_type": kind, **inner, **more})


@pytest.mark.parametrize("usage", [None, ZEROS, {"total_input_tokens": 90, "total_tokens": 90}])
@pytest.mark.parametrize("body", [BACKGROUND, AGENT])
def test_one_that_goes_on(body: dict[str, Any], usage: Any) -> None:
    """Where it is shown, with its tools and its tier. What has been counted by now is a part."""
    body = body | {"service_tier": "flex", "tools": [{"type": "retrieval"}]}
    meter = first(body, BEGUN | {"usage": usage})
    assert meter.finish() == ()
    found = later(meter)
    assert found is not None
    assert (found.id, found.path) == ("v1_a", "/v1beta/interactions/v1_a")
    over = late(found.facts, OVER)
    assert over.ended
    assert over.finish() == (
        Charge(MODEL, UNITS, "flex"),
        Charge("retrieval", Units(requests=1)),
    )


def test_one_of_vertex() -> None:
    """It is shown in the same project and place."""
    path = "/v1beta1/projects/p/locations/global/interactions"
    found = later(first(BACKGROUND, BEGUN, path, VERTEX))
    assert found is not None
    assert found.path == f"{path}/v1_a"
    assert VERTEX.late_meter is not None
    for family, at in ((VERTEX, found.path), (GOOGLE, "/v1beta/interactions/v1_a")):
        for method, end in (("GET", ""), ("POST", "/cancel")):
            operation = family.operation(method, at + end)
            assert operation is not None
            assert operation.shows_usage


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"model": MODEL, "input": "a"}, {}),
        (BACKGROUND, {"status": "completed", "usage": USAGE}),
        (BACKGROUND, {"status": "failed"}),
        (BACKGROUND | {"store": False}, {}),
        (BACKGROUND, {"id": ".."}),
        (BACKGROUND, {"id": "../files"}),
        (BACKGROUND, {"id": None}),
        (BACKGROUND, {"id": "v" * 201}),
    ],
)
def test_nothing_comes_later(body: dict[str, Any], answer: dict[str, Any]) -> None:
    """It does not go on, it is over, or it can't be asked for."""
    assert later(first(body, BEGUN | answer)) is None


@pytest.mark.parametrize("body", [BACKGROUND, AGENT])
def test_a_stream_that_is_left(body: dict[str, Any]) -> None:
    """Its usage comes later, and it is no stream that could be charged by what was seen of it. One that
    came to its end has its usage."""
    body = body | {"stream": True}
    begun = crlf(event("interaction.created", BEGUN), event("step.delta", delta={"text": "Hello."}))
    left = first(body, begun)
    found = later(left)
    assert found is not None
    assert (left.boundary, left.finish()) == (None, ())
    updated = begun + crlf(event("interaction.status_update", status="completed"))
    assert later(first(body, updated)) == found
    ended = begun + crlf(event("interaction.completed", OVER), "[DONE]")
    whole = first(body, ended)
    assert (later(whole), whole.done) == (None, True)
    assert whole.finish() == (Charge(MODEL, UNITS),)
    assert late(found.facts, ended).finish() == (Charge(MODEL, UNITS),)
    assert not late(found.facts, updated).ended


def test_an_end_that_is_too_long_to_be_read() -> None:
    """Its usage is asked for."""
    long = OVER | {"steps": ["a" * (1 << 21)]}
    body = BACKGROUND | {"stream": True}
    begun = crlf(event("interaction.created", BEGUN))
    meter = fed(
        GOOGLE.meter(asked(body), HEAD), begun + crlf(event("interaction.completed", long)), 1 << 16
    )
    found = later(meter)
    assert found is not None
    over = GOOGLE.late_meter
    assert over is not None
    shown = fed(over(found, HEAD), long, 1 << 16)
    assert (shown.ended, shown.finish()) == (True, (Charge(MODEL, UNITS),))


@pytest.mark.parametrize("status", ["queued", "in_progress", "idle", "a new one", None, 3])
def test_one_that_is_not_over(status: Any) -> None:
    assert not late("", OVER | {"status": status}).ended


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": "failed"}, "failed"),
        ({"status": "failed", "error": {"code": "internal", "message": "m"}}, "internal"),
        ({"status": "failed", "usage": ZEROS}, "failed"),
        ({"status": "cancelled", "usage": ZEROS}, ""),
        ({"status": "completed"}, ""),
    ],
)
def test_one_without_usage(answer: dict[str, Any], error: str) -> None:
    """Only one that has failed is known to cost nothing. Zeros are no count."""
    over = late('[""]', BEGUN | answer)
    assert (over.ended, over.error, over.finish()) == (True, error, ())


@pytest.mark.parametrize("facts", ["", "no JSON", "[]", "{}", "3"])
def test_facts_of_another_version(facts: str) -> None:
    """They harm no count."""
    assert late(facts, OVER).finish() == (Charge(MODEL, UNITS),)
