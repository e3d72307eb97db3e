"""How much is held, seen from outside: at worst no limit is passed, whatever a tokenizer makes of the text."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.gateway import Road, open_road
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, reply

URL = "https://api.openai.com/v1/chat/completions"
LIMITS = ["0.5 usd/day", "150000 tokens/day"]
ALPHABETS = (
    range(0x20),
    range(0x20, 0x7F),
    range(0x300, 0x370),
    range(0x4E00, 0x9FFF),
    range(0x1F300, 0x1F700),
    range(0xA0, 0xD800),
    range(0x10000, 0x110000),
)


def texts(count: int) -> list[str]:
    """Random UTF-8, about 3 kB each, of one script or of all."""
    dice = random.Random(7)
    found = []
    for _ in range(count):
        alphabets = dice.choice([ALPHABETS, [dice.choice(ALPHABETS)]])
        found.append(
            "".join(
                chr(dice.choice(dice.choice(alphabets))) for _ in range(dice.randrange(500, 1_500))
            )
        )
    return found


def byte_tokens(text: str, output: int) -> dict[str, int]:
    """What a provider counts whose tokenizer finds a token in each byte."""
    into = len(text.encode()) + 8 + 70
    return {"prompt_tokens": into, "completion_tokens": output, "total_tokens": into + output}


def answer(text: str, output: int, *, stream: bool) -> Behaviour:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
    }
    usage = byte_tokens(text, output)
    if not stream:
        body |= {"object": "chat.completion", "choices": [], "usage": usage}
        return reply(200, json.dumps(body).encode(), [("content-type", "application/json")])
    body |= {"object": "chat.completion.chunk", "choices": []}
    frames = [{**body, "usage": None}, {**body, "usage": usage}]
    data = (
        b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames)
        + b"data: [DONE]\n\n"
    )
    return reply(200, data, [("content-type", "text/event-stream")])


def spend(inside: Inside) -> tuple[int, bool]:
    """Sends random texts until all are refused: how many were served, and whether a limit was passed at any time."""
    served, passed = 0, False
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        for number, text in enumerate(texts(80)):
            stream, cap = bool(number % 2), number % 7 * 10 + 1
            inside.standin.always(answer(text, cap, stream=stream))
            body = {
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": text}],
                "stream": stream,
            }
            data = json.dumps(
                {**body, "max_completion_tokens": cap}, ensure_ascii=bool(number % 3)
            ).encode()
            status = client.post(
                URL, content=data, headers={"content-type": "application/json"}
            ).status_code
            assert status in (200, 402, 429)
            served += status == 200
            inside.until(lambda gateway: not gateway.purse.held)
            limits = inside.budget().values()
            assert all(Decimal(limit["held"]) == 0 for limit in limits)
            passed = passed or any(Decimal(limit["left"]) < 0 for limit in limits)
            passed = passed or any(
                Decimal(limit["used"]) > Decimal(limit["limit"].split()[0]) for limit in limits
            )
    assert len(inside.standin.snapshot()) == served
    return served, passed


@pytest.mark.parametrize("estimate", ["worst", "typical"])
def test_random_text_at_a_token_a_byte(tmp_path: Path, estimate: str) -> None:
    """Worst never passes a limit, while it lets through what fits; typical does, which shows that it can happen."""
    settings = {"projects.proj_123": {"tenant": "acme", "limits": LIMITS, "estimate": estimate}}
    with open_inside(tmp_path, settings) as inside:
        served, passed = spend(inside)
        assert passed is (estimate == "typical")
        assert served > 30
        lines = inside.lines()
        worst = max(Decimal(line["cost_usd"]) - Decimal(line["held_usd"]) for line in lines)
        assert (worst > 0) is (estimate == "typical")


def test_it_is_set_by_the_command(road: Road) -> None:
    """While the gateway runs; a token a byte and the template, at the price of the dearest tier."""
    tollhouse = road.gateway.tollhouse
    shown = json.loads(tollhouse("project", "set", road.project, "--estimate", "worst", "--json"))
    assert shown["estimate"] == "worst"
    assert json.loads(tollhouse("project", "show", road.project, "--json")) == shown
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "x" * 4_000}],
        "max_tokens": 5,
    }
    with road.http() as client:
        assert client.post(URL, json=body).status_code == 200
        assert client.post(URL, json={**body, "service_tier": "default"}).status_code == 200
    held = [Decimal(line["held_usd"]) * 1_000_000 for line in road.wait_lines(2)]
    assert held == [Decimal("4.25") * 5_040 + 17 * 5, Decimal("2.5") * 5_040 + 10 * 5]


def test_input_that_is_elsewhere_and_a_missing_cap(tmp_path: Path) -> None:
    """The context window and the longest answer of the model, from the price table and from what is known of it."""
    with open_road(tmp_path, {"providers.openai": {"share_objects": True}}) as road:
        _elsewhere(road)


def _elsewhere(road: Road) -> None:
    file = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]
    plain = [{"role": "user", "content": "hi"}]
    with road.http() as client:
        for model in ("gpt-4o", "gpt-4.1"):
            for messages, more in ((file, {"max_completion_tokens": 1}), (plain, {})):
                assert (
                    client.post(
                        URL, json={"model": model, "messages": messages, **more}
                    ).status_code
                    == 200
                )
    held = [Decimal(line["held_usd"]) * 1_000_000 for line in road.wait_lines(4)]
    assert held[0] == Decimal("2.5") * 128_000 + 10
    assert held[1] == Decimal("2.5") * 8 + 10 * 16_384
    assert held[2] == 2 * 1_000_000 + 8
    assert held[3] == 2 * 8 + 8 * 32_768
