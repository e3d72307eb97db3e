"""Answers of a provider that speaks OpenAI's API in its own way, through the running gateway: errors under status 200,
counts that are wrong, streams under any type, several texts in a frame. ``tests/data/answers`` has them byte for byte; their
texts and numbers are invented."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import brotli
import httpx2
import pytest
import zstandard
from prometheus_client.parser import text_string_to_metric_families
from tests.support.attack import Attacked, begin, post, watched
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.demo.standin_script import Behaviour

ANSWERS = Path(__file__).parents[1] / "data" / "answers"
EVENTS = "text/event-stream"
LIMIT = "10 usd/day"
INPUT, OUTPUT = Decimal("0.0000025"), Decimal("0.00001")
"""USD a token of gpt-4o."""
PRIORITY_INPUT, PRIORITY_OUTPUT = Decimal("0.00000425"), Decimal("0.000017")
HELD_INPUT = 9
"""Tokens of input that are held for `asking`."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with open_inside(
        tmp_path_factory.mktemp("odd"), {f"projects.{PROJECT}": {"limits": [LIMIT]}}
    ) as inside:
        yield inside


@pytest.fixture
def asked(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(gateway, caplog)


def sent(name: str) -> bytes:
    return (ANSWERS / name).read_bytes()


def played(body: bytes, content_type: str | None, *more: str, cut: bool) -> Behaviour:
    """The provider's bytes: one chunk, and the end behind it unless the connection ends there."""
    head = ["HTTP/1.1 200 OK", "transfer-encoding: chunked", *more]
    if content_type is not None:
        head.append(f"content-type: {content_type}")
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    return Behaviour(
        raw="\r\n".join([*head, "", ""]).encode() + chunk + (b"" if cut else b"0\r\n\r\n")
    )


def asking(*, stream: bool = True, **more: Any) -> bytes:
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps(
        {"model": "gpt-4o", "messages": messages, "max_tokens": 2_000, "stream": stream, **more}
    ).encode()


@dataclass
class Got:
    """What the client has, and what was written and charged for it."""

    status: int
    head: str
    body: bytes
    whole: bool
    """The answer ended as HTTP has it, and was not cut."""
    line: dict[str, Any]
    used: Decimal
    """Of the budget, by this call."""

    @property
    def ended(self) -> tuple[str, str, str]:
        return self.line["decision"], self.line["reason"], self.line["charged_by"]

    @property
    def cost(self) -> Decimal:
        """In the line and in the budget."""
        assert Decimal(self.line["cost_usd"]) == self.used
        return self.used


def used(inside: Inside) -> Decimal:
    state = inside.budget()[LIMIT]
    assert Decimal(state["held"]) == 0
    return Decimal(state["used"])


def got(asked: Attacked, behaviour: Behaviour, request: bytes) -> Got:
    before = used(asked.inside)
    asked.inside.standin.script(behaviour)
    with asked.tunnel() as client:
        client.send(post(request, "Connection: close"))
        data = client.rest()
    [line] = asked.lines(1)
    head, _, rest = data.partition(b"\r\n\r\n")
    body, whole = unchunked(rest)
    text = head.decode().lower()
    return Got(int(text.split(" ")[1]), text, body, whole, line, used(asked.inside) - before)


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """A chunked body, and whether it has its end."""
    body = b""
    while b"\r\n" in data:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        body += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return body, False


# An error under status 200.


def test_an_error_object(asked: Attacked) -> None:
    """It is the client's as it is, and costs nothing."""
    body = sent("error_object.json")
    found = got(asked, played(body, "application/json", cut=False), asking(stream=False))
    assert (found.status, found.body, found.whole) == (200, body, True)
    assert found.ended == ("fail", "upstream_error", "none")
    assert (found.cost, found.line["tokens"], found.line["status"]) == (0, {}, 200)


@pytest.mark.parametrize("content_type", [EVENTS, "application/json"])
def test_an_error_object_where_a_stream_was_asked_for(asked: Attacked, content_type: str) -> None:
    """What was asked for does not make it a stream."""
    body = sent("error_object.json")
    found = got(asked, played(body, content_type, cut=False), asking())
    assert (found.status, found.body, found.whole) == (200, body, True)
    assert (found.ended, found.cost) == (("fail", "upstream_error", "none"), 0)


def test_an_error_first_in_a_stream(asked: Attacked) -> None:
    """No text came, so nothing is charged."""
    body = sent("error_first_in_stream.sse")
    found = got(asked, played(body, EVENTS, cut=False), asking())
    assert (found.status, found.body, found.whole) == (200, body, True)
    assert found.ended == ("fail", "upstream_error", "none")
    assert (found.cost, found.line["tokens"]) == (0, {})


def test_an_error_behind_text(asked: Attacked) -> None:
    """The input and what was seen: five texts of 25 bytes."""
    body = sent("error_after_text.sse")
    found = got(asked, played(body, EVENTS, cut=False), asking())
    assert (found.status, found.body, found.whole) == (200, body, True)
    assert found.ended == ("fail", "upstream_error", "estimate")
    assert found.cost == HELD_INPUT * INPUT + 33 * OUTPUT


# Counts that are wrong, and answers that are cut.


def test_a_count_of_zero_in_each_frame(asked: Attacked) -> None:
    """A count is a lower bound: the 60 texts that were seen go before it, and the client has them without the counts."""
    body = sent("zero_usage_in_each_frame.sse")
    found = got(asked, played(body, EVENTS, cut=True), asking())
    assert (found.status, found.whole) == (200, False)
    assert found.body == body.replace(
        b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}', b""
    )
    assert found.ended == ("fail", "upstream_bad_answer", "estimate")
    assert found.cost == HELD_INPUT * INPUT + 403 * OUTPUT


