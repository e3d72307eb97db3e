"""How a call ended, as a truth table: what came of its answer, and who ended it.

The head of an answer takes 3 s and each piece 2 s. A silence counts but for its first second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.dispatch.played import (
    CUT,
    NO_HEAD,
    OF_JSON,
    SSE,
    STREAM,
    WAIT,
    Given,
    Provider,
    Trip,
    asked_for,
)
from tests.support.clock import Clock

from tollhouse.denial import Refused
from tollhouse.dispatch.answer import UpstreamError
from tollhouse.dispatch.attempts import Timing
from tollhouse.families.units import Charge, Units
from tollhouse.outcome import End, Outcome

TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5}}\n\n'
ERROR = b'data: {"error":{"message":"m","type":"server_error","code":"overloaded"}}\n\n'
DONE = b"data: [DONE]\n\n"
COUNT = (Charge("", Units(input=12, output=5, requests=1)),)
JSON_COUNT = b'{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5}}'
JSON_ERROR = b'{"error":{"message":"m","type":"server_error","code":504}}'

Row = tuple[str, End, tuple[Charge, ...], int, float]
"""Who ended it, and what is to be said: the end, the charges, the output seen, the seconds of silence."""

STREAMS: dict[str, tuple[Sequence[bytes], list[Row]]] = {
    "a head": (
        [],
        [
            ("end", End.STREAMED, (), 0, 0.0),
            ("cut", End.CUT, (), 0, 4.0),
            ("left", End.LEFT, (), 0, 4.0),
            ("budget", End.OVER_BUDGET, (), 0, 4.0),
            ("stop", End.STOPPED, (), 0, 4.0),
        ],
    ),
    "text": (
        [TEXT],
        [
            ("end", End.STREAMED, (), 2, 4.0),
            ("cut", End.CUT, (), 2, 5.0),
            ("left", End.LEFT, (), 2, 5.0),
            ("budget", End.OVER_BUDGET, (), 2, 5.0),
            ("stop", End.STOPPED, (), 2, 5.0),
        ],
    ),
    "a count": (
        [TEXT, USAGE],
        [
            ("end", End.STREAMED, COUNT, 5, 5.0),
            ("cut", End.CUT, COUNT, 5, 6.0),
            ("left", End.LEFT, COUNT, 5, 6.0),
            ("budget", End.OVER_BUDGET, COUNT, 5, 6.0),
            ("stop", End.STOPPED, COUNT, 5, 6.0),
        ],
    ),
    "[DONE]": (
        [TEXT, USAGE, DONE],
        [
            ("end", End.STREAMED, COUNT, 5, 5.0),
            ("cut", End.STREAMED, COUNT, 5, 5.0),
            ("left", End.STREAMED, COUNT, 5, 5.0),
            ("budget", End.STREAMED, COUNT, 5, 5.0),
            ("stop", End.STREAMED, COUNT, 5, 5.0),
        ],
    ),
    "an error": (
        [ERROR],
        [
            ("end", End.ERROR, (), 0, 0.0),
            ("cut", End.ERROR, (), 0, 6.0),
            ("left", End.ERROR, (), 0, 6.0),
            ("budget", End.ERROR, (), 0, 6.0),
            ("stop", End.ERROR, (), 0, 6.0),
        ],
    ),
    "an error and [DONE]": ([ERROR, DONE], [("end", End.ERROR, (), 0, 0.0)]),
    "an error behind text": (
        [TEXT, ERROR],
        [
            ("end", End.FAILED, (), 2, 4.0),
            ("cut", End.FAILED, (), 2, 7.0),
            ("left", End.FAILED, (), 2, 7.0),
            ("budget", End.FAILED, (), 2, 7.0),
            ("stop", End.FAILED, (), 2, 7.0),
        ],
    ),
    "an error behind text, and [DONE]": ([TEXT, ERROR, DONE], [("end", End.FAILED, (), 2, 4.0)]),
    "an error behind a count": ([USAGE, ERROR], [("end", End.FAILED, COUNT, 5, 4.0)]),
}
BODIES: dict[str, tuple[Sequence[bytes], list[Row]]] = {
    "a head": (
        [],
        [
            ("end", End.WHOLE, (), 0, 0.0),
            ("cut", End.CUT, (), 0, 4.0),
            ("left", End.LEFT, (), 0, 4.0),
            ("stop", End.STOPPED, (), 0, 4.0),
        ],
    ),
    "a part": (
        [JSON_COUNT[:20]],
        [
            ("cut", End.CUT, (), 0, 6.0),
            ("left", End.LEFT, (), 0, 6.0),
            ("stop", End.STOPPED, (), 0, 6.0),
        ],
    ),
    "a count": ([JSON_COUNT], [("end", End.WHOLE, COUNT, 0, 0.0)]),
    "no count": ([b"{}"], [("end", End.WHOLE, (), 0, 0.0)]),
    "an error": ([JSON_ERROR], [("end", End.ERROR, (), 0, 0.0)]),
}
LEFT = {"left": End.LEFT, "budget": End.OVER_BUDGET, "stop": End.STOPPED}


async def ended(
    given: Sequence[bytes], by: str, body: object, headers: Sequence[tuple[str, str]]
) -> Outcome:
    clock = Clock()
    last: list[bytes | Exception] = {"end": [], "cut": [CUT]}.get(by, [WAIT, WAIT])  # type: ignore[assignment]
    answer: Given = (200, headers, [*given, *last])
    provider = Provider(answer, clock=clock, head_s=3.0, piece_s=2.0)
    trip = Trip(provider, asked_for(body), read_on_s=0, timing=Timing(clock))
    if by in LEFT:
        await trip.left_after(len(given))
    elif by == "cut":
        with pytest.raises(Refused):
            await trip.run()
    else:
        await trip.run()
    if by == "left":
        await trip.delivery.read_on()
    found = trip.outcome(LEFT.get(by))
    assert trip.outcome(LEFT.get(by)) == found, "asked twice it is the same"
    await trip.delivery.close()
    assert trip.outcome(LEFT.get(by)) == found, "and once all is let go"
    assert provider.closed
    return found


@pytest.mark.parametrize(
    ("came", "row"),
    [(came, row) for came, (_, rows) in STREAMS.items() for row in rows],
    ids=[f"{came}, {row[0]}" for came, (_, rows) in STREAMS.items() for row in rows],
)
async def test_a_stream(came: str, row: Row) -> None:
    """Whoever ended it: what it said itself goes before that."""
    by, end, charges, seen, silent = row
    found = await ended(STREAMS[came][0], by, STREAM, SSE)
    assert (found.end, found.charges, found.output_seen, found.silent_s) == (
        end,
        charges,
        seen,
        silent,
    )
    assert (found.status, found.in_flight, found.metered, found.streamed) == (
        200,
        False,
        True,
        True,
    )
    assert found.error == ("overloaded" if "error" in came else "")


@pytest.mark.parametrize(
    ("came", "row"),
    [(came, row) for came, (_, rows) in BODIES.items() for row in rows],
    ids=[f"{came}, {row[0]}" for came, (_, rows) in BODIES.items() for row in rows],
)
async def test_a_body(came: str, row: Row) -> None:
    """It was made before its first byte came: nothing of it is text that was seen."""
    by, end, charges, seen, silent = row
    found = await ended(BODIES[came][0], by, None, OF_JSON)
    assert (found.end, found.charges, found.output_seen, found.silent_s) == (
        end,
        charges,
        seen,
        silent,
    )
    assert (found.status, found.in_flight, found.metered, found.streamed) == (
        200,
        False,
        True,
        False,
    )
    assert found.error == ("504" if came == "an error" else "")


NOTHING: dict[str, tuple[Given | Exception, str, End, bool, int]] = {
    "not sent": (
        UpstreamError("upstream_unreachable", "Refused.", "no"),
        "end",
        End.NEVER_LEFT,
        False,
        0,
    ),
    "lost": (
        UpstreamError("upstream_unreachable", "It closed.", "maybe"),
        "end",
        End.UNKNOWN,
        False,
        1,
    ),
    "our time-out": (
        UpstreamError("upstream_timeout", "Too late.", "maybe"),
        "end",
        End.UNKNOWN,
        False,
        1,
    ),
    "left": (NO_HEAD, "left", End.LEFT, True, 0),
    "budget": (NO_HEAD, "budget", End.OVER_BUDGET, True, 0),
    "stop": (NO_HEAD, "stop", End.STOPPED, True, 0),
}


@pytest.mark.parametrize("case", NOTHING)
async def test_nothing(case: str) -> None:
    """No head: what matters is whether the request had left, and whether it is still away."""
    given, by, end, in_flight, unknown = NOTHING[case]
    trip = Trip(Provider(given), asked_for(attempts=1))
    if by in LEFT:
        await trip.left_after(0)
    else:
        with pytest.raises(Refused):
            await trip.run()
    await trip.delivery.close()
    found = trip.outcome(LEFT.get(by))
    assert (found.end, found.in_flight, found.attempts_unknown) == (end, in_flight, unknown)
    assert (found.status, found.metered, found.streamed, found.charges) == (0, False, False, ())
    assert (found.output_seen, found.silent_s, found.first_byte) == (0, 0.0, None)


@pytest.mark.parametrize("status", [404, 422, 500])
async def test_an_error_status(status: int) -> None:
    """It costs nothing, whoever ends it."""
    given: Given = (status, OF_JSON, [JSON_ERROR])
    trip = await Trip(Provider(given), asked_for(attempts=1)).run()
    assert (trip.outcome().end, trip.outcome().status, trip.outcome().metered) == (
        End.ERROR,
        status,
        False,
    )
    trip = await Trip(
        Provider((status, OF_JSON, [JSON_ERROR, WAIT])), asked_for(attempts=1)
    ).left_after(1)
    assert trip.outcome(End.LEFT).end is End.ERROR


async def test_the_head_alone_waits_for_nobody() -> None:
    """An outcome may be asked for while the head is still away, as a line of a stop is."""
    trip = Trip(Provider(NO_HEAD))
    task = asyncio.ensure_future(trip.run())
    await asyncio.sleep(0)
    assert (trip.outcome(End.STOPPED).end, trip.outcome().end) == (End.STOPPED, End.UNKNOWN)
    task.cancel()
    await asyncio.wait([task])
