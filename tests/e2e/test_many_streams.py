"""Many streams at once on one worker, in lock step: each piece is at its client before the provider sends the next one.

The provider waits for a word of the test before each piece, and the test gives it only when every client has the piece before: a
gateway that keeps a piece back until more comes makes the test wait for ever. ``python -m bench --only streams`` does the same
with 1,000 streams, and measures the memory.
"""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bench import load
from tests.support.gateway import Road, open_road

from tollhouse.demo.standin_script import Behaviour, Steps

pytestmark = pytest.mark.requires("redis", "openbao")

STREAMS = 200
WORDS = "one two three four five six"
# It asks for usage itself: the gateway asks for it where the client does not, and then keeps that piece to itself.
BODY = json.loads(load.body(stream=True)) | {"stream_options": {"include_usage": True}}
WAIT_S = 60.0
"""For one piece of all streams. Nothing waits that long unless a piece is kept back."""


async def piece_of_each(tunnels: list[load.Tunnel]) -> set[bytes]:
    async with asyncio.timeout(WAIT_S):
        return set(await asyncio.gather(*(tunnel.chunk() for tunnel in tunnels)))


async def in_lock_step(road: Road, steps: Steps, pieces: list[bytes]) -> None:
    """Every client gets exactly these pieces, each before the next one is sent."""
    port = int(road.gateway.proxy.rpartition(":")[2])
    tunnels = await load.open_many(load.Proxy.basic(port, road.project, road.token), STREAMS)
    payload = json.dumps(BODY).encode()
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*(tunnel.begin(payload) for tunnel in tunnels))
    for number, piece in enumerate(pieces):
        sent = {len(received.sent) for received in road.standin.snapshot()}
        assert sent == {number}, "a piece was sent before its word"
        steps.release()
        assert await piece_of_each(tunnels) == {piece}
    assert await piece_of_each(tunnels) == {b""}
    for tunnel in tunnels:
        tunnel.close()


def test_in_lock_step(tmp_path: Path) -> None:
    """200 are open before the first piece goes out. None is broken, each is charged, and no hold is left."""
    with open_road(tmp_path, stores="real", limits=("100 usd/day",)) as road:
        with road.direct() as client:
            road.standin.always(Behaviour(text=WORDS))
            answer = client.post("/v1/chat/completions", json=BODY)
            pieces = [event + b"\n\n" for event in answer.content.split(b"\n\n")[:-1]]
        road.standin.clear()
        steps = Steps()
        road.standin.always(Behaviour(text=WORDS, steps=steps))
        asyncio.run(in_lock_step(road, steps, pieces))
        lines: list[dict[str, Any]] = road.wait_lines(STREAMS)
        assert {(line["status"], line["charged_by"]) for line in lines} == {(200, "usage")}
        spent = road.budget()["100 usd/day"]
        assert Decimal(spent["held"]) == 0
        assert Decimal(spent["used"]) == sum(Decimal(line["cost_usd"]) for line in lines)
