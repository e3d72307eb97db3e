"""When money runs short: the cap is lowered, a stream ends with the SDK's own error, models and scopes are judged."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.clock import Clock
from tests.support.gateway import Road, open_road
from tests.support.inproc import open_inside

from tollhouse.demo.standin_script import Behaviour, Latch, Steps

URL = "https://api.openai.com/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]


def limit(road: Road, *words: str) -> None:
    road.gateway.tollhouse("project", "set", road.project, *words)


def test_clamp_lowers_the_cap_to_what_is_left(road: Road) -> None:
    """The provider received the lower cap and nothing else was changed; the answer is within the budget."""
    limit(road, "--limit", "0.001 usd/day", "--on-shortfall", "clamp")
    body = {"model": "gpt-4o", "messages": MESSAGES, "max_completion_tokens": 5000}
    with road.http() as client:
        answer = client.post(URL, json=body)
    assert answer.status_code == 200
    cap = int(answer.headers["x-tollhouse-clamped"])
    [received] = road.standin.wait_count(1)
    assert received.document() == {**body, "max_completion_tokens": cap}
    assert 50 < cap < 100
    [line] = road.wait_lines(1)
    assert line["clamped"] == cap
    assert Decimal("0.00098") < Decimal(line["held_usd"]) <= Decimal("0.001")
    assert road.used("0.001 usd/day") == Decimal(line["cost_usd"]) < Decimal("0.001")


def test_clamp_changes_nothing_where_there_is_room(road: Road) -> None:
    """Neither the body nor the headers."""
    limit(road, "--limit", "1 usd/day", "--on-shortfall", "clamp")
    raw = b'{ "model":"gpt-4o" ,"messages":[{"role":"user","content":"h"}],"max_tokens" : 50 }'
    with road.http() as client:
        answer = client.post(URL, content=raw, headers={"content-type": "application/json"})
    assert "x-tollhouse-clamped" not in answer.headers
    assert road.standin.wait_count(1)[0].body == raw
    assert road.wait_lines(1)[0]["clamped"] is None


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_clamp_gives_a_cap_to_a_request_without_one(road: Road, stream: bool) -> None:
    """By tokens as well as by money: the tighter of the two, for each of two answers."""
    limit(road, "--limit", "1 usd/day", "--limit", "500 tokens/day", "--on-shortfall", "clamp")
    with road.http() as client:
        answer = client.post(
            URL, json={"model": "gpt-4o", "messages": MESSAGES, "n": 2, "stream": stream}
        )
    assert answer.status_code == 200
    cap = road.standin.wait_count(1)[0].document()["max_completion_tokens"]
    assert answer.headers["x-tollhouse-clamped"] == str(cap)
    assert 200 < cap < 250
    assert road.budget()["500 tokens/day"]["held"] == "0"


def test_clamp_refuses_when_nothing_is_left(road: Road) -> None:
    """Not even the input fits, or what is short is no money: 402 and 429, as without it."""
    limit(road, "--limit", "0.00001 usd/day", "--on-shortfall", "clamp")
    with road.http() as client:
        answer = client.post(URL, json={"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 50})
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            402,
            "budget_exceeded",
        )
        limit(road, "--limit", "1 usd/day", "--limit", "0 concurrent")
        answer = client.post(URL, json={"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 50})
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            429,
            "concurrency_limited",
        )
    assert road.standin.snapshot() == []


@pytest.mark.parametrize("usage", [False, True], ids=["usage added", "usage asked"])
def test_a_stream_that_runs_out_of_money(road: Road, usage: bool) -> None:
    """The SDK sees the answer so far and then its own error; the provider's connection is closed; what was seen is paid."""
    import openai

    limit(road, "--limit", "0.025 usd/day")
    steps = Steps()
    steps.release(200)
    road.standin.script(Behaviour(text=" word" * 4000, steps=steps))
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    seen: list[str] = []
    stream = road.sdk(max_retries=0).chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, **options
    )

    def read() -> None:
        for chunk in stream:
            seen.extend(choice.delta.content or "" for choice in chunk.choices)
            # The provider is never more than 200 pieces ahead of what was read here.
            steps.release(1)

    with pytest.raises(openai.APIError, match="budget does not cover") as raised:
        read()
    assert type(raised.value) is openai.APIError
    assert raised.value.code == "budget_exceeded"
    # It names what was asked for beyond the hold, which did not fit; not the hold, which did.
    [wanted] = re.findall(r"may cost up to ([0-9.]+) USD", raised.value.message)
    assert Decimal(wanted) > Decimal("0.025")
    assert 1500 < "".join(seen).count(" word") < 2600
    assert road.standin.wait_for(lambda book: book[0].outcome == "client_gone")
    [line] = road.wait_lines(1)
    assert (line["charged_by"], line["reason"], line["gate"], line["status"]) == (
        "estimate",
        "budget_exceeded",
        "budget",
        200,
    )
    cost = Decimal(line["cost_usd"])
    assert road.used("0.025 usd/day") == cost
    # It may pass the limit by what one read of the provider's connection brought, here 200 tokens.
    assert abs(cost - Decimal("0.025")) < Decimal("0.003")
    assert road.budget()["0.025 usd/day"]["held"] == "0"
    steps.release_all()


