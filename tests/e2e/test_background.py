"""Responses in the background, by the unchanged SDK: each is charged once, by whoever sees its usage first.

The stand-in's answers are scripted. Costs are by gpt-4o's list prices: 2.50 and 10 USD a million tokens.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai import OpenAI
from tests.support.fleet import open_fleet
from tests.support.gateway import PLACEHOLDER, REAL_KEY
from tests.support.inproc import Inside, open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo import standin_responses as answers
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, reply

ASKED: dict[str, Any] = {"model": "gpt-4o", "input": "Who pays?", "max_output_tokens": 100}
QUEUED = answers.response({**ASKED, "background": True}, usage=True)
ID: str = QUEUED["id"]
USAGE = {
    "input_tokens": 1_000,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1_050,
}
COST = Decimal("0.003")
"""1,000 tokens in and 50 out."""


def state(status: str, usage: dict[str, Any] | None = None, **more: Any) -> Behaviour:
    """The response as the provider shows it."""
    body = json.dumps({**QUEUED, "status": status, "usage": usage, **more}).encode()
    return reply(200, body, [("content-type", "application/json")])


class Later:
    """Seconds that go on as the machine's do, and faster if a test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@contextlib.contextmanager
def sdk(inside: Inside, project: str = "", token: str = "") -> Iterator[OpenAI]:
    proxy = inside.proxy_url
    if project:
        proxy = f"http://{project}:{token}@{inside.gateway.addresses['proxy']}"
    http_client = openai.DefaultHttpxClient(proxy=proxy, verify=inside.context, trust_env=False)
    with OpenAI(api_key=PLACEHOLDER, http_client=http_client, max_retries=0) as client:
        yield client


def settled(inside: Inside) -> list[dict[str, Any]]:
    inside.until(lambda gateway: not gateway.journey.under_way)
    return inside.lines()


def money(inside: Inside) -> tuple[Decimal, Decimal]:
    """Used and held."""
    told = inside.budget()["10 usd/day"]
    return Decimal(told["used"]), Decimal(told["held"])


def test_the_client_asks(tmp_path: Path) -> None:
    """The hold stays until an answer says that it is over. What is asked for again is charged once."""
    with open_inside(tmp_path) as inside, sdk(inside) as client:
        inside.standin.script(
            *(state("queued"), state("in_progress"), state("completed", USAGE)),
            *(state("completed", USAGE), state("completed", USAGE)),
        )
        queued = client.responses.create(**ASKED, background=True)
        assert (queued.id, queued.status) == (ID, "queued")
        [first] = settled(inside)
        assert (first["charged_by"], first["cost_usd"]) == ("later", "0")
        held = Decimal(first["held_usd"])
        assert held > 0
        assert money(inside) == (0, held)
        assert client.responses.retrieve(ID).status == "in_progress"
        assert money(inside) == (0, held)
        over = client.responses.retrieve(ID)
        assert over.usage is not None
        assert over.usage.output_tokens == 50
        assert money(inside) == (COST, 0)
        assert client.responses.retrieve(ID).status == "completed"
        assert client.responses.cancel(ID).status == "completed"
        lines = settled(inside)
        assert money(inside) == (COST, 0)
        assert inside.held() == []
        [late] = [line for line in lines if line["reason"] == "later"]
        assert late["call_id"] == first["call_id"]
        assert (late["cost_usd"], late["charged_by"]) == ("0.003", "usage")
        assert late["tokens"] == {"input": 1_000, "output": 50}
        assert late["model"] == "gpt-4o"
        asking = [line for line in lines if line["path"] == f"/v1/responses/{ID}"]
        assert len(asking) == 3
        assert {(line["cost_usd"], str(line["tokens"])) for line in asking} == {("0", "{}")}


def test_a_stream_shows_it(tmp_path: Path) -> None:
    """A replay of its events has the same usage as its last event."""
    event = {"type": "response.completed", "sequence_number": 9}
    body = {**event, "response": {**QUEUED, "status": "completed", "usage": USAGE}}
    data = f"event: response.completed\ndata: {json.dumps(body)}\n\n".encode()
    replay = reply(200, [data], [("content-type", "text/event-stream")])
    with open_inside(tmp_path) as inside, sdk(inside) as client:
        inside.standin.script(state("queued"), replay)
        client.responses.create(**ASKED, background=True)
        [last] = client.responses.retrieve(ID, stream=True, starting_after=8)
        assert last.type == "response.completed"
        assert [line["charged_by"] for line in settled(inside)] == ["later", "usage", "none"]
        assert money(inside) == (COST, 0)


