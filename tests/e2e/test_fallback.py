"""A second provider of the same family, called where the first one can't serve; through the running gateway."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import DefaultHttpxClient, OpenAI, OpenAIError
from tests.support.gateway import PLACEHOLDER, REAL_KEY
from tests.support.inproc import open_inside
from tests.support.pair import CHAT, FAILS, LIMITED, SECOND_KEY, URL, Pair, a_pair, an_sdk
from tests.support.standin_bedrock import converse, usage

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_answers import chat_json, chat_usage
from tollhouse.demo.standin_script import (
    Behaviour,
    Latch,
    Steps,
    reply,
    reset_before_headers,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [FAILS, LIMITED, reset_before_headers(), Behaviour(raw=b"")],
    ids=["503", "429", "reset", "close"],
)
def test_it_serves_in_the_first_ones_place(tmp_path: Path, fault: Behaviour, stream: bool) -> None:
    """With its own key, and at its own price, which was held first. The line names both, and each attempt."""
    with a_pair(tmp_path) as pair:
        pair.first.always(fault)
        answer = pair.ask(body={**CHAT, "stream": stream}, headers={"x-trace": "kept"})
        assert answer.status_code == 200
        assert pair.seen == (1, 1)
        assert answer.headers["x-tollhouse-attempts"] == "2"
        line = pair.line()
        [asked] = pair.second.snapshot()
        assert asked.get("authorization") == f"Bearer {SECOND_KEY}"
        assert (asked.get("host"), asked.sni, asked.get("x-trace")) == (
            "second.test",
            "second.test",
            "kept",
        )
        assert REAL_KEY.encode() not in asked.everything()
        assert asked.document()["messages"] == CHAT["messages"]
    assert (line["provider"], line["fallback_from"], line["host"]) == (
        "second",
        "openai",
        "second.test",
    )
    assert [attempt.get("provider") for attempt in line["attempts"]] == [None, "second"]
    assert (line["status"], line["charged_by"], line["decision"]) == (200, "usage", "allow")
    tokens = line["tokens"]
    assert (
        Decimal(line["cost_usd"]) == (tokens["input"] * 5 + tokens["output"] * Decimal(20)) / 10**6
    )


def test_it_is_gone(tmp_path: Path) -> None:
    """Nobody listens where the first one was; the client of the user is OpenAI's SDK."""
    with a_pair(tmp_path) as pair:
        pair.first.stop()
        client = DefaultHttpxClient(
            proxy=pair.inside.proxy_url, verify=pair.inside.context, trust_env=False
        )
        with OpenAI(api_key=PLACEHOLDER, http_client=client) as sdk:
            assert sdk.chat.completions.create(**CHAT).choices[0].message.content
        assert (pair.line()["provider"], pair.seen) == ("second", (0, 1))


def test_an_open_breaker(tmp_path: Path) -> None:
    """The first one is not asked any more, and the calls go on."""
    with a_pair(tmp_path) as pair:
        pair.first.always(FAILS)
        for _ in range(12):
            assert pair.ask().status_code == 200
        assert pair.seen == (10, 12)
        last = pair.inside.lines()[-1]
        assert (last["fallback_from"], len(last["attempts"])) == ("openai", 1)


def test_after_the_attempts_of_the_first(tmp_path: Path) -> None:
    """It is asked when the first one has been tried as often as it may be."""
    with a_pair(tmp_path, first={"attempts": 2}) as pair:
        pair.first.always(reply(503, b"{}", [("retry-after-ms", "1")]))
        assert pair.ask().headers["x-tollhouse-attempts"] == "3"
        assert pair.seen == (2, 1)


@pytest.mark.parametrize("opened", [False, True], ids=["failing", "paused"])
def test_an_sdk_that_retries(tmp_path: Path, opened: bool) -> None:
    """Each of the two sees at most three requests for one call of the user, whatever the other one was asked."""
    with a_pair(tmp_path, second={"attempts": 3}) as pair, an_sdk(pair) as sdk:
        if opened:
            pair.first.always(FAILS)
            for _ in range(10):
                assert pair.ask().status_code == 200
        pair.first.always(reply(503, b"{}", [("retry-after-ms", "1")]))
        pair.second.always(reply(503, b"{}", [("retry-after-ms", "1")]))
        before = pair.seen
        with pytest.raises(OpenAIError):
            sdk.chat.completions.create(**CHAT)
        assert pair.seen == (before[0] + (not opened), before[1] + 3)


