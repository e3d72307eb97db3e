"""The queue, its bounds, and what is loaded for it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.otlp_receiver import OtlpReceiver
from tests.test_imports import GRAPH, ways

from tollhouse.book import Concluded, empty_record, record_of
from tollhouse.call import Arrival, RequestHead
from tollhouse.config.surroundings import OtelConfig
from tollhouse.telemetry.handed import handed
from tollhouse.telemetry.sdk import MOST_SPANS, SpanQueue, try_out
from tollhouse.telemetry.telemetry import Telemetry


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


def ended(**fields: Any) -> tuple[dict[str, Any], Concluded]:
    """A line whose project and provider are known, and the call."""
    head = RequestHead("proxy", "1.1", "POST", "/", "https", None, None, ())
    call = Concluded(Arrival.begin(head), 200)
    known = {"project": "p", "provider": "openai", "model": "gpt-4o", "decision": "allow"}
    return {**record_of(call, call.stage.started + 1), **known, **fields}, call


def test_nothing_is_loaded_without_a_collector() -> None:
    """Neither by what runs a gateway nor by what checks one: three modules know the SDK, and they are imported late."""
    for start in ("tollhouse.process", "tollhouse.workers.worker", "tollhouse.check.check"):
        assert not [name for name in ways(GRAPH, start, late=False) if "opentelemetry" in name]
    direct = {
        name.rpartition(".")[2]
        for name, imports in GRAPH.items()
        if any(one.name.startswith("opentelemetry") for one in imports)
    }
    assert direct == {"spans", "instruments", "sdk"}


def test_the_bound_of_spans() -> None:
    """What has no room is counted as lost; what the exporter took makes room, whether the collector took it or not."""
    queue = SpanQueue()
    assert queue.has_room(MOST_SPANS)
    assert not queue.has_room(3)
    assert (queue.lost, queue.exported, queue.failed) == (3, 0, 0)
    queue.sent(2, taken=False)
    queue.sent(1, taken=True)
    assert queue.has_room(3)
    assert not queue.has_room(1)
    assert (queue.lost, queue.exported, queue.failed) == (4, 1, 2)


async def test_the_bound_of_calls(receiver: OtlpReceiver) -> None:
    """A call without room is counted, and told to nobody."""
    telemetry = Telemetry(OtelConfig(endpoint=receiver.endpoint), most_calls=0)
    telemetry.hand_over(*ended())
    await telemetry.close()
    assert ("calls", "lost", 1) in telemetry.counts()
    assert not receiver.spans


async def test_a_stop_sends_what_is_left(receiver: OtlpReceiver) -> None:
    """Spans and metrics of the last calls."""
    telemetry = Telemetry(OtelConfig(endpoint=receiver.endpoint))
    telemetry.hand_over(*ended(cost_usd="0.5"))
    await telemetry.close()
    receiver.until(lambda: "tollhouse.cost" in receiver.points())
    [span] = receiver.spans
    assert span.seconds == pytest.approx(1)
    assert ("traces", "exported", 1) in telemetry.counts()


async def test_a_name_that_is_no_text(receiver: OtlpReceiver) -> None:
    """A lone surrogate, which JSON can write, does not lose the spans that are sent with it."""
    telemetry = Telemetry(OtelConfig(endpoint=receiver.endpoint, metrics=False))
    telemetry.hand_over(*ended())
    telemetry.hand_over(*ended(model="gpt-\ud800", model_served="\udfff"))
    await telemetry.close()
    assert sorted(span.name for span in receiver.wait_spans(2)) == [
        "unknown gpt-4o",
        "unknown gpt-?",
    ]


async def test_a_fault_of_one_call(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next call is told."""
    telemetry = Telemetry(OtelConfig(endpoint=receiver.endpoint, metrics=False))
    record, call = ended(call_id="call_x", attempts=None)
    with caplog.at_level(logging.ERROR):
        telemetry.hand_over(record, call)
        telemetry.hand_over(*ended())
        await telemetry.close()
    assert len(receiver.wait_spans(1)) == 1
    assert "call call_x could not be told to telemetry" in caplog.text


def test_a_line_of_its_own_is_no_call() -> None:
    """What was charged later has no span, since its own line had one."""
    assert not handed(empty_record(), None).ended


def test_two_parents_are_none() -> None:
    """As W3C has it."""
    values = [("traceparent", "00-1"), ("traceparent", "00-2")]
    for headers, found in ((values, ""), (values[:1], "00-1")):
        head = RequestHead("proxy", "1.1", "POST", "/", "https", None, None, tuple(headers))
        call = Concluded(Arrival.begin(head))
        assert handed({}, call).traceparent == found


@contextlib.contextmanager
def answering(
    head: bytes, endless: bool = False, every_s: float = 0.0
) -> Iterator[tuple[str, list[bytes]]]:
    """A collector's endpoint, and the first lines of the requests that came. It sends ``head`` byte by byte where there is
    ``every_s``."""
    over = threading.Event()
    asked: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    asked.append(connection.recv(65_536).partition(b"\r\n")[0])
                    for piece in map(bytes, zip(head, strict=True)) if every_s else [head]:
                        connection.sendall(piece)
                        over.wait(every_s)
                    while endless:
                        connection.sendall(b"x" * 65_536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        finally:
            over.set()


def test_a_collector_that_answers_without_end() -> None:
    """Nothing behind the head of its answer is read: to read it would fill the memory."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", endless=True) as (endpoint, asked):
        assert try_out(endpoint) == ""
    assert asked == [b"POST /v1/traces HTTP/1.1"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"]
)
def test_a_collector_that_drips(answer: bytes) -> None:
    """One that sends a byte now and then keeps within each read's time. The time of the whole request ends it all the same."""
    with answering(answer + 86_400 * b"x", every_s=0.02) as (endpoint, asked):
        assert try_out(endpoint, 1.0) == "its answer did not end within 1 s"
    assert asked == [b"POST /v1/traces HTTP/1.1"]


def test_a_collector_that_leads_elsewhere() -> None:
    """A redirect is not followed, and is a failure: nobody has the spans."""
    head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /internal\r\nContent-Length: 0\r\n\r\n"
    with answering(head) as (endpoint, asked):
        assert try_out(endpoint) == "it answers 307"
    assert set(asked) == {b"POST /v1/traces HTTP/1.1"}


def test_what_a_collector_says_is_one_line() -> None:
    """Of an answer that is no HTTP: no line of the log's own, and no command to a terminal."""
    with answering(b"EVIL \x1b[31m\r\n") as (endpoint, _):
        assert try_out(endpoint).isprintable()


def test_a_time_that_is_over_before_a_request() -> None:
    """The exporter asks once more with no time left: that says nothing of the collector, and none is asked."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (endpoint, asked):
        assert try_out(endpoint, 0.0) == "it took no request in time"
    assert asked == []
