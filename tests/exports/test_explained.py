"""The sentences of a call, for each way in which one can end."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.book import empty_record
from tollhouse.denial import REASONS
from tollhouse.exports.bill import Item
from tollhouse.exports.explained import sentences


def told(*lines: dict[str, Any], items: tuple[Item, ...] = ()) -> str:
    whole = [{**empty_record(), "stream": False, "decision": "allow", **line} for line in lines]
    return "\n".join(sentences(whole, items))


@pytest.mark.parametrize("code", REASONS)
def test_every_refusal(code: str) -> None:
    """What happened, why, whose turn it is and what to do, whether or not the call had an identity."""
    reason = REASONS[code]
    text = told(
        {
            "decision": "deny",
            "reason": code,
            "gate": "gate",
            "status": reason.status,
            "why": "For this.",
        }
    )
    assert f"refused by the gate gate with {reason.status} {code}: {reason.what}" in text
    assert "For this." in text
    assert reason.todo in text
    assert ("may be sent again" in text) == reason.retry
    assert "Nothing was held for it" in text
    assert "somebody without a valid identity" in text


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ({"reason": "client_gone"}, "The workload closed the connection"),
        ({"reason": "stopped"}, "The gateway was stopped"),
        ({"reason": "swept", "charged_by": "sweep", "cost_usd": "1"}, "It cost 1 USD"),
        ({"charged_by": "later"}, "Nothing was charged yet"),
        ({"charged_by": "disconnect", "cost_usd": "0.5"}, "what had come by then was charged"),
        ({"reason": "new_way"}, "It ended with new_way."),
        ({"key_version": "login", "notional_usd": "0.2"}, "would have cost 0.2 USD"),
        ({"unsafe_fail_open": True, "held_usd": "1"}, "Redis was away"),
        ({"clamped": 7, "held_usd": "1"}, "Its output cap was lowered to 7 tokens"),
        ({"breaker": "half-open"}, "circuit breaker was half-open"),
        ({"attempts_unknown": 1, "attempts": [{"outcome": "upstream_timeout", "ms": 5}]}, "Of 1 of these"),
        ({"status": 200, "bytes": {"sent": 3, "received": 4}}, "3 bytes were sent and 4 received"),
    ],
)  # fmt: skip
def test_every_end(line: dict[str, Any], part: str) -> None:
    assert part in told(line)


def test_a_correction_names_what_it_takes_back() -> None:
    swept = {"charged_by": "sweep", "cost_usd": "2", "settled_by": "sweep"}
    text = told(swept, {"charged_by": "usage", "cost_usd": "1"})
    assert "It cost 1 USD" in text
    assert "Before that it had been charged 2 USD by a sweep, which was taken back." in text
