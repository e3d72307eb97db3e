"""What the counts of an answer come to. The objects are of the SDK's own types where it has them."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Usage
from anthropic.types.beta import BetaUsage

from tollhouse.families.anthropic.usage import Reported, units_of
from tollhouse.families.units import Charge, Units


def _told(*usages: dict[str, Any], **message: Any) -> Reported:
    """An answer that begins with the first usage; each later one is a ``message_delta``'s."""
    told = Reported(executes=True)
    first, *later = usages
    told.message({"model": "claude-a", "usage": first, **message})
    for usage in later:
        told.delta(usage)
    return told


def _usage(**more: Any) -> dict[str, Any]:
    kind = BetaUsage if {"iterations", "speed"} & set(more) else Usage
    return kind.model_validate({"input_tokens": 10, "output_tokens": 5, **more}).model_dump()


@pytest.mark.parametrize(
    ("usage", "units"),
    [
        ({"input_tokens": 10, "output_tokens": 5}, Units(input=10, output=5, requests=1)),
        # The cache stands beside the input, and null says nothing.
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 300,
                "cache_read_input_tokens": 50,
                "output_tokens": 5,
            },
            Units(input=360, output=5, cached=50, cache_write=300, requests=1),
        ),
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": None,
                "cache_read_input_tokens": None,
                "cache_creation": None,
                "output_tokens": 5,
                "output_tokens_details": None,
                "server_tool_use": None,
            },
            Units(input=10, output=5, requests=1),
        ),
        # The split is of the total, and no addition.
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 300,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 100,
                    "ephemeral_1h_input_tokens": 200,
                },
                "output_tokens": 5,
            },
            Units(input=310, output=5, cache_write=300, cache_write_1h=200, requests=1),
        ),
        # A total that is larger than its split: what it does not tell is of the dearer kind.
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 400,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 100,
                    "ephemeral_1h_input_tokens": 200,
                },
                "output_tokens": 5,
            },
            Units(input=410, output=5, cache_write=400, cache_write_1h=300, requests=1),
        ),
        # A split without a total.
        (
            {
                "input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 7},
                "output_tokens": 0,
            },
            Units(input=17, cache_write=7, requests=1),
        ),
        # Thinking is a part of the output, never more than all of it.
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 9},
            },
            Units(input=10, output=5, reasoning=5, requests=1),
        ),
        # Counts that are none.
        ({"input_tokens": 10, "output_tokens": -1}, Units(input=10, requests=1)),
        (
            {"input_tokens": True, "cache_read_input_tokens": 4.0},
            Units(input=4, cached=4, requests=1),
        ),
        # Every request has input: a server that counts none sends zeros.
        ({"input_tokens": 0, "output_tokens": 5}, None),
        ({}, None),
    ],
)
def test_units(usage: dict[str, Any], units: Units | None) -> None:
    """The one normal form: the whole input with the cache, the whole output with thinking."""
    assert units_of(usage) == units


def test_later_counts_replace_the_earlier_ones() -> None:
    """They are cumulative: they are never added, and null or nothing keeps what was told."""
    told = _told(
        _usage(cache_read_input_tokens=100),
        {"output_tokens": 20, "input_tokens": None},
        {"output_tokens": 30},
    )
    assert told.charges() == (
        Charge("claude-a", Units(input=110, output=30, cached=100, requests=1)),
    )


def test_input_may_be_told_at_the_end() -> None:
    """Server tools raise it, and compatible servers tell it there for the first time."""
    later = {"input_tokens": 900, "cache_read_input_tokens": 70, "output_tokens": 30}
    assert _told({"input_tokens": 0, "output_tokens": 0}).charges() == ()
    assert _told({"input_tokens": 0, "output_tokens": 0}, later).charges() == (
        Charge("claude-a", Units(input=970, output=30, cached=70, requests=1)),
    )


def test_another_attempt_replaces_the_counts_of_the_one_that_declined() -> None:
    """A field that it lacks does not survive, and it is charged as its own model."""
    told = _told(_usage(cache_creation_input_tokens=800))
    told.fell_back("claude-b")
    told.delta({"input_tokens": 40, "output_tokens": 9})
    assert told.charges() == (Charge("claude-b", Units(input=40, output=9, requests=1)),)
    # If its input is not told, the other's stays: a lower bound is better than nothing.
    told = _told(_usage(cache_creation_input_tokens=800))
    told.fell_back(None)
    told.delta({"output_tokens": 9})
    assert told.charges() == (
        Charge("claude-a", Units(input=810, output=9, cache_write=800, requests=1)),
    )


def _iteration(kind: str, into: int, out: int, **more: Any) -> dict[str, Any]:
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"type": kind, "input_tokens": into, "output_tokens": out, **cache, **more}


def test_what_the_outer_counts_leave_out() -> None:
    """A summary of the context and an adviser, each with its own model. A turn of the message is in the outer
    counts."""
    usage = _usage(
        iterations=[
            _iteration("compaction", 700, 80),
            _iteration("message", 10, 5),
            _iteration("advisor_message", 300, 90, model="claude-opus-5"),
        ]
    )
    assert _told(usage).charges() == (
        Charge("claude-a", Units(input=10, output=5, requests=1)),
        Charge("claude-a", Units(input=700, output=80, requests=1)),
        Charge("claude-opus-5", Units(input=300, output=90, requests=1)),
    )


def test_a_declined_attempt() -> None:
    """It is free if it declined at once, and charged as its own model if it declined after its first words."""
    usage = _usage(
        iterations=[
            _iteration("message", 50, 0, model="claude-a"),
            _iteration("message", 60, 7, model="claude-b"),
            _iteration("message", 4, 2, model="claude-c"),
            _iteration("fallback_message", 6, 3, model="claude-c"),
        ]
    )
    assert _told(usage).charges() == (
        Charge("claude-c", Units(input=10, output=5, requests=1)),
        Charge("claude-b", Units(input=60, output=7, requests=1)),
    )


@pytest.mark.parametrize(
    ("more", "tier"),
    [
        ({}, ""),
        ({"service_tier": "standard", "speed": "standard", "inference_geo": "global"}, ""),
        ({"inference_geo": "not_available"}, ""),
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "batch"}, "batch"),
        ({"speed": "fast"}, "fast"),
        ({"service_tier": "standard", "speed": "fast", "inference_geo": "us"}, "fast+us"),
    ],
)
def test_tier(more: dict[str, Any], tier: str) -> None:
    """What was served decides: all words that change the price, in one order."""
    assert [charge.tier for charge in _told(_usage(**more)).charges()] == [tier]


def test_tools_have_charges_of_their_own() -> None:
    """Searches by their number, a container by the least time that it is charged for. Fetches cost nothing."""
    tools = {"web_search_requests": 3, "web_fetch_requests": 4}
    told = _told(_usage(server_tool_use=tools), container={"id": "container_1"})
    assert told.charges()[1:] == (
        Charge("web_search", Units(requests=3)),
        Charge("code_execution", Units(milliseconds=300_000)),
    )
    assert told.created == ("container_1",)


def test_a_name_that_could_not_stand_in_a_line() -> None:
    """It is no name; the model that was asked for counts then."""
    assert Reported().charges() == ()
    told = _told(_usage(), model="claude\n")
    assert [charge.model for charge in told.charges()] == [""]