def test_a_long_stream_within_its_budget_is_held_as_it_goes(road: Road) -> None:
    """One slice at first, more later, the usage in the end; never the provider's whole default cap."""
    limit(road, "--limit", "0.10 usd/day")
    steps = Steps()
    steps.release(10)
    road.standin.script(Behaviour(text=" word" * 4000, steps=steps))
    with (
        road.http() as client,
        client.stream(
            "POST", URL, json={"model": "gpt-4o", "messages": MESSAGES, "stream": True}
        ) as answer,
    ):
        pieces = answer.iter_bytes()
        next(pieces)
        first = Decimal(road.budget()["0.1 usd/day"]["held"])
        assert Decimal("0.02") < first < Decimal("0.03")
        steps.release_all()
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    [line] = road.wait_lines(1)
    assert line["charged_by"] == "usage"
    assert Decimal(line["held_usd"]) > first
    assert road.used("0.1 usd/day") == Decimal(line["cost_usd"])


def test_a_silent_stream_ends_when_its_time_is_not_covered(tmp_path: Path) -> None:
    """Hidden reasoning sends no bytes: the gateway ends it by the time gone, and what was held is charged."""
    clock = Clock()
    settings = {"projects.proj_123": {"tenant": "acme", "limits": ["0.03 usd/day"]}}
    with open_inside(tmp_path, settings, clock=clock) as inside:
        steps = Steps()
        steps.release(1)
        inside.standin.script(Behaviour(steps=steps))
        body = {"model": "gpt-5", "messages": MESSAGES, "stream": True}
        context = inside.context
        with (
            httpx2.Client(
                proxy=inside.proxy_url, verify=context, trust_env=False, timeout=30
            ) as client,
            client.stream("POST", URL, json=body) as answer,
        ):
            pieces = answer.iter_bytes()
            next(pieces)
            clock.advance(1000.0)
            assert b'data: {"error": {"message": "The budget does not cover' in b"".join(pieces)
        assert inside.standin.wait_for(lambda book: book[0].outcome == "client_gone")
        [line] = inside.lines()
        assert (line["charged_by"], line["reason"]) == ("hold", "budget_exceeded")
        assert line["cost_usd"] == line["held_usd"]
        assert inside.held() == []
        steps.release_all()


def test_the_list_of_models(road: Road) -> None:
    """Refused before anything is held or sent; every model that the request names counts."""
    limit(road, "--model", "gpt-4o*")
    with road.http() as client:
        for more in (
            {"model": "gpt-4.1"},
            {"fallbacks": ["gpt-4.1"]},
            {"models": "gpt-4o"},
            {"route": "fallback"},
        ):
            answer = client.post(URL, json={"model": "gpt-4o", "messages": MESSAGES, **more})
            assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
                403,
                "model_not_allowed",
            ), more
        assert road.standin.snapshot() == []
        body = {"model": "gpt-4o", "messages": MESSAGES, "models": ["gpt-4o-mini"], "max_tokens": 5}
        assert client.post(URL, json=body).status_code == 200
    lines = road.wait_lines(5)
    assert [(line["gate"], line["held_usd"]) for line in lines[:4]] == [("models", "0")] * 4


