"""Answers of any size: the provider waits for a client that reads slowly, and the gateway keeps next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from tests.support.gateway import Road, open_road
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
BINARY = [("content-type", "application/octet-stream")]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    settings = {"providers.openai": {"share_objects": True}}
    with open_road(tmp_path_factory.mktemp("process"), settings, standin=StandIn()) as road:
        yield road


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