def test_an_sdk_whose_time_is_over(tmp_path: Path) -> None:
    """A fallback that hangs is given up before the SDK goes by itself, which would ask both again."""
    gate = Latch()
    with a_pair(tmp_path, first={"attempts": 2}) as pair, an_sdk(pair) as sdk:
        pair.first.always(reply(503, b"{}", [("retry-after-ms", "1")]))
        pair.second.always(Behaviour(wait=gate))
        with pytest.raises(OpenAIError):
            sdk.with_options(timeout=5.0).chat.completions.create(**CHAT)
        gate.open()
        assert pair.seen == (2, 1)


def test_a_client_that_leaves_the_others_answer(tmp_path: Path) -> None:
    """The stream of the fallback is read on for its count, as that of any provider is."""
    steps, text = Steps(), "a word and " * 40
    with a_pair(tmp_path) as pair:
        pair.first.always(FAILS)
        pair.second.always(Behaviour(text=text, steps=steps))
        steps.release(3)
        with (
            httpx2.Client(
                proxy=pair.inside.proxy_url,
                verify=pair.inside.context,
                trust_env=False,
                timeout=30,
            ) as client,
            client.stream(
                "POST", URL + "/chat/completions", json={**CHAT, "stream": True}
            ) as answer,
        ):
            assert next(answer.iter_raw())
        pair.inside.until(
            lambda gateway: all(exchange.gone for exchange in gateway.journey.under_way)
        )
        steps.release_all()
        pair.inside.until(lambda gateway: not gateway.journey.under_way)
        line = pair.line()
    assert (line["provider"], line["charged_by"], line["reason"]) == (
        "second",
        "usage",
        "client_gone",
    )
    assert line["tokens"]["output"] == chat_usage(CHAT, text)["completion_tokens"]


def test_a_first_one_that_serves(tmp_path: Path) -> None:
    """Nothing is sent to the other, and a request's own fault leads to no other either."""
    with a_pair(tmp_path) as pair:
        assert pair.ask().status_code == 200
        pair.first.always(reply(400, b'{"error":{"message":"no"}}'))
        assert pair.ask().status_code == 400
        assert pair.seen == (2, 0)


@pytest.mark.parametrize("fault", [FAILS, LIMITED, reply(404, b"{}"), reset_before_headers()])
def test_neither_serves(tmp_path: Path, fault: Behaviour) -> None:
    """The client gets what the provider said that it has called, and pays nothing that it would not have paid there."""
    with a_pair(tmp_path) as pair:
        pair.first.always(LIMITED)
        pair.second.always(fault)
        answer = pair.ask()
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
        assert answer.json() == {"error": {"message": "first is busy"}}
        assert (answer.headers["x-tollhouse-attempts"], pair.seen) == ("2", (1, 1))
        line = pair.line()
    assert (line["provider"], line.get("fallback_from")) == ("openai", None)
    lost = fault == reset_before_headers()
    assert (line["charged_by"], line["attempts_unknown"]) == (
        ("estimate", 1) if lost else ("none", 0)
    )


def test_nobody_is_there(tmp_path: Path) -> None:
    """The refusal is of the provider that was called."""
    with a_pair(tmp_path) as pair:
        pair.first.stop()
        pair.second.stop()
        answer = pair.ask()
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            502,
            "upstream_unreachable",
        )
        assert "api.openai.com" in answer.text
        assert pair.line()["charged_by"] == "none"


# Regions.

AZURE = (
    "azure",
    ("one.openai.azure.com", "two.openai.azure.com"),
    "/openai/deployments/mine/chat/completions?api-version=2024-10-21",
    CHAT,
    reply(200, chat_json(CHAT), [("content-type", "application/json")]),
    {"models": {"mine": "gpt-4o"}},
    "api-key",
)
BEDROCK = (
    "bedrock",
    ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.eu-west-1.amazonaws.com"),
    "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
    {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": 9},
    },
    converse([{"text": "Hello."}], usage(10, 5)),
    {},
    "authorization",
)