def test_limits_of_tenant_and_token(tmp_path: Path) -> None:
    """Both hold beside the project's, from the file and from the command; no refusal tells what others have."""
    settings = {
        "projects.mine": {"tenant": "acme", "limits": ["5 requests/day"]},
        "projects.theirs": {"tenant": "acme", "limits": ["0.77 usd/day"]},
        "tenants.acme": {"limits": ["0.123 usd/day", "3 concurrent"]},
    }
    with open_road(tmp_path, settings) as road:
        gateway = road.gateway
        token = gateway.tollhouse("token", "create", "mine", "--limit", "2 requests/day").strip()
        other = gateway.make_token("mine")
        body = {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 5}
        url = f"{road.base_url}/chat/completions"

        def post(gate_token: str, **more: Any) -> httpx2.Response:
            headers = {"authorization": f"Bearer {gate_token}"}
            return httpx2.post(
                url, json={**body, **more}, headers=headers, trust_env=False, timeout=30
            )

        assert [post(token).status_code for _ in range(3)] == [200, 200, 429]
        assert post(other).status_code == 200
        # A model without a price is not for a project whose tenant counts money.
        unpriced = post(other, model="nobody-knows")
        assert (unpriced.status_code, unpriced.headers["x-tollhouse-reason"]) == (
            403,
            "model_unpriced",
        )
        short = post(other, max_tokens=100_000)
        assert (short.status_code, short.headers["x-tollhouse-reason"]) == (402, "budget_exceeded")
        assert "tenant acme" in short.text
        assert not any(number in short.text for number in ("0.123", "0.77", "theirs"))
        shown = gateway.budget("mine")
        assert shown["2 requests/day"]["used"] == "2"
        assert shown["5 requests/day"]["used"] == "3"
        assert Decimal(shown["0.123 usd/day"]["used"]) > 0


def test_a_rotated_token_and_a_grant(road: Road) -> None:
    """Both tokens are let in while they overlap; what was granted lets in a call that was refused."""
    limit(road, "--limit", "0.0001 usd/day")
    body = {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 50}
    with road.http() as client:
        assert client.post(URL, json=body).status_code == 402
        road.gateway.tollhouse("budget", "grant", road.project, "1 usd", "--reason", "the fair")
        assert client.post(URL, json=body).status_code == 200
    identity = road.wait_lines(2)[1]["identity"]
    new = road.gateway.tollhouse("token", "rotate", identity, "--overlap", "1h").strip()
    rotated = Road(road.gateway, road.standin, road.directory, road.project, new)
    for one in (road, rotated):
        with one.http() as client:
            assert client.post(URL, json=body).status_code == 200
    lines = road.wait_lines(4)
    assert lines[3]["identity"] not in ("", identity)


def test_calls_are_refused_at_once_when_redis_is_gone_and_served_when_it_is_back(
    tmp_path: Path,
) -> None:
    """A stream that grows goes on while Redis is away, and is charged in the end."""
    from tests.support.fleet import open_fleet

    with open_fleet(tmp_path, 1, append_only=True) as fleet:
        gate = Latch()
        fleet.standin.always(Behaviour(text=" word" * 4000, wait=gate))
        body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
        load = fleet.in_background(body, 1, at_once=1)
        fleet.standin.wait_count(1)
        fleet.redis.stop()
        gate.open()
        [answer] = load.result()
        assert answer.text.endswith("data: [DONE]\n\n")
        fleet.redis.start()
        [line] = fleet.gateways[0].wait_lines(1)
        assert line["charged_by"] == "usage"