def test_the_count_of_one_choice_of_eight(asked: Attacked) -> None:
    """The 20 texts of all eight were seen; the input is the provider's."""
    body = sent("usage_of_one_choice_of_eight.sse")
    found = got(asked, played(body, EVENTS, cut=True), asking(n=8))
    assert found.line["tokens"] == {"input": 12, "output": 140}
    assert found.ended == ("fail", "upstream_bad_answer", "estimate")
    assert found.cost == 12 * INPUT + 1_060 * OUTPUT


def test_eight_tool_calls_in_a_frame(asked: Attacked) -> None:
    """The 20 arguments of all eight count."""
    body = sent("eight_tool_calls_in_a_frame.sse")
    found = got(asked, played(body, EVENTS, cut=True), asking())
    assert found.body == body
    assert found.ended == ("fail", "upstream_bad_answer", "estimate")
    assert found.cost == HELD_INPUT * INPUT + 1_060 * OUTPUT


def test_text_beside_reasoning(asked: Attacked) -> None:
    """Both count: 20 texts, and 20 of reasoning that are seven times as long."""
    body = sent("text_beside_reasoning.sse")
    found = got(asked, played(body, EVENTS, cut=True), asking())
    assert found.body == body
    assert found.ended == ("fail", "upstream_bad_answer", "estimate")
    assert found.cost == HELD_INPUT * INPUT + 1_060 * OUTPUT


# A stream is one under any type.


@pytest.mark.parametrize(
    "content_type",
    ["text/plain; charset=utf-8", "application/json", "application/octet-stream", None, EVENTS],
)
def test_a_stream_of_any_type(asked: Attacked, content_type: str | None) -> None:
    """It is counted, and the client does not see the frame that only the gateway asked for."""
    frames = sent("stream_with_usage.sse").split(b"\n\n")
    found = got(asked, played(b"\n\n".join(frames), content_type, cut=False), asking())
    assert (found.status, found.whole) == (200, True)
    assert found.body == b"\n\n".join([*frames[:2], *frames[3:]])
    assert (
        f"content-type: {content_type}" in found.head
        if content_type
        else "content-type" not in found.head
    )
    assert (found.ended, found.line["tokens"]) == (
        ("allow", "", "usage"),
        {"input": 12, "output": 5},
    )
    assert found.cost == 12 * INPUT + 5 * OUTPUT