def test_nobody_asks(tmp_path: Path) -> None:
    """The gateway asks itself, with the key, and charges what it is told. Its requests have no line."""
    clock = Later()
    with open_inside(tmp_path, clock=clock, health_every_s=0.02) as inside, sdk(inside) as client:
        inside.standin.script(state("queued"), state("in_progress"), reply(503))
        inside.standin.always(state("completed", USAGE))
        client.responses.create(**ASKED, background=True)
        for number in (2, 3, 4):
            inside.until(lambda gateway: bool(gateway.poller.due))
            clock.ahead += 30
            asked = inside.standin.wait_count(number)[-1]
            assert (asked.method, asked.target) == ("GET", f"/v1/responses/{ID}")
            assert asked.get("authorization") == f"Bearer {inside.standin.key}"
        inside.until(lambda gateway: not gateway.poller.due)
        first, late = settled(inside)
        assert (first["charged_by"], late["charged_by"]) == ("later", "usage")
        assert money(inside) == (COST, 0)
        clock.ahead += 10_000
        assert client.responses.retrieve(ID).status == "completed"
        assert money(inside) == (COST, 0)
        assert len(inside.standin.snapshot()) == 5


def test_it_fails(tmp_path: Path) -> None:
    """An answer that has failed without a usage costs nothing; one that was cancelled without one its hold."""
    with open_inside(tmp_path) as inside, sdk(inside) as client:
        failed = {**QUEUED, "status": "failed", "error": {"code": "server_error", "message": "x"}}
        kind = [("content-type", "application/json")]
        inside.standin.script(state("queued"), reply(200, json.dumps(failed).encode(), kind))
        client.responses.create(**ASKED, background=True)
        assert client.responses.retrieve(ID).status == "failed"
        assert money(inside) == (0, 0)
        inside.standin.script(state("queued"), state("cancelled"))
        client.responses.create(**ASKED, background=True)
        client.responses.cancel(ID)
        lines = settled(inside)
        assert [line["charged_by"] for line in lines] == [
            *("later", "none", "none"),
            *("later", "hold", "none"),
        ]
        assert money(inside) == (Decimal(lines[3]["held_usd"]), 0)


def test_another_tenant_asks(tmp_path: Path) -> None:
    """It is refused, and the call of the first still waits."""
    settings = {"projects.birch_1": {"tenant": "birch", "limits": ["10 usd/day"]}}
    with open_inside(tmp_path, settings) as inside:
        perform = inside.gateway.operations.perform
        token = str(inside.do(perform("token_create", {"projects": ["birch_1"]}))["token"])
        with sdk(inside) as own, sdk(inside, "birch_1", token) as other:
            inside.standin.script(state("queued"), state("completed", USAGE))
            own.responses.create(**ASKED, background=True)
            with pytest.raises(openai.PermissionDeniedError) as refused:
                other.responses.retrieve(ID)
            assert refused.value.code == "object_not_yours"
            assert money(inside)[0] == 0
            assert len(inside.standin.snapshot()) == 1
            assert own.responses.retrieve(ID).status == "completed"
            assert money(inside) == (COST, 0)


def test_what_it_has_made_is_its_tenants(tmp_path: Path) -> None:
    """An item of a response, and the file of a batch: both are there only when an answer shows them later."""
    settings = {
        "providers.openai": {"allow": ["POST /v1/batches"], "job_hold_usd": 2},
        "projects.birch_1": {"tenant": "birch", "limits": ["10 usd/day"]},
    }
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    input_file = {"id": "file-1", "object": "file"}
    json_type = [("content-type", "application/json")]
    with open_inside(tmp_path, settings) as inside:
        perform = inside.gateway.operations.perform
        token = str(inside.do(perform("token_create", {"projects": ["birch_1"]}))["token"])
        with sdk(inside) as own, sdk(inside, "birch_1", token) as other:
            inside.standin.script(
                *(state("queued"), state("completed", USAGE, output=[item])),
                *(state("completed", USAGE), state("completed", USAGE)),
                reply(200, json.dumps(input_file).encode(), json_type),
                *(batch("validating"), batch("completed", output_file_id="file-2")),
                reply(200, b"{}", json_type),
            )
            own.responses.create(**ASKED, background=True)
            own.responses.retrieve(ID)
            named: Any = {**ASKED, "input": [{"type": "item_reference", "id": "msg_1"}]}
            with pytest.raises(openai.PermissionDeniedError) as refused:
                other.responses.create(**named)
            assert refused.value.code == "object_not_yours"
            for _ in range(2):
                assert own.responses.create(**named).status == "completed"
            own.files.create(file=b"{}", purpose="batch")
            made = own.batches.create(
                completion_window="24h", endpoint="/v1/responses", input_file_id="file-1"
            )
            with pytest.raises(openai.PermissionDeniedError):
                own.files.content("file-2")
            assert own.batches.retrieve(made.id).output_file_id == "file-2"
            assert own.files.content("file-2").read() == b"{}"
            with pytest.raises(openai.PermissionDeniedError):
                other.files.content("file-2")


