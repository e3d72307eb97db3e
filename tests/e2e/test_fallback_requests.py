"""What a fallback gets beside plain calls: forms, signed requests, WebSocket sessions; through the running gateway."""

from __future__ import annotations

import json
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from tests.families.samples.forms import wav
from tests.support import sigv4
from tests.support.inproc import open_inside
from tests.support.openai_media import HEARD, answered
from tests.support.pair import FAILS, LIMITED, SECOND_KEY, Pair, a_pair, an_sdk
from tests.support.standin_bedrock import converse, usage

from tollhouse.admit.uploads import SMALL
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn

FIRST, SECOND = (
    "bedrock-runtime.us-east-1.amazonaws.com",
    "bedrock-runtime.eu-west-1.amazonaws.com",
)
SPEECH = {'prices."second/whisper-1"': {"second": "0.0002"}}


def aws_keys(name: str) -> dict[str, str]:
    return {"access_key_id": f"AKIA{name}", "secret_access_key": secrets.token_urlsafe(24)}


def test_another_region_whose_requests_are_signed(tmp_path: Path) -> None:
    """Signed anew for the other region, host and account; nothing of the first key is there."""
    ours, theirs = aws_keys("OFTHEFIRST"), aws_keys("OFTHESECOND")
    with StandIn(hosts=(FIRST,)) as one, StandIn(hosts=(SECOND,)) as two:
        settings: dict[str, dict[str, Any]] = {}
        for entry, host, standin in (("bedrock", FIRST, one), ("other", SECOND, two)):
            standin.write_ca(tmp_path / f"{entry}-ca.pem")
            settings[f"providers.{entry}"] = {
                "hosts": [host],
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": f"{entry}-ca.pem",
                "attempts": 1,
            }
        settings["providers.bedrock"]["fallback"] = "other"
        settings["providers.other"]["family"] = "bedrock"
        with open_inside(tmp_path, settings, standin=one) as inside:
            vault = EmbeddedVault(tmp_path / "state")
            vault.set("bedrock", json.dumps(ours))
            vault.set("other", json.dumps(theirs))
            one.always(FAILS)
            two.always(converse([{"text": "Hello."}], usage(10, 5)))
            body = {
                "messages": [{"role": "user", "content": [{"text": "hello"}]}],
                "inferenceConfig": {"maxTokens": 9},
            }
            path = "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"
            with httpx2.Client(
                proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
            ) as client:
                assert client.post(f"https://{FIRST}{path}", json=body).status_code == 200
            [first], [second], [line] = one.snapshot(), two.snapshot(), inside.lines()
            assert inside.held() == []
    assert sigv4.problem_of(first, ours, "us-east-1") == ""
    assert sigv4.problem_of(second, theirs, "eu-west-1") == ""
    assert (second.target, second.get("host"), second.sni) == (path, SECOND, SECOND)
    assert ours["access_key_id"].encode() not in second.everything()
    assert (line["provider"], line["fallback_from"], line["charged_by"]) == (
        "other",
        "bedrock",
        "usage",
    )


def test_a_form(tmp_path: Path) -> None:
    """An upload that is on the disk is sent to a second server byte for byte, and charged at its price."""
    with a_pair(tmp_path, prices=SPEECH) as pair, an_sdk(pair) as sdk:
        pair.first.always(FAILS)
        pair.second.always(answered(HEARD))
        sound = wav(40)
        sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", sound))
        [first], [second] = pair.first.snapshot(), pair.second.snapshot()
        line = pair.line()
    assert len(sound) > SMALL, "it is kept on the disk"
    assert first.body == second.body
    assert sound in second.body
    assert first.get("content-type") == second.get("content-type")
    assert second.get("authorization") == f"Bearer {SECOND_KEY}"
    assert (line["provider"], line["fallback_from"], line["charged_by"]) == (
        "second",
        "openai",
        "usage",
    )
    assert Decimal(line["cost_usd"]) == Decimal("0.0008")


def session(pair: Pair, sdk: OpenAI) -> Any:
    return sdk.responses.connect(
        websocket_connection_options={"proxy": pair.inside.proxy_url, "ssl": pair.inside.context}
    )


def ask(connection: Any) -> Any:
    connection.response.create(model="gpt-4o", input="Hello", store=False, max_output_tokens=50)
    for event in connection:
        if event.type == "response.completed":
            return event.response
    raise AssertionError("the session ended without an answer")


@pytest.mark.parametrize("fault", ["503", "gone"])
def test_a_session(tmp_path: Path, fault: str) -> None:
    """No message has passed when the handshake fails: the session is the fallback's, with its key and at its price."""
    with a_pair(tmp_path) as pair, an_sdk(pair) as sdk:
        if fault == "gone":
            pair.first.stop()
        else:
            pair.first.always(FAILS)
        with session(pair, sdk) as connection:
            told = [ask(connection).usage, ask(connection).usage]
        pair.inside.until(lambda gateway: not gateway.journey.under_way)
        assert pair.seen == (int(fault != "gone"), 1)
        [received], line = pair.second.snapshot(), pair.line()
    assert received.get("authorization") == f"Bearer {SECOND_KEY}"
    assert (line["status"], line["provider"], line["fallback_from"]) == (101, "second", "openai")
    assert [attempt.get("provider") for attempt in line["attempts"]] == [None, "second"]
    tokens = {
        "input": sum(one.input_tokens for one in told),
        "output": sum(one.output_tokens for one in told),
    }
    assert line["tokens"] == tokens
    cost = tokens["input"] * Decimal(5) + tokens["output"] * Decimal(20)
    assert Decimal(line["cost_usd"]) == cost / 10**6


def test_a_session_that_neither_takes(tmp_path: Path) -> None:
    """The client gets the first one's answer, and nothing is charged."""
    with a_pair(tmp_path) as pair, an_sdk(pair) as sdk:
        pair.first.always(FAILS)
        pair.second.always(LIMITED)
        with pytest.raises(Exception, match="503"), session(pair, sdk):
            pass
        pair.inside.until(lambda gateway: not gateway.journey.under_way)
        assert pair.seen == (1, 1)
        line = pair.line()
    assert (line["status"], line["provider"], line["charged_by"]) == (503, "openai", "none")
    assert line.get("fallback_from") is None