def test_a_tier_that_is_told_early(asked: Attacked) -> None:
    """The last one that was told is the one that was served, though the frame with the count has none."""
    found = got(asked, played(sent("tier_in_early_frames_only.sse"), EVENTS, cut=False), asking())
    assert (found.ended, found.line["tokens"]) == (
        ("allow", "", "usage"),
        {"input": 1000, "output": 500},
    )
    assert found.cost == 1000 * PRIORITY_INPUT + 500 * PRIORITY_OUTPUT


# The provider's health.


def test_errors_under_200_open_the_breaker(tmp_path: Path) -> None:
    """Ten of the provider's own in a row, as a status of 5xx would; the metrics count them by their reason."""
    settings = {f"projects.{PROJECT}": {"limits": [LIMIT]}, "listen": {"admin": "127.0.0.1:0"}}
    with open_inside(tmp_path, settings) as inside:
        for _ in range(10):
            asked = begin(inside)
            behaviour = played(sent("error_object.json"), "application/json", cut=False)
            assert got(asked, behaviour, asking(stream=False)).line["reason"] == "upstream_error"
        asked = begin(inside)
        with asked.tunnel() as client:
            answer = client.ask(post(asking(stream=False)))
        asked.refused(answer, 503, "breaker_open", dialled=True)
        text = httpx2.get(
            f"http://{inside.gateway.addresses['admin']}/metrics", trust_env=False
        ).text
        counted = {
            (sample.labels["status"], sample.labels["reason"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "tollhouse_calls_total"
        }
        assert counted["2xx", "upstream_error"] == 10
        assert counted["5xx", "breaker_open"] == 1


# Answers that come compressed though `identity` was asked for.

CODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_stream(asked: Attacked, coding: str) -> None:
    """It is metered, and the client has it plain, as if it had come so."""
    plain = sent("stream_with_usage.sse")
    coded = played(CODINGS[coding](plain), EVENTS, f"content-encoding: {coding}", cut=False)
    found = got(asked, coded, asking(stream_options={"include_usage": True}))
    assert (found.status, found.body, found.whole) == (200, plain, True)
    assert "content-encoding" not in found.head
    assert found.ended == ("allow", "", "usage")
    assert found.cost == 12 * INPUT + 5 * OUTPUT


def test_a_compressed_answer_that_is_cut(asked: Attacked) -> None:
    """What came of it was read and is charged; the client sees that it is not whole."""
    plain = sent("text_beside_reasoning.sse")
    half = gzip.compress(plain)[:-9]
    found = got(asked, played(half, EVENTS, "content-encoding: gzip", cut=False), asking())
    assert (found.status, found.whole) == (200, False)
    assert plain.startswith(found.body)
    assert found.ended == ("fail", "upstream_bad_answer", "estimate")


def test_a_coding_that_nobody_knows(asked: Attacked) -> None:
    """502: its usage could not be read."""
    found = got(asked, played(b"xx", EVENTS, "content-encoding: compress", cut=False), asking())
    assert found.status == 502
    assert found.ended[:2] == ("fail", "upstream_bad_answer")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_request(asked: Attacked, coding: str, stream: bool) -> None:
    """It is judged plain and goes out byte for byte. One that is made to ask for its usage goes out
    plain."""
    body = asking(stream=stream)
    coded = CODINGS[coding](body)
    # The stand-in itself reads no compressed request.
    whole = "stream_with_usage.sse" if stream else "error_object.json"
    asked.inside.standin.script(played(sent(whole), None, cut=False))
    with asked.tunnel() as client:
        assert client.ask(post(coded, f"Content-Encoding: {coding}")).status == 200
    request = asked.clean()
    if stream:
        assert request.get_all("content-encoding") == []
        assert request.document()["stream_options"] == {"include_usage": True}
    else:
        assert (request.body, request.get_all("content-encoding")) == (coded, [coding])