def test_a_gateway_takes_over(tmp_path: Path) -> None:
    """The one that took the call has stopped: another on the same Redis asks for its answer."""
    with open_fleet(tmp_path, 2) as fleet:
        first, second = fleet.gateways
        fleet.standin.script(state("queued"))
        fleet.standin.always(state("in_progress"))
        url = f"http://localhost:{first.base_url.rpartition(':')[2]}/v1/responses"
        headers = {"authorization": f"Bearer {fleet.token}"}
        body = {**ASKED, "background": True}
        answer = httpx2.post(url, json=body, headers=headers, trust_env=False)
        assert answer.status_code == 200
        first.wait_lines(1)
        first.stop()
        assert len(fleet.holds()) == 1
        fleet.standin.always(state("completed", USAGE))
        [late] = second.wait_lines(1, 30)
        assert (late["reason"], late["charged_by"], late["cost_usd"]) == ("later", "usage", "0.003")
        assert fleet.holds() == {}
        told = fleet.budget(1)["10000 usd/day"]
        assert (told["used"], told["held"]) == (COST, 0)


BATCH: dict[str, Any] = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/responses",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "created_at": 1,
}


def batch(status: str, **more: Any) -> Behaviour:
    body = json.dumps({**BATCH, "status": status, **more}).encode()
    return reply(200, body, [("content-type", "application/json")])


JOBS: dict[str, Any] = {
    "providers.openai": {
        "allow": ["POST /v1/batches"],
        "job_hold_usd": 2,
        "share_objects": True,
    }
}


def test_a_batch(tmp_path: Path) -> None:
    """What is set for a job is held until the batch is over. Then half the price of its usage is charged, once."""
    done = {"model": "gpt-4o", "usage": USAGE, "request_counts": {"total": 9, "completed": 9}}
    with open_inside(tmp_path, JOBS) as inside, sdk(inside) as client:
        inside.standin.script(
            *(batch("validating"), batch("in_progress"), batch("completed", **done)),
            batch("completed", **done),
        )
        made = client.batches.create(
            completion_window="24h", endpoint="/v1/responses", input_file_id="file-1"
        )
        assert money(inside) == (0, 2)
        assert client.batches.retrieve(made.id).status == "in_progress"
        assert money(inside) == (0, 2)
        for _ in range(2):
            assert client.batches.retrieve(made.id).status == "completed"
            assert money(inside) == (COST / 2, 0)
        first, *_, late = sorted(settled(inside), key=lambda line: line["reason"])
        assert (first["charged_by"], first["held_usd"]) == ("later", "2")
        assert (late["cost_usd"], late["charged_by"]) == ("0.0015", "usage")
        assert late["call_id"] == first["call_id"]


def test_a_batch_that_nobody_asks_for(tmp_path: Path) -> None:
    """The gateway asks. One of which nothing was done costs a request."""
    clock = Later()
    with (
        open_inside(tmp_path, JOBS, clock=clock, health_every_s=0.02) as inside,
        sdk(inside) as client,
    ):
        inside.standin.script(batch("validating"))
        inside.standin.always(batch("cancelled", request_counts={"total": 9, "completed": 0}))
        client.batches.create(
            completion_window="24h", endpoint="/v1/responses", input_file_id="file-1"
        )
        inside.until(lambda gateway: bool(gateway.poller.due))
        clock.ahead += 30
        inside.until(lambda gateway: not gateway.poller.due)
        assert inside.standin.snapshot()[-1].target == "/v1/batches/batch_1"
        assert [line["charged_by"] for line in settled(inside)] == ["later", "none"]
        assert money(inside) == (0, 0)


def output_line(model: str, read: int, written: int) -> bytes:
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": model, "usage": usage}
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    told = {"id": "batch_req_1", "custom_id": "one", "response": response, "error": None}
    return json.dumps(told).encode() + b"\n"


OUTPUT = (
    output_line("gpt-4o", 1_000, 50)
    + output_line("gpt-4o-mini", 333, 11)
    + b'{"custom_id":"two","response":null,"error":{"code":"batch_expired","message":"late"}}\n'
    + output_line("gpt-4o", 501, 7)
)
OUTPUT_COST = Decimal("0.002189525")
"""1,501 tokens in and 57 out at half of gpt-4o's prices, 1,250 and 5,000 nano-dollars each, are 2,161,250 nano-dollars.
333 and 11 at half of gpt-4o-mini's, 75 and 300, are 28,275."""


