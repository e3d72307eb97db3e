"""Files that pass through the gateway: what the provider gets, what is kept of them, and when they are sent again."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.families.samples.forms import BOUNDARY, form, wav
from tests.support.attack import HOST, Attacked, watched
from tests.support.gateway import Road, open_road
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.memory import forget_peak, peak_rss
from tests.support.openai_media import FILE, HEARD, answered
from tests.support.raw import Closed
from tests.support.weighed import LargeForm, WeighingStandIn, Weight, weight_of

from tollhouse.admit.bodies import KeptFor
from tollhouse.demo.standin_script import Behaviour, reply
from tollhouse.gateway import Gateway

URL = f"https://{HOST}/v1"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
MIB = 1 << 20
LATER = reply(
    429,
    b'{"error":{"message":"Later.","type":"requests","code":"rate_limit_exceeded"}}',
    [("content-type", "application/json"), ("retry-after-ms", "1")],
)


def a_file(size: int) -> bytes:
    return form(("purpose", b"assistants"), ("file", b"\x00toll\r\n" * (size // 7), "a.bin"))


def pieces(body: bytes) -> Iterator[bytes]:
    for at in range(0, len(body), 65_536):
        yield body[at : at + 65_536]


@pytest.fixture(scope="module", params=["spool", "none"])
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway process of its own, whose memory is its own; with a disk for uploads and without one."""
    limits = {"max_body_bytes": 2 * MIB} | (
        {"upload_spool_mb": 0} if request.param == "none" else {}
    )
    with open_road(
        tmp_path_factory.mktemp("process"), {"limits": limits}, standin=WeighingStandIn()
    ) as road:
        yield road


LONG = pytest.mark.skipif("CI" in os.environ, reason="it takes half a minute; run it without CI")
SIZES = [24 * MIB, pytest.param(512 * MIB, marks=LONG)]
GROWTH = 12 * MIB
"""Of the gateway's memory, at most, whatever the size of the file."""


@pytest.mark.parametrize(
    ("protocol", "framing", "size"),
    [
        ("1", "length", 24 * MIB),
        ("2", "chunked", 24 * MIB),
        # The largest that is allowed.
        ("1", "length", 512 * MIB),
        ("2", "chunked", 512 * MIB),
    ],
)
def test_memory_is_bounded(
    process: Road, request: Any, protocol: str, framing: str, size: int
) -> None:
    """As many bytes as are allowed pass through as they are. Neither the client nor the provider has all of them at any time,
    so the gateway can't wait for them."""
    spooled = request.node.callspec.params["process"] == "spool"
    if "CI" in os.environ and (size > 24 * MIB) is not spooled:
        pytest.skip("in CI the largest upload has a disk, and the other has none")
    process.standin.clear()
    weighed = weights(process)
    body = LargeForm(size)
    headers = {"content-type": TYPE} | (
        {"content-length": str(size)} if framing == "length" else {}
    )
    process.standin.script(answered(FILE), answered(FILE))
    [worker] = process.gateway.worker_pids()
    with process.http(http2=protocol == "2") as client:
        small = client.post(f"{URL}/files", content=a_file(7), headers={"content-type": TYPE})
        assert small.status_code == 200
        before = forget_peak(worker)
        answer = client.post(f"{URL}/files", content=body.pieces(), headers=headers, timeout=120)
    grown = peak_rss(worker) - before
    assert (answer.status_code, answer.json()["id"]) == (200, "file-1")
    received = process.standin.wait_count(2)[1]
    assert weighed[1:] == [body.weight]
    assert received.get("content-type") == TYPE
    assert received.get("content-length") == ("" if framing == "chunked" else str(size))
    assert grown < GROWTH
    assert list((process.directory / "state").glob("upload-*")) == []
    process.standin.clear()


