"""Attempts of unknown fate: their requests were sent and no answer came, so that the provider may charge for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, Latch, reset_before_headers

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "two words"}], "max_tokens": 50}
# By 2.50 and 10 USD a million tokens: 10 tokens in, and 50 out.
INPUT, HOLD = "0.000025", "0.000525"


@contextlib.contextmanager
def a_gateway(
    directory: Path, *, estimate: str = "typical", limit: str = "1 usd/day"
) -> Iterator[Inside]:
    """It makes two attempts, and waits for an answer only shortly."""
    settings: dict[str, dict[str, Any]] = {
        "providers.openai": {"attempts": 2, "answer_timeout_s": 0.3},
        'prices."openai/gpt-4o"': {"input": "2.50", "output": "10"},
        "projects.proj_123": {"tenant": "acme", "limits": [limit], "estimate": estimate},
    }
    with open_inside(directory, settings) as inside:
        yield inside


def called(inside: Inside, status: int) -> dict[str, Any]:
    """The line of one call, which is all that its budget was charged."""
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        assert client.post(URL, json=BODY).status_code == status
    [line] = inside.lines()
    [limit] = inside.budget().values()
    assert Decimal(limit["used"]) == Decimal(line["cost_usd"])
    assert (limit["held"], inside.held()) == ("0", [])
    return line


def usage_of(line: dict[str, Any]) -> Decimal:
    tokens = line["tokens"]
    return (tokens["input"] * Decimal("2.50") + tokens["output"] * Decimal(10)) / 10**6


def test_our_time_out_is_charged_the_hold_once(tmp_path: Path) -> None:
    """The provider worked on it: 504, and the hold is the charge, not once an attempt."""
    gate = Latch()
    with a_gateway(tmp_path) as inside:
        inside.standin.always(Behaviour(wait=gate))
        line = called(inside, 504)
        gate.open()
    assert [attempt["outcome"] for attempt in line["attempts"]] == ["upstream_timeout"] * 2
    assert (line["attempts_unknown"], line["reason"]) == (2, "upstream_timeout")
    assert (line["charged_by"], line["cost_usd"], line["held_usd"]) == ("hold", HOLD, HOLD)


def test_lost_connections_are_charged_the_input_once(tmp_path: Path) -> None:
    """Of each the provider may have read the request: 502, and the input's estimate is the charge."""
    with a_gateway(tmp_path) as inside:
        inside.standin.always(reset_before_headers())
        line = called(inside, 502)
    assert (line["attempts_unknown"], line["reason"]) == (2, "upstream_unreachable")
    assert (line["charged_by"], line["cost_usd"], line["held_usd"]) == ("estimate", INPUT, HOLD)


def test_a_time_out_weighs_more_than_a_lost_connection(tmp_path: Path) -> None:
    """One of each, in either order, is charged the hold."""
    gate = Latch()
    with a_gateway(tmp_path) as inside:
        inside.standin.script(Behaviour(wait=gate), reset_before_headers())
        line = called(inside, 502)
        gate.open()
    assert [attempt["outcome"] for attempt in line["attempts"]] == [
        "upstream_timeout",
        "upstream_unreachable",
    ]
    assert (line["charged_by"], line["cost_usd"]) == ("hold", HOLD)


def test_an_attempt_that_succeeds_later_is_charged_alone(tmp_path: Path) -> None:
    """Whatever became of the first."""
    with a_gateway(tmp_path) as inside:
        inside.standin.script(reset_before_headers())
        line = called(inside, 200)
    assert (line["attempts_unknown"], line["charged_by"]) == (1, "usage")
    assert Decimal(line["cost_usd"]) == usage_of(line)


def test_at_worst_each_is_charged_its_hold(tmp_path: Path) -> None:
    """The second was held for before it was made."""
    with a_gateway(tmp_path, estimate="worst") as inside:
        inside.standin.always(reset_before_headers())
        line = called(inside, 502)
        assert len(inside.standin.snapshot()) == 2
    assert (line["attempts_unknown"], line["charged_by"]) == (2, "hold")
    assert line["cost_usd"] == line["held_usd"]
    # 1,049 tokens of input are the most that the request can come to.
    assert Decimal(line["cost_usd"]) == 2 * Decimal("0.0031225")


def test_at_worst_there_is_no_repeat_without_room_for_its_hold(tmp_path: Path) -> None:
    """The limit is enough for one: the provider sees one request, and the limit is not passed."""
    with a_gateway(tmp_path, estimate="worst", limit="0.005 usd/day") as inside:
        inside.standin.always(reset_before_headers())
        line = called(inside, 502)
        assert len(inside.standin.snapshot()) == 1
    assert (line["attempts_unknown"], line["charged_by"], line["cost_usd"]) == (
        1,
        "hold",
        "0.0031225",
    )


def test_at_worst_a_success_adds_to_what_was_lost(tmp_path: Path) -> None:
    """The hold of the first, and the usage of the second."""
    with a_gateway(tmp_path, estimate="worst") as inside:
        inside.standin.script(reset_before_headers())
        line = called(inside, 200)
    assert (line["attempts_unknown"], line["charged_by"]) == (1, "usage")
    assert Decimal(line["cost_usd"]) == Decimal("0.0031225") + usage_of(line)
