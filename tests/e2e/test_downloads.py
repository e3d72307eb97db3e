"""Files by OpenAI's SDK, and answers of any size: the provider waits for a client that reads slowly, and the gateway keeps next to
nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import openai
import pytest
from tests.support.gateway import PLACEHOLDER, Road, open_road
from tests.support.memory import forget_peak, peak_rss

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import reply

MIB = 1 << 20
PIECE = bytes(range(256)) * 256
PIECES = 1_600
GROWTH = 8 * MIB
"""Of the gateway's memory, at most."""
STEP = 100_000
"""Bytes that a slow reader takes at a time."""
AHEAD = 40 * MIB
"""Of what the provider may have written and the reader not read: kernels have that."""
JSON = [("content-type", "application/json")]
BINARY = [("content-type", "application/octet-stream")]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    settings = {"providers.openai": {"share_objects": True}}
    with open_road(tmp_path_factory.mktemp("process"), settings, standin=StandIn()) as road:
        yield road


def test_files(process: Road) -> None:
    """From the upload to the deletion. `wait_for_processing` is the SDK's own poll."""
    process.standin.clear()
    process.fresh()
    content = bytes(range(256)) * 9
    with process.sdk() as sdk:
        made = sdk.files.create(file=("tolls.bin", content), purpose="assistants")
        assert sdk.files.wait_for_processing(made.id, poll_interval=0.001).status == "processed"
        other = sdk.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")
        listed = [(one.id, one.filename, one.bytes) for one in sdk.files.list()]
        assert listed == [(other.id, "b.jsonl", 3), (made.id, "tolls.bin", len(content))]
        assert sdk.files.content(made.id).read() == content
        assert sdk.files.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(made.id)
    lines = process.wait_lines(8)
    assert [line["status"] for line in lines] == [200] * 7 + [404]
    assert {line["cost_usd"] for line in lines} == {"0"}
    assert all(PLACEHOLDER.encode() not in one.everything() for one in process.standin.snapshot())


def test_a_file_in_parts(process: Road) -> None:
    """The SDK divides it, and the provider gets all of its bytes in their order."""
    process.standin.clear()
    process.fresh()
    content = bytes(range(256)) * 9
    upload = {
        "id": "upload_1",
        "object": "upload",
        "status": "pending",
        "bytes": len(content),
        "filename": "tolls.bin",
        "purpose": "assistants",
        "created_at": 1,
        "expires_at": 2,
    }
    parts = [{"id": f"part_{n}", "object": "upload.part", "created_at": 1} for n in range(3)]
    for shown in (upload, *parts, {**upload, "status": "completed"}):
        process.standin.script(reply(200, json.dumps(shown).encode(), JSON))
    with process.sdk() as sdk:
        whole = sdk.uploads.upload_file_chunked(
            file=content,
            filename="tolls.bin",
            bytes=len(content),
            mime_type="application/octet-stream",
            purpose="assistants",
            part_size=1000,
        )
    assert whole.status == "completed"
    assert {line["cost_usd"] for line in process.wait_lines(5)} == {"0"}
    _, *sent, completed = process.standin.snapshot()
    assert [one.target for one in sent] == ["/v1/uploads/upload_1/parts"] * 3
    assert all(
        content[at : at + 1000] in one.body for at, one in zip((0, 1000, 2000), sent, strict=True)
    )
    assert completed.document()["part_ids"] == ["part_0", "part_1", "part_2"]


POLLS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "vector_stores/vs_1/files/file-1": lambda sdk: sdk.vector_stores.files.poll(
        "file-1", vector_store_id="vs_1"
    ),
    "vector_stores/vs_1/file_batches/b_1": lambda sdk: sdk.vector_stores.file_batches.poll(
        "b_1", vector_store_id="vs_1"
    ),
    "threads/thread_1/runs/run_1": lambda sdk: sdk.beta.threads.runs.poll(
        "run_1", thread_id="thread_1"
    ),
}


@pytest.mark.parametrize("path", POLLS)
def test_a_poll_of_the_sdk(process: Road, path: str) -> None:
    """It asks until the provider says that it is done, as often as the provider's header says."""
    process.standin.clear()
    process.fresh()
    for status in ("in_progress", "in_progress", "completed"):
        counts = dict.fromkeys(("in_progress", "completed", "failed", "cancelled"), 0)
        counts |= {status: 1, "total": 1}
        body = json.dumps({"id": "it", "status": status, "file_counts": counts}).encode()
        process.standin.script(reply(200, body, [*JSON, ("openai-poll-after-ms", "1")]))
    with process.sdk() as sdk:
        assert POLLS[path](sdk).status == "completed"
    received = process.standin.snapshot()
    assert [one.target for one in received] == [f"/v1/{path}"] * 3
    assert {one.get("x-stainless-poll-helper") for one in received} == {"true"}
    assert [line["cost_usd"] for line in process.wait_lines(3)] == ["0"] * 3


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_a_client_that_does_not_read(process: Road, protocol: str) -> None:
    """The provider's writes stall at less than 40 MB of 100 MB: kernels have that. All of it comes once it is read, and the
    gateway's memory grows by less than 8 MB, while it waits and afterwards."""
    standin = process.standin
    standin.clear()
    standin.script(reply(200, [PIECE], BINARY), reply(200, [PIECE] * PIECES, BINARY))
    url = "https://api.openai.com/v1/files/file-1/content"
    [worker] = process.gateway.worker_pids()
    with process.http(http2=protocol == "2") as client:
        assert client.get(url).content == PIECE
        before = forget_peak(worker)
        with client.stream("GET", url) as answer:
            assert answer.status_code == 200
            assert stalled_at(standin) * len(PIECE) < AHEAD
            assert peak_rss(worker) - before < GROWTH
            size = 0
            for piece in answer.iter_raw():
                assert piece == (PIECE * 16)[size % 256 :][: len(piece)]
                size += len(piece)
    assert size == PIECES * len(PIECE)
    assert peak_rss(worker) - before < GROWTH


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_a_client_that_reads_slowly(process: Road, protocol: str) -> None:
    """However slow it is: after each step of it the provider is no further ahead than what kernels have, and the gateway's memory
    has not grown. So the time that it takes is no matter, and is not waited for."""
    standin = process.standin
    standin.clear()
    standin.script(reply(200, [PIECE] * PIECES, BINARY))
    [worker] = process.gateway.worker_pids()
    with process.http(http2=protocol == "2") as client:
        before = forget_peak(worker)
        url = "https://api.openai.com/v1/files/file-1/content"
        with client.stream("GET", url) as answer:
            pieces, read = answer.iter_raw(STEP), 0
            written = [stalled_at(standin)]
            for _ in range(30):
                read += len(next(pieces))
                written.append(len(standin.snapshot()[-1].sent))
                assert written[-1] * len(PIECE) - read < AHEAD
                assert peak_rss(worker) - before < GROWTH
            # It has waited for this reader: it goes on because of what was read, and no further.
            assert read == 30 * STEP
            assert standin.wait_for(partial(goes_on, written[0]), timeout=30)
            assert stalled_at(standin) * len(PIECE) - read < AHEAD
    assert peak_rss(worker) - before < GROWTH


def stalled_at(standin: StandIn) -> int:
    """How many pieces were written when no further one could be."""
    count = 0
    while standin.wait_for(partial(goes_on, count), timeout=1):
        count = len(standin.snapshot()[-1].sent)
    return count


def goes_on(count: int, book: list[Received]) -> bool:
    return len(book[-1].sent) > count