@pytest.mark.parametrize("region", [AZURE, BEDROCK], ids=["azure", "bedrock"])
def test_another_region(tmp_path: Path, region: Any) -> None:
    """The same path at the other region's host, with that one's key in its slot."""
    name, (here, there), path, body, good, more, slot = region
    with (
        StandIn(key=REAL_KEY, hosts=(here,)) as one,
        StandIn(key=SECOND_KEY, hosts=(there,)) as two,
    ):
        settings: dict[str, dict[str, Any]] = {}
        for entry, host, standin in ((name, here, one), ("other", there, two)):
            standin.write_ca(tmp_path / f"{entry}-ca.pem")
            settings[f"providers.{entry}"] = {
                "hosts": [host],
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": f"{entry}-ca.pem",
                "attempts": 1,
                **more,
            }
        settings[f"providers.{name}"]["fallback"] = "other"
        settings["providers.other"]["family"] = name
        with open_inside(tmp_path, settings, standin=one) as inside:
            vault = EmbeddedVault(tmp_path / "state")
            vault.set(name, REAL_KEY)
            vault.set("other", SECOND_KEY)
            one.always(FAILS)
            two.always(good)
            with httpx2.Client(
                proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
            ) as client:
                assert client.post(f"https://{here}{path}", json=body).status_code == 200
            [asked], [line] = two.snapshot(), inside.lines()
            assert inside.held() == []
    assert (asked.target, asked.get("host"), asked.sni) == (path, there, there)
    assert SECOND_KEY in asked.get(slot)
    assert REAL_KEY.encode() not in asked.everything()
    assert (line["provider"], line["fallback_from"], line["charged_by"]) == ("other", name, "usage")
    assert Decimal(line["cost_usd"]) > 0


# What may not be sent there.


def refused(pair: Pair, path: str = "/chat/completions", body: Any = None) -> dict[str, Any]:
    """The line of a call whose first provider fails: the other is asked for nothing."""
    pair.first.always(FAILS)
    answer = pair.ask(path, body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "first is ill")
    assert pair.seen == (1, 0)
    return pair.line()


def test_a_budget_that_does_not_cover_its_price(tmp_path: Path) -> None:
    """The first one's answer is the client's, and nothing more is held."""
    # 11 tokens in and 50 out are held: 0.0005275 USD at the first one, twice as much at the other.
    with a_pair(tmp_path, limit="0.0006 usd/total") as pair:
        line = refused(pair)
    assert Decimal(line["held_usd"]) < Decimal("0.0006")


def test_a_model_that_is_not_allowed_there(tmp_path: Path) -> None:
    """The project's list is judged for the other provider."""
    with a_pair(tmp_path, models=["openai/gpt-4o*"]) as pair:
        refused(pair)


def test_a_model_without_a_price_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows what it would cost, and the project is limited in money."""
    with a_pair(tmp_path, prices={}) as pair:
        refused(pair)
    assert "fallback: second/gpt-4o has no price there" in caplog.text


def test_no_key_for_it(tmp_path: Path) -> None:
    """The other provider's key is nowhere."""
    with a_pair(tmp_path, key=False) as pair:
        refused(pair)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", {"model": "gpt-4o", "input": "kept"}),
        (
            "/responses",
            {"model": "gpt-4o", "input": "x", "store": False, "previous_response_id": "resp_1"},
        ),
        ("/conversations", {"metadata": {}}),
        ("/chat/completions", {**CHAT, "store": True}),
    ],
)
def test_what_lives_at_one_provider(tmp_path: Path, path: str, body: Any) -> None:
    """Objects that the first one has, or would have made."""
    with a_pair(tmp_path, first={"share_objects": True}) as pair:
        refused(pair, path, body)


def test_a_response_that_is_not_kept(tmp_path: Path) -> None:
    """It is a call as any other."""
    with a_pair(tmp_path) as pair:
        pair.first.always(FAILS)
        body = {"model": "gpt-4o", "input": "not kept", "store": False, "max_output_tokens": 50}
        assert pair.ask("/responses", body).status_code == 200
        assert (pair.seen, pair.line()["provider"]) == ((1, 1), "second")


# Money.


def test_a_time_out_of_the_first(tmp_path: Path) -> None:
    """The provider may have worked on it; as with a repeat, the answer that came is charged alone."""
    gate = Latch()
    with a_pair(tmp_path, first={"answer_timeout_s": 0.3}) as pair:
        pair.first.always(Behaviour(wait=gate))
        assert pair.ask().status_code == 200
        gate.open()
        line = pair.line()
    assert (line["attempts_unknown"], line["charged_by"], line["provider"]) == (
        1,
        "usage",
        "second",
    )


def test_a_time_out_of_the_first_at_worst(tmp_path: Path) -> None:
    """Its hold is charged beside the answer, so that both are held before; or the other is not asked."""
    held = Decimal(0)
    for name, times, status in (("enough", 100, 200), ("too little", 2, 504)):
        limit = f"{held * times or 1} usd/total"
        gate, directory = Latch(), tmp_path / name
        directory.mkdir()
        with a_pair(
            directory, first={"answer_timeout_s": 0.3}, estimate="worst", limit=limit
        ) as pair:
            pair.first.always(Behaviour(wait=gate))
            assert pair.ask().status_code == status
            gate.open()
            line = pair.line()
        assert pair.seen == (1, int(status == 200))
        if status == 200:
            # The other one's price is twice the first one's.
            held = Decimal(line["held_usd"]) / 3
            assert Decimal(line["cost_usd"]) > held
        else:
            assert Decimal(line["cost_usd"]) == Decimal(line["held_usd"]) == held