@pytest.mark.parametrize("size", SIZES)
def test_a_refused_upload_is_sent_again_from_the_disk(
    process: Road, request: Any, size: int
) -> None:
    """Without the disk the provider's own refusal is passed on: there was one attempt."""
    process.standin.clear()
    weighed = weights(process)
    spooled = request.node.callspec.params["process"] == "spool"
    lines = len(process.lines())
    process.standin.script(LATER, answered(FILE))
    body = LargeForm(size)
    headers = {"content-type": TYPE, "content-length": str(size)}
    [worker] = process.gateway.worker_pids()
    before = forget_peak(worker)
    with process.http() as client:
        answer = client.post(f"{URL}/files", content=body.pieces(), headers=headers, timeout=120)
    grown = peak_rss(worker) - before
    line = process.wait_lines(lines + 1)[lines]
    outcomes = [attempt["outcome"] for attempt in line["attempts"]]
    assert outcomes == (["429", "200"] if spooled else ["429"])
    assert answer.status_code == int(outcomes[-1])
    assert weighed == [body.weight] * len(outcomes)
    assert grown < GROWTH


def weights(process: Road) -> list[Weight]:
    """What the provider weighs from here on."""
    assert isinstance(process.standin, WeighingStandIn)
    process.standin.weighed.clear()
    return process.standin.weighed


def test_a_form_that_costs_money_and_names_its_model_last(process: Road, request: Any) -> None:
    """It is read whole before it is held for, so it needs the disk where it is larger than a body in memory may be."""
    process.standin.clear()
    weighed = weights(process)
    spooled = request.node.callspec.params["process"] == "spool"
    lines = len(process.lines())
    process.standin.script(answered(HEARD))
    body = form(("file", wav(120), "toll.wav"), ("model", b"whisper-1"))
    with process.http() as client:
        answer = client.post(
            f"{URL}/audio/transcriptions", content=body, headers={"content-type": TYPE}
        )
    line = process.wait_lines(lines + 1)[lines]
    if spooled:
        assert (answer.status_code, line["charged_by"], line["cost_usd"]) == (
            200,
            "usage",
            "0.0004",
        )
        assert float(line["held_usd"]) == 0.0121
        assert weighed == [weight_of(body)]
    else:
        assert (answer.status_code, line["reason"]) == (413, "body_too_large")
        assert "upload_spool_mb" in answer.text
        assert process.standin.snapshot() == []


def test_the_disk_fails(process: Road, request: Any) -> None:
    """The kernel refuses to make the file larger. What costs money is told so, and nothing of it leaves; what costs nothing
    goes on without the disk, once."""
    if request.node.callspec.params["process"] == "none":
        pytest.skip("nothing is written to the disk")
    process.standin.clear()
    weighed = weights(process)
    process.standin.script(LATER)
    lines = len(process.lines())
    [worker] = process.gateway.worker_pids()
    gateway = psutil.Process(worker)
    before = gateway.rlimit(psutil.RLIMIT_FSIZE)
    gateway.rlimit(psutil.RLIMIT_FSIZE, (2 * MIB, before[1]))
    heard = form(("file", wav(120), "toll.wav"), ("model", b"whisper-1"))
    body = a_file(8 * MIB)
    headers = {"content-type": TYPE}
    try:
        with process.http() as client:
            paid = client.post(f"{URL}/audio/transcriptions", content=heard, headers=headers)
            assert process.standin.snapshot() == []
            free = client.post(f"{URL}/files", content=body, headers=headers)
    finally:
        gateway.rlimit(psutil.RLIMIT_FSIZE, before)
    assert (paid.status_code, paid.headers["x-tollhouse-reason"]) == (503, "upload_spool_full")
    assert "disk" in paid.text
    assert free.status_code == 429
    assert weighed == [weight_of(body)]
    assert [len(line["attempts"]) for line in process.wait_lines(lines + 2)[lines:]] == [0, 1]


