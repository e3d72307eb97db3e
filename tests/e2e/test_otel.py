"""A running gateway and an OTLP receiver: what it is told of calls, and that a call never waits for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.otel_collector import Collector
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.support.programs import free_port

from tollhouse.call_counts import SECONDS
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.standin_script import reply

URL = "https://api.openai.com/v1/chat/completions"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
PROMPT = "what nobody but the provider may read"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "300"}
"""Of the SDK's own settings: milliseconds."""
CLIENT, ERROR = 3, 2
"""SPAN_KIND_CLIENT and STATUS_CODE_ERROR of opentelemetry/proto/trace/v1/trace.proto."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


@pytest.fixture(scope="module")
def road(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    environ = {
        **SOON,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20of-the-collector",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    directory = tmp_path_factory.mktemp("otel")
    with open_road(directory, {"otel": {"endpoint": receiver.endpoint}}, environ=environ) as made:
        yield made


def ask(road: Road, headers: dict[str, str] | None = None, **fields: Any) -> str:
    """Makes a call, whose line is there then. Its id."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}], **fields}
    with road.http() as client:
        answer = client.post(URL, json=body, headers=headers)
    call_id = answer.headers["x-tollhouse-call-id"]
    road.gateway.wait_until(lambda lines: any(line["call_id"] == call_id for line in lines))
    return call_id


def span_of(receiver: OtlpReceiver, call_id: str) -> ReceivedSpan:
    def found() -> list[ReceivedSpan]:
        return [one for one in receiver.spans if one.attributes.get("tollhouse.call_id") == call_id]

    receiver.until(lambda: bool(found()))
    [span] = found()
    return span


def items(road: Road) -> dict[tuple[str, str], float]:
    """tollhouse_otel_items_total by signal and outcome."""
    text = httpx2.get(f"http://{road.gateway.admin}/metrics", trust_env=False).text
    [family] = [
        one for one in text_string_to_metric_families(text) if one.name == "tollhouse_otel_items"
    ]
    return {(s.labels["signal"], s.labels["outcome"]): s.value for s in family.samples}


def test_a_call_is_a_span_of_the_workloads_trace(road: Road, receiver: OtlpReceiver) -> None:
    """Its parent is the workload's span, and the provider gets the header as it was sent."""
    parent = f"00-{TRACE}-{PARENT}-01"
    call_id = ask(road, {"traceparent": parent, "session-id": "agent-1"}, max_tokens=20)
    span = span_of(receiver, call_id)
    assert (span.name, span.kind, span.status) == ("chat gpt-4o", CLIENT, 0)
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert span.schema_url == "https://opentelemetry.io/schemas/gen-ai/0.1.0"
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 20,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.conversation.id": "agent-1",
        "server.address": "api.openai.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "tollhouse.project": road.project,
        "tollhouse.tenant": "acme",
    }
    assert wanted.items() <= span.attributes.items()
    [line] = [one for one in road.lines() if one["call_id"] == call_id]
    assert span.seconds == pytest.approx(line["duration_ms"] / 1000)
    assert span.attributes["gen_ai.usage.input_tokens"] == line["tokens"]["input"]
    assert span.attributes["tollhouse.cost_usd"] == line["cost_usd"]
    assert span.resource["service.name"] == "tollhouse"
    [sent] = [one for one in road.standin.snapshot() if one.get("traceparent") == parent]
    assert sent.method == "POST"
    assert any(
        headers.get("authorization") == "Bearer of-the-collector"
        for _, headers in receiver.requests
    )