def test_a_stream_without_a_cap(tmp_path: Path) -> None:
    """As much output as is held by then is held at the other one's price, and more as it goes."""
    with a_pair(tmp_path) as pair:
        pair.first.always(FAILS)
        pair.second.always(Behaviour(text="a word and " * 3_000))
        answer = pair.ask(body={"model": "gpt-4o", "messages": CHAT["messages"], "stream": True})
        assert answer.text.endswith("data: [DONE]\n\n")
        line = pair.line()
    assert (line["provider"], line["charged_by"]) == ("second", "usage")
    assert line["tokens"]["output"] > 2_048
    assert Decimal(line["held_usd"]) > line["tokens"]["output"] * Decimal(20) / 10**6


@pytest.mark.parametrize(
    ("limit", "served"), [("0.0009 usd/total", False), ("0.0011 usd/total", True)]
)
def test_a_cap_that_was_lowered(tmp_path: Path, limit: str, served: bool) -> None:
    """It stays as it was lowered for the first one, so that the other one's price may not fit."""
    body = {**CHAT, "max_completion_tokens": 5_000 if not served else 50}
    with a_pair(tmp_path, limit=limit, clamp=True) as pair:
        pair.first.always(FAILS)
        answer = pair.ask(body=body)
        assert answer.status_code == (200 if served else 503)
        assert ("x-tollhouse-clamped" in answer.headers) is not served
        pair.line()


def test_many_at_once(tmp_path: Path) -> None:
    """However many want to go to the dearer one: no more is spent than there is."""
    with a_pair(tmp_path, limit="0.008 usd/total", first={"attempts": 1}) as pair:
        pair.first.always(FAILS)
        gate = Latch()
        pair.second.always(Behaviour(wait=gate))
        with ThreadPoolExecutor(9) as pool:
            calls = [pool.submit(pair.ask) for _ in range(9)]
            # Those that fit wait there; the others have been answered.
            pair.inside.until(
                lambda gateway: (
                    len(gateway.journey.under_way) == len(pair.second.snapshot())
                    and len(gateway.journey.under_way) + len(pair.inside.lines()) == 9
                )
            )
            gate.open()
            statuses = sorted(call.result(30).status_code for call in calls)
        served = statuses.count(200)
        assert served == len(pair.second.snapshot())
        assert 1 <= served <= 7
        [limit] = [one for one in pair.inside.budget().values() if "usd" in one["limit"]]
        assert Decimal(limit["used"]) <= Decimal("0.008")
        assert (limit["held"], pair.inside.held()) == ("0", [])
        costs = [Decimal(line["cost_usd"]) for line in pair.inside.lines()]
        assert sum(costs) == Decimal(limit["used"])


def test_a_cheaper_one_without_usage(tmp_path: Path) -> None:
    """What would be held for it alone is charged, and not what was held for the dearer first one."""
    cheap = {'prices."second/gpt-4o"': {"input": "0.25", "output": "1"}}
    with a_pair(tmp_path, prices=cheap) as pair:
        pair.first.always(FAILS)
        pair.second.always(Behaviour(usage=False))
        assert pair.ask().status_code == 200
        line = pair.line()
    assert (line["charged_by"], line["provider"]) == ("hold", "second")
    assert Decimal(line["cost_usd"]) * 10 == Decimal(line["held_usd"])


def test_a_client_that_leaves_while_the_other_is_asked(tmp_path: Path) -> None:
    """It is charged the hold, which is the dearer one's, once."""
    gate = Latch()
    with a_pair(tmp_path) as pair:
        pair.first.always(FAILS)
        pair.second.always(Behaviour(wait=gate))

        def leave() -> None:
            with contextlib.suppress(httpx2.HTTPError):
                pair.ask(timeout=httpx2.Timeout(30, read=2))

        client = threading.Thread(target=leave)
        client.start()
        pair.second.wait_count(1)
        client.join(30)
        pair.inside.until(lambda gateway: not gateway.journey.under_way)
        gate.open()
        line = pair.line()
    assert (line["charged_by"], line["reason"]) == ("disconnect", "client_gone")
    assert line["cost_usd"] == line["held_usd"]
    assert Decimal(line["held_usd"]) > Decimal("0.001")
