"""What a session of the Responses API may still cost, message by message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.dialogue import Dialogue, Terms
from tollhouse.families.openai import OPENAI
from tollhouse.families.openai.routes import RESPONSES_SOCKET

LIMITS = Limits(128_000, 16_384)


def opened() -> Dialogue:
    request = Request(RESPONSES_SOCKET, "/v1/responses", ())
    terms = Terms(request, "typical", Dialect(), lambda asked: LIMITS, lambda asked: asked)
    return OPENAI.dialogue(OPENAI.read(request, Dialect()), terms)


def asks(dialogue: Dialogue, now: float = 0.0, **fields: Any) -> Asked | None:
    event = {"type": "response.create", "model": "gpt-4o", "input": "Hello", **fields}
    return dialogue.heard(json.dumps(event).encode(), now)


def hears(dialogue: Dialogue, now: float = 0.0, **event: Any) -> None:
    dialogue.told(json.dumps(event).encode(), now)


def ends(kind: str = "completed", lane: str = "", **response: Any) -> dict[str, Any]:
    said = {"id": "resp_1", "status": kind, "model": "gpt-4o", **response}
    return {"type": f"response.{kind}", "response": said, **({"stream_id": lane} if lane else {})}


def outputs(dialogue: Dialogue, now: float = 0.0) -> list[int]:
    return [one.units.output for _, one in dialogue.exposed(now)]


USAGE = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}


def test_a_request_with_a_cap() -> None:
    dialogue = opened()
    assert outputs(dialogue) == []
    asked = asks(dialogue, max_output_tokens=100, previous_response_id="resp_0")
    assert asked is not None
    assert (asked.model, asked.cap, asked.objects) == ("gpt-4o", 100, ("resp_0",))
    assert outputs(dialogue) == [100]
    hears(dialogue, **ends(usage=USAGE))
    assert outputs(dialogue) == []
    assert [charge.units.tokens for charge in dialogue.charges] == [30]
    assert dialogue.created == ("resp_1",)


def test_a_request_without_a_cap() -> None:
    """It is exposed in slices, ahead of the output that was seen, or of what may have been thought in silence."""
    dialogue = opened()
    asks(dialogue)
    [first] = outputs(dialogue)
    assert first < LIMITS.answer
    hears(dialogue, type="response.output_text.delta", delta="a" * 4 * first)
    [more] = outputs(dialogue)
    assert more > first + 512
    thinking = opened()
    asks(thinking, model="gpt-5")
    assert outputs(thinking, 60.0)[0] > 6_000


def test_lanes() -> None:
    """Each answer ends the request of its own lane."""
    dialogue = opened()
    asks(dialogue, stream_id="a", max_output_tokens=100)
    asks(dialogue, stream_id="b", max_output_tokens=200)
    hears(dialogue, **ends(lane="b", usage=USAGE))
    assert outputs(dialogue) == [100]
    hears(dialogue, type="error", status=400, stream_id="a", error={"code": "bad"})
    assert outputs(dialogue) == []
    assert dialogue.requests == 2
    assert [charge.units.tokens for charge in dialogue.charges] == [30]


@pytest.mark.parametrize(("kind", "tokens"), [("completed", 100), ("failed", 5)])
def test_an_answer_without_usage(kind: str, tokens: int) -> None:
    """A whole one is charged its hold, one that failed what was seen."""
    dialogue = opened()
    asks(dialogue, max_output_tokens=100)
    hears(dialogue, type="response.output_text.delta", delta="a few words of text")
    hears(dialogue, **ends(kind, usage=None))
    assert [charge.units.output for charge in dialogue.charges] == [tokens]


def test_a_message_that_does_not_leave() -> None:
    dialogue = opened()
    asks(dialogue)
    asks(dialogue)
    dialogue.withdraw()
    assert (len(outputs(dialogue)), dialogue.requests) == (1, 1)
    dialogue.withdraw()
    assert len(outputs(dialogue)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "response.steer"},
        {"background": True},
        {"model": None},
        {"multi_agent": {"enabled": True}},
        {"Model": "gpt-5"},
    ],
)
def test_a_request_that_is_refused(fields: dict[str, Any]) -> None:
    dialogue = opened()
    with pytest.raises(Refused):
        asks(dialogue, **fields)
    assert outputs(dialogue) == []


def test_an_error_beside_an_answer_under_way() -> None:
    """It does not say whose it is. All stays held until as many have ended."""
    dialogue = opened()
    asks(dialogue, max_output_tokens=5_000)
    asks(dialogue, max_output_tokens=16)
    hears(dialogue, type="error", status=400, error={"code": "bad"})
    assert outputs(dialogue) == [5_000, 16]
    hears(dialogue, **ends(usage=USAGE))
    assert outputs(dialogue) == []
    assert [charge.units.tokens for charge in dialogue.charges] == [30]


TEXT = {"type": "response.output_text.delta", "delta": "sixteen letters."}
BAD = {"type": "error", "status": 500, "error": {"code": "bad"}}


@pytest.mark.parametrize("then", ["created", "error"])
def test_an_answer_that_breaks_before_others(then: str) -> None:
    """It ended in an error if another one begins, or fails, before it has ended: its input is charged, and what was seen."""
    dialogue = opened()
    asks(dialogue, max_output_tokens=5_000)
    asks(dialogue, max_output_tokens=16)
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    hears(dialogue, **TEXT)
    hears(dialogue, **BAD)
    assert outputs(dialogue) == [5_000, 16]
    assert [one.output_seen for one in dialogue.unfinished(0.0)] == [4, 0]
    if then == "error":
        hears(dialogue, **BAD)
    else:
        hears(dialogue, type="response.created", response={"id": "resp_2"})
        assert outputs(dialogue) == [16]
        hears(dialogue, **TEXT)
        assert [one.output_seen for one in dialogue.unfinished(0.0)] == [4]
        hears(dialogue, **ends(id="resp_2", usage=USAGE))
    assert outputs(dialogue) == []
    counted = 20 if then == "created" else 0
    assert sum(charge.units.output for charge in dialogue.charges) == 4 + counted


def test_an_answer_that_fails_by_two_events() -> None:
    """The others stay held, and are charged if the session ends."""
    dialogue = opened()
    asks(dialogue, max_output_tokens=5_000)
    asks(dialogue, max_output_tokens=16)
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    hears(dialogue, **TEXT)
    hears(dialogue, **BAD)
    hears(dialogue, **ends("failed", usage=None))
    assert outputs(dialogue) == [16]
    assert [charge.units.output for charge in dialogue.charges] == [4]


def test_errors_alone() -> None:
    dialogue = opened()
    for _ in range(2):
        asks(dialogue)
        asks(dialogue)
        for _ in range(2):
            hears(dialogue, type="error", status=400, error={"code": "bad"})
        assert outputs(dialogue) == []
    assert dialogue.charges == ()


IMAGES = [{"type": "image_generation", "model": "gpt-image-1"}]


def test_the_tools_of_another_lane() -> None:
    """An answer's tools are charged by the request that it answers, and not by the last one."""
    dialogue = opened()
    asks(dialogue, stream_id="a", tools=IMAGES)
    asks(dialogue, stream_id="b")
    drawn = {"image_gen": {"input_tokens": 10, "output_tokens": 4_000}}
    hears(dialogue, type="response.created", stream_id="a", response={"id": "resp_1"})
    hears(dialogue, **ends(lane="a", usage=USAGE, tool_usage=drawn))
    assert [charge.model for charge in dialogue.charges] == ["gpt-4o", "gpt-image-1"]


def test_other_tools_in_the_same_lane() -> None:
    dialogue = opened()
    asks(dialogue, tools=IMAGES)
    with pytest.raises(Refused) as refused:
        asks(dialogue)
    assert "other tools" in refused.value.denial.message
    assert len(outputs(dialogue)) == 1


def test_many_requests_at_one_time() -> None:
    dialogue = opened()
    for _ in range(64):
        asks(dialogue)
    with pytest.raises(Refused) as refused:
        asks(dialogue)
    assert "64 requests" in refused.value.denial.message