@pytest.mark.parametrize("asks", [True, False])
def test_a_batch_that_shows_no_usage(tmp_path: Path, asks: bool) -> None:
    """The lines of its output are charged, once, read by the client or by the gateway. A part of it charges nothing,
    nor does another file."""
    clock = Later()
    counts = {"total": 4, "completed": 3, "failed": 1}
    over = batch("completed", output_file_id="file-2", request_counts=counts)
    kind = [("content-type", "application/octet-stream")]
    part = reply(206, OUTPUT[:500], [*kind, ("content-range", f"bytes 0-499/{len(OUTPUT)}")])
    with (
        open_inside(tmp_path, JOBS, clock=clock, health_every_s=0.02) as inside,
        sdk(inside) as client,
    ):
        inside.standin.script(batch("validating"))
        made = client.batches.create(
            completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-1"
        )
        if asks:
            inside.standin.script(over, part, reply(200, OUTPUT, kind), reply(200, OUTPUT, kind))
            assert client.batches.retrieve(made.id).output_file_id == "file-2"
            client.files.content("file-2", extra_headers={"range": "bytes=0-499"})
            client.files.content("file-3")
            assert money(inside) == (0, 2)
            assert client.files.content("file-2").read() == OUTPUT
        else:
            inside.standin.always(over)
            inside.until(lambda gateway: bool(gateway.poller.due))
            clock.ahead += 30
            asked = inside.standin.wait_count(2)[-1]
            assert (asked.method, asked.target) == ("GET", "/v1/batches/batch_1")
            inside.standin.always(reply(200, [OUTPUT[:400], OUTPUT[400:]], kind))
            inside.until(
                lambda gateway: [field for _, field in gateway.poller.due] == ["openai file-2"]
            )
            clock.ahead += 30
            inside.until(lambda gateway: not gateway.poller.due)
            assert [one.target for one in inside.standin.snapshot()[2:]] == [
                "/v1/files/file-2/content"
            ]
        assert money(inside) == (OUTPUT_COST, 0)
        inside.standin.always(reply(200, OUTPUT, kind))
        client.files.content("file-2")
        first, *_, late = sorted(settled(inside), key=lambda line: line["reason"])
        assert (first["charged_by"], first["held_usd"]) == ("later", "2")
        assert (late["charged_by"], late["cost_usd"]) == ("usage", str(OUTPUT_COST))
        assert late["call_id"] == first["call_id"]
        assert late["tokens"] == {"input": 1_834, "output": 68}
        assert money(inside) == (OUTPUT_COST, 0)


INTERACTION: dict[str, Any] = {
    "id": "v1_abc",
    "object": "interaction",
    "model": "gemini-2.5-flash",
    "created": "2026-11-28T00:00:00Z",
    "updated": "2026-11-28T00:00:00Z",
    "steps": [],
}
COUNTED = {"total_input_tokens": 1_000, "total_output_tokens": 50, "total_tokens": 1_050}
FLASH = Decimal("0.000425")
"""1,000 tokens in and 50 out, at gemini-2.5-flash's 0.30 and 2.50 USD a million."""


def interaction(status: str, usage: dict[str, Any]) -> Behaviour:
    body = json.dumps({**INTERACTION, "status": status, "usage": usage}).encode()
    return reply(200, body, [("content-type", "application/json")])