def test_sampling(road: Road, receiver: OtlpReceiver) -> None:
    """The workload's decision holds; a malformed header begins a trace of the call's own."""
    unsampled = ask(road, {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    malformed = ask(road, {"traceparent": f"00-{TRACE}-{'0' * 16}-01"})
    span = span_of(receiver, malformed)
    assert (span.trace_id != TRACE, span.parent_id) == (True, "")
    assert not [
        one for one in receiver.spans if one.attributes.get("tollhouse.call_id") == unsampled
    ]


def test_attempts_and_refusals(road: Road, receiver: OtlpReceiver) -> None:
    """Each of several attempts is a child; a refusal is an error by its code; nobody's call has no span."""
    road.standin.script(reply(503, b"{}"))
    retried = span_of(receiver, ask(road))
    receiver.until(lambda: sum(one.parent_id == retried.span_id for one in receiver.spans) == 2)
    first, second = (one for one in receiver.spans if one.parent_id == retried.span_id)
    assert (first.name, first.status, first.attributes["error.type"]) == ("POST", ERROR, "503")
    assert (second.status, second.attributes["http.request.resend_count"]) == (0, 1)
    with road.http(credentials=False) as client:
        nobodys = client.post(URL, json={}).headers["x-tollhouse-call-id"]
    refused = span_of(receiver, ask(road, model="a-model-without-a-price"))
    assert (refused.status, refused.attributes["error.type"]) == (ERROR, "model_unpriced")
    assert not [one for one in receiver.spans if one.attributes.get("tollhouse.call_id") == nobodys]


def test_what_a_workload_chooses_is_bounded(road: Road, receiver: OtlpReceiver) -> None:
    """A model's name of 10,000 characters is cut in the span, and in no metric."""
    span = span_of(receiver, ask(road, model="m" * 2000, session="x" * 10_000))
    assert len(span.name) < 600
    assert max(len(value) for value in span.attributes.values() if isinstance(value, str)) <= 512
    assert "mmmm" not in str(receiver.points())


def test_metrics(road: Road, receiver: OtlpReceiver) -> None:
    """Tokens and times of calls that left, with the buckets of the conventions."""
    ask(road)
    ask(road, stream=True)
    labels = frozenset(
        {
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "gpt-4o"),
        }
    )
    text = labels | {("gen_ai.token.modality", "text")}
    lines = [line for line in road.lines() if line["attempts"] and line["model"] == "gpt-4o"]
    tokens = sum(line["tokens"].get("input", 0) for line in lines)
    inference = "gen_ai.client.inference."
    first = f"{inference}time_to_first_chunk"

    def told() -> bool:
        points = receiver.points()
        used = points.get(f"{inference}usage.input_tokens", {}).get(text)
        return used is not None and used.value == tokens and labels in points.get(first, {})

    receiver.until(told)
    points = receiver.points()
    duration = points[f"{inference}duration"][labels]
    assert duration.bounds == SECONDS
    assert duration.count == len([line for line in lines if line["status"] == 200])
    assert points[f"{inference}operation.input_tokens"][labels].bounds[-1] == 4**13
    cost = sum(point.value for point in points["tollhouse.cost"].values())
    assert cost == pytest.approx(sum(float(line["cost_usd"]) for line in lines))
    assert "gen_ai.client.token.usage" not in points


def test_nothing_of_a_prompt_or_a_credential(road: Road, receiver: OtlpReceiver) -> None:
    """Not in any request that the receiver got."""
    span_of(receiver, ask(road, {"authorization": f"Bearer {road.token}"}))
    sent = b"".join(receiver.bodies)
    for secret in (PROMPT, road.token, REAL_KEY, "127.0.0.1"):
        assert secret.encode() not in sent


@pytest.mark.parametrize("fault", ["refuses", "hangs"])
def test_a_collector_in_trouble_holds_up_nobody(
    road: Road, receiver: OtlpReceiver, fault: str
) -> None:
    """Calls go on, what is lost is counted, and spans come again with the collector."""
    before = items(road)["traces", "failed"]
    try:
        if fault == "refuses":
            receiver.status = 500
        else:
            receiver.hold.set()
        for _ in range(3):
            ask(road)
        receiver.until(lambda: items(road)["traces", "failed"] > before)
        assert ask(road)
    finally:
        receiver.status = 200
        receiver.hold.clear()
    # One that was asked while it was away may still be lost.
    span_of(receiver, until_told(road, receiver))
    assert "takes traces again" in road.gateway.stderr


def until_told(road: Road, receiver: OtlpReceiver) -> str:
    """A call that is made once the collector takes spans."""
    before = items(road)["traces", "exported"]
    ask(road)
    receiver.until(lambda: items(road)["traces", "exported"] > before or not ask(road))
    return ask(road)


@pytest.mark.requires("redis", "openbao")
def test_workers_and_older_names(tmp_path: Path) -> None:
    """Each worker is an instance of its own, and nothing of a call is told twice."""
    with ExitStack() as stack:
        receiver = stack.enter_context(OtlpReceiver())
        settings = {"otel": {"endpoint": receiver.endpoint, "genai": "1.41"}}
        road = stack.enter_context(
            open_road(tmp_path, settings, stores="real", workers=2, environ=SOON)
        )
        calls = 0
        while len(receiver.instances) < 2:
            ask(road)
            calls += 1
            assert calls < 500
        kinds = ("input", "output")

        def counts() -> list[int]:
            points = receiver.points().get("gen_ai.client.token.usage", {})
            return [
                sum(p.count for key, p in points.items() if ("gen_ai.token.type", kind) in key)
                for kind in kinds
            ]

        receiver.until(lambda: counts() == [calls, calls])
        spans = receiver.wait_spans(calls)
        assert len({span.attributes["tollhouse.call_id"] for span in spans}) == calls
        assert {span.schema_url for span in spans} == {"https://opentelemetry.io/schemas/1.41.0"}
        assert "gen_ai.client.operation.duration" in receiver.points()


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.requires(one)) for one in ("otelcol", "rotel")]
)
def test_a_real_collector_takes_it(name: str, tmp_path: Path) -> None:
    """It passes on what the gateway has sent: it takes both signals for sound."""
    with (
        OtlpReceiver() as receiver,
        Collector(name, tmp_path, receiver.endpoint) as collector,
        open_road(
            tmp_path / "gateway", {"otel": {"endpoint": collector.endpoint}}, environ=SOON
        ) as road,
    ):
        parent = f"00-{TRACE}-{PARENT}-01"
        span = span_of(receiver, ask(road, {"traceparent": parent}))
        assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
        receiver.until(lambda: "gen_ai.client.inference.duration" in receiver.points())


def tollhouse_without_sdk(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; "
        "from tollhouse.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={},
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_the_sdk(tmp_path: Path) -> None:
    """`check` and `run` say what is missing and how it comes. Without [otel] nothing of it is loaded."""
    path = write_config(tmp_path, None, {"otel": {"endpoint": "http://127.0.0.1:4318"}})
    for command in ("check", "run"):
        done = tollhouse_without_sdk(command, "--config", str(path))
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "[otel] needs OpenTelemetry's SDK, which is not installed" in said
        assert "pip install 'tollhouse[otel]'" in said


def test_stopped_while_the_collector_is_away(tmp_path: Path) -> None:
    """The gateway says once that it is away, and stops without it."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    environ = {**SOON, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with open_road(tmp_path, {"otel": {"endpoint": endpoint}}, environ=environ) as road:
        ask(road)
        wait_until(lambda: items(road)["traces", "failed"] >= 1)
        ask(road)
    log = road.gateway.stderr
    assert log.count("does not take traces (") == 1
    assert "Connection refused" in log
    assert "Traceback" not in log