@pytest.fixture(scope="module", params=["own", "mitmproxy"])
def tight(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    """Room for one file of 8 MiB on the disk, and two seconds for what comes slowly; with each HTTP/1."""
    limits = {
        "max_body_bytes": 100_000,
        "max_upload_bytes": 8 * MIB,
        "upload_spool_mb": 8,
        "request_timeout_s": 2,
    }
    settings = {
        "limits": limits,
        "listen": {"http1": request.param},
        f"projects.{PROJECT}": {"limits": ["0.01 usd/day"]},
    }
    with open_inside(tmp_path_factory.mktemp("tight"), settings) as inside:
        yield inside


@pytest.fixture
def bounded(tight: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(tight, caplog)


def head(path: str, *headers: str) -> bytes:
    lines = [f"POST /v1/{path} HTTP/1.1", f"Host: {HOST}", f"Content-Type: {TYPE}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def sized(path: str, body: bytes, *headers: str) -> bytes:
    return head(path, f"Content-Length: {len(body)}", *headers)


def has_room(gateway: Gateway, count: int) -> bool:
    """The disk has room for so many bytes more."""
    assert gateway.upload_spool is not None
    return gateway.upload_spool.has_room(KeptFor("any", "any", "any"), count)


def free(inside: Inside) -> None:
    """Nothing of any upload is kept, soon after its end."""
    inside.until(lambda gateway: not gateway.journey.under_way)
    inside.until(lambda gateway: has_room(gateway, 8 * MIB))
    inside.until(lambda gateway: gateway.bodies.kept_bytes == 0)


def never_whole(inside: Inside) -> None:
    """What the provider has got of it can't be taken for a request."""
    assert not any(one.complete for one in inside.standin.snapshot())
    inside.standin.clear()


def test_the_provider_gets_it_while_it_comes(bounded: Attacked) -> None:
    """Half of it is at the provider before the client sends the rest."""
    body = a_file(2 * MIB)
    bounded.inside.standin.script(answered(FILE))
    with bounded.tunnel() as client:
        client.send(sized("files", body) + body[:MIB])
        assert bounded.inside.standin.wait_for(bool)
        assert client.ask(body[MIB:], "POST").status == 200
    bounded.lines(1)
    free(bounded.inside)
    bounded.inside.standin.clear()


def test_the_client_is_asked_to_go_on(bounded: Attacked) -> None:
    """Expect: 100-continue."""
    body = a_file(2 * MIB)
    bounded.inside.standin.script(answered(FILE))
    with bounded.tunnel() as client:
        client.send(sized("files", body, "Expect: 100-continue"))
        assert client.interim().status == 100
        assert client.ask(body, "POST").status == 200
    [received] = bounded.inside.standin.wait_count(1)
    assert received.get("expect") == ""
    bounded.lines(1)
    bounded.inside.standin.clear()


@pytest.mark.parametrize(
    ("framing", "limit"), [("length", "max_upload_bytes"), ("chunked", "max_upload_bytes")]
)
def test_larger_than_allowed(bounded: Attacked, framing: str, limit: str) -> None:
    body = a_file(9 * MIB)
    with bounded.tunnel() as client:
        if framing == "length":
            client.send(sized("files", body))
        else:
            client.send(head("files", "Transfer-Encoding: chunked"))
            try:
                for piece in pieces(body):
                    client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            except Closed:
                pass
        answer = client.answer()
    assert (answer.status, answer.reason) == (413, "body_too_large")
    assert limit in answer.body.decode()
    bounded.lines(1)
    free(bounded.inside)
    never_whole(bounded.inside)


def test_a_client_that_falls_silent(bounded: Attacked) -> None:
    """408 after request_timeout_s, and the provider's connection ends."""
    body = a_file(2 * MIB)
    with bounded.tunnel() as client:
        answer = client.ask(sized("files", body) + body[:MIB], "POST")
    assert (answer.status, answer.reason) == (408, "timeout")
    [line] = bounded.lines(1)
    assert (line["reason"], line["charged_by"], line["cost_usd"]) == ("timeout", "none", "0")
    free(bounded.inside)
    assert bounded.inside.standin.wait_for(
        lambda book: all(one.outcome == "client_gone" for one in book)
    )
    never_whole(bounded.inside)


def test_a_client_that_leaves(bounded: Attacked) -> None:
    body = a_file(2 * MIB)
    with bounded.tunnel() as client:
        client.send(sized("files", body) + body[:MIB])
        assert bounded.inside.standin.wait_for(bool)
    [line] = bounded.lines(1)
    assert (line["reason"], line["cost_usd"]) == ("client_gone", "0")
    free(bounded.inside)
    assert bounded.inside.standin.wait_for(
        lambda book: all(one.outcome == "client_gone" for one in book)
    )
    never_whole(bounded.inside)


@pytest.mark.parametrize(
    "body",
    [
        a_file(2 * MIB)[:-6],
        a_file(2 * MIB) + b"more",
        a_file(2 * MIB).replace(b"purpose", b"Purpose"),
        form(("file", b"x" * MIB, "a"), ("purpose", b"a"), ("purpose", b"b")),
    ],
)
def test_a_form_that_is_none_at_its_end(bounded: Attacked, body: bytes) -> None:
    """Its last bytes never leave."""
    with bounded.tunnel() as client:
        answer = client.ask(sized("files", body) + body, "POST")
    assert (answer.status, answer.reason) == (400, "bad_request")
    bounded.lines(1)
    free(bounded.inside)
    never_whole(bounded.inside)


def test_an_id_behind_the_file_is_not_the_tenants(bounded: Attacked) -> None:
    """The key is shared, and the form names a file of nobody's: it is refused before its last bytes leave."""
    body = form(("file", b"x" * 2 * MIB, "a"), ("file_id", b"file-of-another"))
    inside = bounded.inside
    inside.do(inside.gateway.objects.note("acme", "openai", ["cntr_1"]))
    with bounded.tunnel() as client:
        answer = client.ask(sized("containers/cntr_1/files", body) + body, "POST")
    assert (answer.status, answer.reason) == (403, "object_not_yours")
    bounded.lines(1)
    free(inside)
    never_whole(inside)


def test_an_upload_makes_an_object_of_the_tenants(bounded: Attacked) -> None:
    inside = bounded.inside
    body = a_file(2 * MIB)
    inside.standin.script(answered(FILE), reply(200, b"{}", [("content-type", "application/json")]))
    with bounded.tunnel() as client:
        assert client.ask(sized("files", body) + body, "POST").status == 200
        shown = client.ask(f"GET /v1/files/file-1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert shown.status == 200
    bounded.lines(2)
    inside.standin.clear()


def test_nothing_leaves_before_it_is_held_for(bounded: Attacked) -> None:
    """Two minutes of sound cost more than the project has."""
    body = form(("file", wav(120), "a.wav"), ("model", b"whisper-1"))
    with bounded.tunnel() as client:
        answer = client.ask(sized("audio/transcriptions", body) + body, "POST")
    assert (answer.status, answer.reason) == (402, "budget_exceeded")
    assert bounded.inside.standin.snapshot() == []
    bounded.lines(1)
    free(bounded.inside)


def test_the_disk_is_full_of_other_uploads(bounded: Attacked) -> None:
    """What costs money waits for room; what costs nothing is sent without it, once, also where the room ends in the middle
    of it. The length that a request names takes no room."""
    inside = bounded.inside
    first = a_file(8 * MIB - 1024)
    heard = form(("file", wav(110), "a.wav"), ("model", b"whisper-1"))
    second = a_file(4 * MIB)
    inside.standin.script(Behaviour(), LATER, LATER)
    with bounded.tunnel() as holder, bounded.tunnel() as client:
        holder.send(sized("files", first) + first[: 6 * MIB])
        inside.until(lambda gateway: not has_room(gateway, 3 * MIB))
        answer = client.ask(sized("audio/transcriptions", heard) + heard, "POST")
        assert (answer.status, answer.reason) == (503, "upload_spool_full")
        assert answer.get("retry-after") == "1"
        assert client.ask(sized("files", second) + second, "POST").status == 429
        client.send(head("files", "Transfer-Encoding: chunked"))
        for piece in pieces(second):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert client.ask(b"0\r\n\r\n", "POST").status == 429
    lines = bounded.lines(4)
    assert sorted(len(line["attempts"]) for line in lines) == [0, 1, 1, 1]
    assert [one.body == second for one in inside.standin.snapshot()] == [False, True, True]
    free(inside)
    inside.standin.clear()


def test_a_length_that_is_a_lie(bounded: Attacked) -> None:
    """It names all of the room and sends a quarter of it: others have the rest."""
    inside = bounded.inside
    body = a_file(8 * MIB - 1024)
    other = a_file(4 * MIB)
    inside.standin.script(Behaviour(), LATER, answered(FILE))
    with bounded.tunnel() as liar, bounded.tunnel() as client:
        liar.send(sized("files", body) + body[: 2 * MIB])
        assert inside.standin.wait_for(bool)
        assert client.ask(sized("files", other) + other, "POST").status == 200
    assert sorted(len(line["attempts"]) for line in bounded.lines(2)) == [1, 2]
    free(inside)
    inside.standin.clear()


@pytest.mark.parametrize(
    ("header", "said"),
    [("Content-Encoding: gzip", "Content-Encoding"), ("Content-Encoding: identity", "")],
)
def test_what_is_kept_in_memory_is_told_why(bounded: Attacked, header: str, said: str) -> None:
    """A compressed upload is bounded as other bodies are, and the answer says what to do."""
    body = a_file(2 * MIB)
    if not said:
        bounded.inside.standin.script(answered(FILE))
    with bounded.tunnel() as client:
        client.send(sized("files", body, header))
        if not said:
            assert client.ask(body, "POST").status == 200
        else:
            answer = client.answer()
            assert (answer.status, answer.reason) == (413, "body_too_large")
            assert f"has to come without a {said}" in answer.body.decode()
    bounded.lines(1)
    free(bounded.inside)
    bounded.inside.standin.clear()


READS = """
class Reads:
    def request(self, flow):
        flow.request.headers["x-read"] = str(len(flow.request.content))
"""


@pytest.fixture(params=["coded", "addon"])
def small(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Attacked]:
    """Room for 2 MiB of bodies in memory, for 1 MiB of one token's; with an addon that reads bodies, or without one."""
    settings: dict[str, dict[str, Any]] = {
        "limits": {"max_body_bytes": 1_000_000, "max_bodies_mb": 2}
    }
    if request.param == "addon":
        (tmp_path / "own.py").write_text(READS)
        settings["addons"] = {"load": ["own.py:Reads"]}
    with open_inside(tmp_path, settings) as inside:
        yield from watched(inside, caplog)


def test_what_is_kept_in_memory_counts(small: Attacked, request: Any) -> None:
    """An upload with a content coding, and one that an addon reads, has a part of the memory for bodies, coded and plain. One
    that has no room there is refused, and none of it leaves."""
    coded = request.node.callspec.params["small"] == "coded"
    body = plain = form(("purpose", b"a"), ("file", os.urandom(400_000 if coded else 700_000), "a"))
    headers: tuple[str, ...] = ()
    if coded:
        body, headers = gzip.compress(plain), ("Content-Encoding: gzip",)
    inside = small.inside
    inside.standin.script(answered(FILE))
    with small.tunnel() as first, small.tunnel() as second:
        first.send(sized("files", body, *headers) + body[:-1])
        inside.until(lambda gateway: gateway.bodies.kept_bytes >= len(body) - 1)
        full = second.ask(sized("files", body, *headers) + body, "POST")
        assert (full.status, full.reason, full.get("retry-after")) == (
            429,
            "concurrency_limited",
            "1",
        )
        assert "as much as is kept" in full.body.decode()
        assert inside.standin.snapshot() == []
        assert first.ask(body[-1:], "POST").status == 200
    [received] = inside.standin.wait_count(1)
    assert received.body == body
    assert received.get("x-read") == ("" if coded else str(len(plain)))
    with small.tunnel() as client:
        client.send(head("files", f"Content-Length: {9 * MIB}", *headers))
        large = client.answer()
    assert (large.status, large.reason) == (413, "body_too_large")
    assert ("without a Content-Encoding" if coded else "an addon") in large.body.decode()
    inside.until(lambda gateway: gateway.bodies.kept_bytes == 0)
    small.lines(3)
