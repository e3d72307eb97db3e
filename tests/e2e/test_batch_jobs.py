"""Batches of Mistral, Gemini and Cohere, by their unchanged SDKs: each is charged once, by whoever sees its usage first.

What is set for a job is held until then. The stand-in's answers are scripted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import cohere
import httpx
import httpx2
import pytest
from cohere.batches import Batch
from google import genai
from google.genai import types
from mistralai.client import Mistral
from tests.e2e.test_background import Later, money, settled
from tests.families import test_shown_jobs as shown
from tests.support.gateway import PLACEHOLDER, REAL_KEY
from tests.support.inproc import Inside, open_inside
from tests.support.spoken import says

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, reply

OF_FILE = [("content-type", "application/octet-stream")]


@dataclass
class Ask:
    """One job: how it is begun and looked at by its SDK. ``begun``, ``runs`` and ``over`` are the provider's answers to that;
    ``nothing`` is one of a job that has failed. ``read`` reads the results to their end. ``cost`` is worked out by hand."""

    provider: str
    host: str
    allow: str
    begin: Callable[[Inside], object]
    look: Callable[[Inside], object]
    read: Callable[[Inside], object] | None
    begun: Behaviour
    runs: Behaviour
    over: Behaviour
    nothing: Behaviour
    results: Behaviour | None
    asked_at: tuple[str, ...]
    cost: str
    tokens: dict[str, int]


@contextlib.contextmanager
def mistral(inside: Inside) -> Iterator[Mistral]:
    with httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client:
        yield Mistral(api_key=PLACEHOLDER, client=client)


@contextlib.contextmanager
def gemini(inside: Inside) -> Iterator[genai.Client]:
    arguments = {"proxy": inside.proxy_url, "verify": inside.context, "trust_env": False}
    options = types.HttpOptions(api_version="v1beta", client_args=arguments)
    with genai.Client(api_key=PLACEHOLDER, http_options=options) as client:
        yield client


@contextlib.contextmanager
def cohere_v1(inside: Inside) -> Iterator[cohere.Client]:
    with httpx.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client:
        yield cohere.Client(api_key=PLACEHOLDER, httpx_client=client)


def begin_mistral(inside: Inside) -> None:
    with mistral(inside) as client:
        client.batch.jobs.create(
            endpoint="/v1/chat/completions", model="mistral-small-2603", input_files=["f-1"]
        )


def begin_in_place(inside: Inside) -> None:
    with mistral(inside) as client:
        body = {"messages": [{"role": "user", "content": "Who pays?"}]}
        client.batch.jobs.create(
            endpoint="/v1/chat/completions",
            model="mistral-small-2603",
            requests=[{"custom_id": "1", "body": body}],
        )


def look_mistral(inside: Inside) -> None:
    with mistral(inside) as client:
        client.batch.jobs.get(job_id="j-1")


def read_mistral(inside: Inside) -> None:
    with mistral(inside) as client:
        assert client.files.download(file_id="f-2").read() == MISTRAL_FILE


def inline_mistral(inside: Inside) -> None:
    with mistral(inside) as client:
        outputs = client.batch.jobs.get(job_id="j-1", inline=True).outputs
        assert outputs


def begin_gemini(inside: Inside) -> None:
    with gemini(inside) as client:
        requests = [{"contents": [{"parts": [{"text": "Who pays?"}]}]}]
        made = client.batches.create(model=shown.FLASH, src=requests)  # type: ignore[arg-type]
        assert made.name == "batches/b1"


def begin_vectors(inside: Inside) -> None:
    with gemini(inside) as client:
        client.batches.create_embeddings(
            model="gemini-embedding-001", src=types.EmbeddingsBatchJobSource(file_name="files/f1")
        )


def look_gemini(inside: Inside) -> None:
    with gemini(inside) as client:
        client.batches.get(name="batches/b1")


def read_gemini(inside: Inside) -> None:
    with gemini(inside) as client:
        assert client.files.download(file="files/batch-b1") == GEMINI_FILE


def begin_embed_job(inside: Inside) -> None:
    with cohere_v1(inside) as client:
        client.embed_jobs.create(model="embed-v4.0", dataset_id="d-1", input_type="search_document")


def look_embed_job(inside: Inside) -> None:
    with cohere_v1(inside) as client:
        client.embed_jobs.get("e-1")


def begin_cohere(inside: Inside) -> None:
    with cohere_v1(inside) as client:
        asked = Batch(name="n", input_dataset_id="d-1", model="command-a-03-2025")
        client.batches.create(request=asked)


def look_cohere(inside: Inside) -> None:
    with cohere_v1(inside) as client:
        client.batches.retrieve("b-1")


MISTRAL_FILE = shown.lines(
    shown.line(shown.CHAT | {"usage": {"prompt_tokens": 1_000, "completion_tokens": 50}}),
    shown.line(None, 422, {"message": "m"}),
)
GEMINI_FILE = shown.lines(
    {"key": "a", "response": shown.answered(1_000, 50)}, {"key": "b", "error": {"code": 3}}
)
VECTORS = {"embedding": {"values": [0.5]}, "tokenCount": "1000"}
GEMINI_OUTPUT = {"responsesFile": "files/batch-b1"}
NOTHING = {"requestCount": "2", "failedRequestCount": "2"}
_MISTRAL: dict[str, Any] = {
    "provider": "mistral",
    "host": "api.mistral.ai",
    "allow": "POST /v1/batch/jobs",
    "begin": begin_mistral,
    "begun": says(shown.mistral_job("QUEUED", 0)),
    "runs": says(shown.mistral_job("RUNNING", 1)),
    "nothing": says(shown.mistral_job("FAILED", 0)),
    # Half of 0.15 and 0.60 USD a million: 1,000 x 75 + 50 x 300 nano-dollars.
    "cost": "0.00009",
    "tokens": {"input": 1_000, "output": 50},
}
_GEMINI: dict[str, Any] = {
    "provider": "gemini",
    "host": "generativelanguage.googleapis.com",
    "allow": "POST /v1beta/models/*:batchGenerateContent",
    "begin": begin_gemini,
    "look": look_gemini,
    "begun": says(shown.operation("PENDING")),
    "runs": says(shown.operation("RUNNING")),
    "nothing": says(shown.operation("FAILED", stats=NOTHING)),
    # Half of 0.30 and 2.50 USD a million: 1,000 x 150 + 50 x 1,250 nano-dollars.
    "cost": "0.0002125",
    "tokens": {"input": 1_000, "output": 50},
}
JOBS = {
    "mistral's file": Ask(
        **_MISTRAL,
        look=look_mistral,
        read=read_mistral,
        over=says(shown.mistral_job("SUCCESS", 1, output_file="f-2")),
        results=reply(200, MISTRAL_FILE, OF_FILE),
        asked_at=("/v1/batch/jobs/j-1", "/v1/files/f-2/content"),
    ),
    "mistral's outputs": Ask(
        **_MISTRAL | {"begin": begin_in_place},
        look=inline_mistral,
        read=None,
        over=says(
            shown.mistral_job(
                "SUCCESS", 1, outputs=[json.loads(one) for one in MISTRAL_FILE.splitlines()]
            )
        ),
        results=None,
        asked_at=("/v1/batch/jobs/j-1?inline=true",),
    ),
    "mistral's cancelled job": Ask(
        **_MISTRAL,
        look=look_mistral,
        read=read_mistral,
        over=says(shown.mistral_job("CANCELLED", 1, output_file="f-2")),
        results=reply(200, MISTRAL_FILE, OF_FILE),
        asked_at=("/v1/batch/jobs/j-1", "/v1/files/f-2/content"),
    ),
    "gemini's file": Ask(
        **_GEMINI,
        read=read_gemini,
        over=says(shown.operation(output=GEMINI_OUTPUT)),
        results=reply(200, GEMINI_FILE, OF_FILE),
        asked_at=("/v1beta/batches/b1", "/download/v1beta/files/batch-b1:download?alt=media"),
    ),
    "gemini's responses": Ask(
        **_GEMINI,
        read=None,
        over=says(
            shown.operation(
                output=shown.in_place(shown.inlined(shown.answered(1_000, 50)), shown.FAILED)
            )
        ),
        results=None,
        asked_at=("/v1beta/batches/b1",),
    ),
    "gemini's vectors": Ask(
        **_GEMINI
        | {
            "allow": "POST /v1beta/models/*:asyncBatchEmbedContent",
            "begin": begin_vectors,
            # Half of 0.15 USD a million.
            "cost": "0.000075",
            "tokens": {"input": 1_000, "output": 0},
        },
        read=None,
        over=says(shown.operation(output=shown.in_place(shown.inlined(VECTORS)))),
        results=None,
        asked_at=("/v1beta/batches/b1",),
    ),
    "cohere's embed job": Ask(
        provider="cohere",
        host="api.cohere.com",
        allow="POST /v1/embed-jobs",
        begin=begin_embed_job,
        look=look_embed_job,
        read=None,
        begun=says({"job_id": "e-1", "meta": {}}),
        runs=says(shown.embed_job("processing")),
        over=says(shown.embed_job("complete", {"input_tokens": 1_000.0}, model="embed-v4.0")),
        nothing=says(shown.embed_job("failed")),
        results=None,
        asked_at=("/v1/embed-jobs/e-1",),
        # 0.12 USD a million.
        cost="0.00012",
        tokens={"input": 1_000, "output": 0},
    ),
    "cohere's batch": Ask(
        provider="cohere",
        host="api.cohere.com",
        allow="POST /v2/batches",
        begin=begin_cohere,
        look=look_cohere,
        read=None,
        begun=says(shown.batch("QUEUED")),
        runs=says(shown.batch("IN_PROGRESS")),
        over=says(shown.batch("COMPLETED", **shown.COUNTED)),
        nothing=says(shown.batch("FAILED", num_successful_records=0)),
        results=None,
        asked_at=("/v2/batches/b-1",),
        # 2.50 and 10 USD a million.
        cost="0.003",
        tokens={"input": 1_000, "output": 50},
    ),
}
each_job = pytest.mark.parametrize("ask", JOBS.values(), ids=JOBS)


@contextlib.contextmanager
def opened(directory: Path, ask: Ask, clock: Later, **more: Any) -> Iterator[Inside]:
    standin = StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", ask.host))
    with standin:
        entry: dict[str, Any] = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
            "allow": [ask.allow],
            "job_hold_usd": 2,
            "share_objects": True,
        }
        settings = {f"providers.{ask.provider}": entry | more.pop("entry", {}), **more}
        with open_inside(
            directory, settings, standin=standin, clock=clock, health_every_s=0.02
        ) as inside:
            EmbeddedVault(directory / "state").set(ask.provider, REAL_KEY)
            yield inside


def assert_charged(inside: Inside, ask: Ask) -> None:
    lines = settled(inside)
    assert lines[0]["charged_by"] == "later"
    [late] = [line for line in lines if line["reason"] == "later"]
    assert (late["charged_by"], late["cost_usd"]) == ("usage", ask.cost)
    assert (late["call_id"], late["tokens"]) == (lines[0]["call_id"], ask.tokens)
    assert money(inside) == (Decimal(ask.cost), 0)
    assert inside.held() == []


@each_job
def test_the_client_reads_it(tmp_path: Path, ask: Ask) -> None:
    """The hold stays until its results were read. What is read again is charged once."""
    with opened(tmp_path, ask, Later()) as inside:
        inside.standin.script(ask.begun)
        ask.begin(inside)
        assert money(inside) == (0, 2)
        # Mistral's SDK is asked for the outputs of a job that is over alone.
        if ask is not JOBS["mistral's outputs"]:
            inside.standin.script(ask.runs)
            ask.look(inside)
            assert money(inside) == (0, 2)
        for _ in range(2):
            inside.standin.script(ask.over)
            ask.look(inside)
            if ask.read is not None:
                assert ask.results is not None
                assert money(inside)[1] in (0, 2)
                inside.standin.script(ask.results)
                ask.read(inside)
            assert_charged(inside, ask)


@each_job
def test_the_gateway_reads_it(tmp_path: Path, ask: Ask) -> None:
    """The client never asks. The gateway reads the job, and the file that it names."""
    clock = Later()
    with opened(tmp_path, ask, clock) as inside:
        inside.standin.script(ask.begun)
        ask.begin(inside)
        inside.standin.always(ask.runs)
        inside.until(lambda gateway: bool(gateway.poller.due))
        clock.ahead += 30
        inside.standin.wait_count(2)
        assert money(inside) == (0, 2)
        inside.standin.always(ask.over)
        clock.ahead += 1_000
        if ask.results is not None:
            name = "f-2" if ask.provider == "mistral" else "files/batch-b1"
            inside.until(
                lambda gateway: (
                    [field for _, field in gateway.poller.due] == [f"{ask.provider} {name}"]
                )
            )
            inside.standin.always(ask.results)
            clock.ahead += 30
        inside.until(lambda gateway: not gateway.poller.due)
        targets = [one.target for one in inside.standin.snapshot()[1:]]
        assert tuple(dict.fromkeys(targets)) == ask.asked_at
        assert_charged(inside, ask)


@each_job
def test_it_fails(tmp_path: Path, ask: Ask) -> None:
    """A job of which nothing was done costs a request."""
    clock = Later()
    with opened(tmp_path, ask, clock) as inside:
        inside.standin.script(ask.begun)
        ask.begin(inside)
        assert money(inside) == (0, 2)
        inside.standin.always(ask.nothing)
        inside.until(lambda gateway: bool(gateway.poller.due))
        clock.ahead += 30
        inside.until(lambda gateway: not gateway.poller.due)
        assert [line["charged_by"] for line in settled(inside)] == ["later", "none"]
        assert money(inside) == (0, 0)


@each_job
def test_it_is_closed(tmp_path: Path, ask: Ask) -> None:
    """Without ``job_hold_usd`` it is refused, and nothing leaves."""
    entry = {"allow": [], "job_hold_usd": 1}
    with opened(tmp_path, ask, Later(), entry=entry) as inside:
        with pytest.raises(Exception, match="path_not_allowed"):
            ask.begin(inside)
        assert inside.standin.snapshot() == []


@pytest.mark.parametrize("name", ["mistral's file", "gemini's file", "cohere's batch"])
def test_another_tenant_asks(tmp_path: Path, name: str) -> None:
    """Under a shared key the job and its file are its tenant's alone, the file from when it was shown."""
    ask = JOBS[name]
    birch = {"projects.birch_1": {"tenant": "birch", "limits": ["10 usd/day"]}}
    with opened(tmp_path, ask, Later(), entry={"share_objects": False}, **birch) as inside:
        made = {"id": "f-1", "object": "file"}
        upload = {"mistral": "/v1/files", "cohere": "/v1/datasets"}.get(ask.provider)
        own = httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
        token = str(
            inside.do(inside.gateway.operations.perform("token_create", {"projects": ["birch_1"]}))[
                "token"
            ]
        )
        proxy = f"http://birch_1:{token}@{inside.gateway.addresses['proxy']}"
        other = httpx2.Client(proxy=proxy, verify=inside.context, trust_env=False)
        with own, other:
            if upload is not None:
                made["id"] = "f-1" if ask.provider == "mistral" else "d-1"
                inside.standin.script(says(made))
                form = {"file": ("a.jsonl", b"{}")}
                assert own.post(f"https://{ask.host}{upload}", files=form).status_code == 200
            inside.standin.script(ask.begun)
            ask.begin(inside)
            seen = len(inside.standin.snapshot())
            paths = ask.asked_at
            assert other.get(f"https://{ask.host}{paths[0]}").status_code == 403
            for path in paths[1:]:
                assert own.get(f"https://{ask.host}{path}").status_code == 403
            assert len(inside.standin.snapshot()) == seen
            assert money(inside)[1] == 2
            inside.standin.script(ask.over)
            ask.look(inside)
            for path in paths[1:]:
                assert other.get(f"https://{ask.host}{path}").status_code == 403
                assert ask.results is not None
                inside.standin.script(ask.results)
                assert own.get(f"https://{ask.host}{path}").status_code == 200
            settled(inside)
            assert money(inside) == (Decimal(ask.cost), 0)