@pytest.mark.parametrize("asks", [True, False])
def test_an_interaction(tmp_path: Path, asks: bool) -> None:
    """Its stream ends before it is over. It is charged once, read by the client or by the gateway."""
    clock = Later()
    standin = StandIn(key=REAL_KEY, hosts=("localhost", "generativelanguage.googleapis.com"))
    begun = {**INTERACTION, "status": "in_progress", "usage": dict.fromkeys(COUNTED, 0)}
    events = [
        {"event_type": "interaction.created", "interaction": begun},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "The"}},
    ]
    stream = [f"data: {json.dumps(one)}\n\n".encode() for one in events]
    url = "https://generativelanguage.googleapis.com/v1beta/interactions"
    body = {"model": "gemini-2.5-flash", "input": "Who pays?", "background": True, "stream": True}
    with standin:
        gemini = {"connect_to": standin.address, "allow_private": True}
        settings: dict[str, Any] = {
            "providers.gemini": gemini | {"ca_file": "provider-ca.pem"},
        }
        with (
            open_inside(
                tmp_path, settings, standin=standin, clock=clock, health_every_s=0.02
            ) as inside,
            httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client,
        ):
            EmbeddedVault(tmp_path / "state").set("gemini", REAL_KEY)
            standin.script(reply(200, stream, [("content-type", "text/event-stream")]))
            assert client.post(url, json=body).status_code == 200
            [first] = settled(inside)
            assert (first["charged_by"], first["cost_usd"]) == ("later", "0")
            held = Decimal(first["held_usd"])
            assert money(inside) == (0, held)
            over = interaction("completed", COUNTED)
            if asks:
                standin.script(interaction("in_progress", dict.fromkeys(COUNTED, 0)), over, over)
                assert client.get(f"{url}/v1_abc").json()["status"] == "in_progress"
                assert money(inside) == (0, held)
                for _ in range(2):
                    assert client.get(f"{url}/v1_abc").json()["status"] == "completed"
                    assert money(inside) == (FLASH, 0)
            else:
                standin.always(over)
                inside.until(lambda gateway: bool(gateway.poller.due))
                clock.ahead += 30
                inside.until(lambda gateway: not gateway.poller.due)
                asked = standin.snapshot()[-1]
                assert (asked.method, asked.target) == ("GET", "/v1beta/interactions/v1_abc")
                assert asked.get("x-goog-api-key") == REAL_KEY
            [late] = [line for line in settled(inside) if line["reason"] == "later"]
            assert (late["charged_by"], late["cost_usd"]) == ("usage", "0.000425")
            assert (late["call_id"], late["model"]) == (first["call_id"], "gemini-2.5-flash")
            assert money(inside) == (FLASH, 0)


MESSAGES: dict[str, Any] = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"canceled": 0, "errored": 0, "expired": 0, "processing": 2, "succeeded": 0},
    "created_at": "2026-08-30T12:00:00Z",
    "expires_at": "2026-08-31T12:00:00Z",
    "results_url": None,
}
RESULT = {
    "custom_id": "one",
    "result": {
        "type": "succeeded",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "The traveller."}],
            "model": "claude-sonnet-5",
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1_000, "output_tokens": 50, "service_tier": "batch"},
        },
    },
}
RESULTS = b"".join(json.dumps(RESULT | {"custom_id": name}).encode() + b"\n" for name in "ab")
HALF = Decimal("0.0025")
"""2,000 tokens in and 100 out, at half of claude-sonnet-5's 2 and 10 USD a million."""


@pytest.mark.parametrize("asks", [True, False])
def test_a_batch_of_messages(tmp_path: Path, asks: bool) -> None:
    """The lines of its results are charged, read by the client or by the gateway."""
    clock = Later()
    standin = StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", "api.anthropic.com"))
    shown = MESSAGES | {
        "processing_status": "ended",
        "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    }
    params: Any = {
        "model": "claude-sonnet-5",
        "max_tokens": 60,
        "messages": [{"role": "user", "content": "Who pays?"}],
    }
    with standin:
        settings: dict[str, Any] = {
            "providers.anthropic": {
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": "provider-ca.pem",
                "allow": ["POST /v1/messages/batches"],
                "job_hold_usd": 2,
                "share_objects": True,
            }
        }
        with (
            open_inside(
                tmp_path, settings, standin=standin, clock=clock, health_every_s=0.02
            ) as inside,
            anthropic.Anthropic(
                api_key=PLACEHOLDER,
                max_retries=0,
                http_client=anthropic.DefaultHttpxClient(
                    proxy=inside.proxy_url, verify=inside.context, trust_env=False
                ),
            ) as client,
        ):
            EmbeddedVault(tmp_path / "state").set("anthropic", REAL_KEY)
            kind = [("content-type", "application/json")]
            standin.script(reply(200, json.dumps(MESSAGES).encode(), kind))
            client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
            assert money(inside) == (0, 2)
            if asks:
                standin.script(reply(200, json.dumps(shown).encode(), kind), reply(200, RESULTS))
                results = list(client.messages.batches.results("msgbatch_1"))
                assert [one.custom_id for one in results] == ["a", "b"]
            else:
                standin.always(reply(200, RESULTS))
                inside.until(lambda gateway: bool(gateway.poller.due))
                clock.ahead += 30
                inside.until(lambda gateway: not gateway.poller.due)
                asked = standin.snapshot()[-1]
                assert asked.target == "/v1/messages/batches/msgbatch_1/results"
                assert asked.get("anthropic-version") == "2023-06-01"
            [late] = [line for line in settled(inside) if line["reason"] == "later"]
            assert (late["charged_by"], late["cost_usd"]) == ("usage", "0.0025")
            assert money(inside) == (HALF, 0)
