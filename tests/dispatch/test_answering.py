"""The way back of an answer, as the pieces that are pulled: where they end, what is known when everything is settled, and what
the client gets of the headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.dispatch.played import (
    CHARGE,
    COUNTED,
    COUNTED_STREAM,
    CUT,
    JSON,
    OF_JSON,
    PLAIN_STREAM,
    SSE,
    STREAM,
    WAIT,
    Given,
    Provider,
    Trip,
    asked_for,
    with_length,
)
from tests.families.tiny import TINY
from tests.support.calls import admitted, pending, requested
from tests.support.clock import Clock
from tests.support.values import replace

from tollhouse.denial import Denial, Refused
from tollhouse.dispatch.attempts import Timing
from tollhouse.outcome import End, Outcome
from tollhouse.providers.openai import OPENAI


async def pulled(given: Given, body: Any = None, **more: Any) -> Trip:
    return await Trip(Provider(given), asked_for(body, **more)).run()


def settled(trip: Trip) -> Outcome:
    assert trip.settled is not None
    return trip.settled


# Settled before the client has all of its answer.


@pytest.mark.parametrize("cuts", [(), (10,), (10, 20)], ids=["one piece", "two", "three"])
async def test_a_body_of_known_length(cuts: tuple[int, ...]) -> None:
    """The last piece makes it whole, with its usage known; the length is passed on."""
    pieces = [JSON[a:b] for a, b in zip((0, *cuts), (*cuts, len(JSON)), strict=True)]
    trip = await pulled((200, with_length(JSON), pieces))
    assert trip.before == b"".join(pieces[:-1])
    assert [(piece.whole, piece.last) for piece in trip.pieces] == [(False, False)] * len(cuts) + [
        (True, True)
    ]
    assert (settled(trip).end, settled(trip).charges) == (End.WHOLE, (CHARGE,))
    assert (trip.status, trip.body) == (200, JSON)
    assert trip.headers["content-length"] == str(len(JSON))


async def test_a_body_of_unknown_length() -> None:
    """Its end makes it whole."""
    trip = await pulled((200, OF_JSON, [JSON[:50], JSON[50:]]))
    assert (trip.before, trip.body, settled(trip).charges) == (JSON, JSON, (CHARGE,))
    assert [(piece.whole, piece.last) for piece in trip.pieces] == [(False, False)] * 2 + [
        (True, True)
    ]
    assert "content-length" not in trip.headers


@pytest.mark.parametrize(
    "body", [COUNTED, STREAM], ids=["asked for by the client", "asked for by us"]
)
async def test_a_stream(body: dict[str, Any]) -> None:
    """`[DONE]` makes it whole; what was only asked for by us is taken out again."""
    trip = await pulled((200, SSE, COUNTED_STREAM), body)
    wanted = PLAIN_STREAM if body is STREAM else COUNTED_STREAM
    assert wanted[-1] == b"data: [DONE]\n\n"
    assert trip.before == b"".join(wanted[:-1])
    assert (settled(trip).end, settled(trip).charges) == (End.STREAMED, (CHARGE,))
    assert [piece.data for piece in trip.pieces if piece.data] == wanted, "each frame by itself"
    assert [piece.whole for piece in trip.pieces][-3:] == [False, True, True], (
        "its end comes behind [DONE]"
    )


async def test_a_stream_without_done() -> None:
    """Its end makes it whole."""
    trip = await pulled((200, SSE, COUNTED_STREAM[:-1]), COUNTED)
    assert (trip.before, settled(trip).charges) == (b"".join(COUNTED_STREAM[:-1]), (CHARGE,))


async def test_more_behind_done() -> None:
    """It is the client's, and changes nothing that was settled."""
    late = (
        b': goodbye\n\ndata: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    )
    trip = await pulled((200, SSE, [*COUNTED_STREAM, late]), COUNTED)
    assert trip.body == b"".join([*COUNTED_STREAM, late])
    assert (trip.before, settled(trip).charges) == (b"".join(COUNTED_STREAM[:-1]), (CHARGE,))


async def test_what_goes_on_behind_its_own_end_is_cut() -> None:
    """The call is settled by then: nobody would pay for it, and no budget would end it."""
    text = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 30_000 + b'"}}]}\n\n'
    provider = Provider((200, SSE, [*COUNTED_STREAM, *[text] * 100]))
    trip = Trip(provider, asked_for(COUNTED))
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "upstream_bad_answer"
    assert trip.body == b"".join([*COUNTED_STREAM, text, text])
    assert (settled(trip).end, settled(trip).charges) == (End.STREAMED, (CHARGE,))


async def test_a_cut_behind_done() -> None:
    """The client sees that it is cut; the call has ended well."""
    trip = Trip(Provider((200, SSE, [*COUNTED_STREAM, CUT])), asked_for(COUNTED))
    with pytest.raises(Refused):
        await trip.run()
    assert (trip.outcome().end, settled(trip).end) == (End.STREAMED, End.STREAMED)


async def test_the_end_of_a_stream_that_was_held_back() -> None:
    """A frame that never ended is passed on all the same, with the last piece."""
    trip = await pulled((200, SSE, [b'data: {"choices":[]']), STREAM)
    assert trip.before == b""
    assert trip.body == b'data: {"choices":[]'


async def test_a_stream_of_known_length() -> None:
    """The length goes on as it is if no byte is changed, and is left out if some are."""
    body = b"".join(COUNTED_STREAM)
    trip = await pulled((200, with_length(body, SSE), [body]), COUNTED)
    assert (trip.headers["content-length"], trip.body) == (str(len(body)), body)
    trip = await pulled((200, with_length(body, SSE), [body]), STREAM)
    assert "content-length" not in trip.headers
    assert trip.body == b"".join(PLAIN_STREAM)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (204, []),
        (304, [("content-length", "7")]),
        (200, [("content-length", "0")]),
        (404, [("content-length", "0")]),
    ],
)
async def test_no_body(status: int, headers: list[tuple[str, str]]) -> None:
    """The head makes it whole; a length that it says is the client's to know."""
    trip = await pulled((status, headers, []))
    assert (trip.before, trip.pieces, trip.status) == (b"", [], status)
    assert list(trip.headers.items()) == headers
    assert trip.answering.complete


async def test_no_body_where_a_stream_was_asked_for() -> None:
    """Nothing is edited in it, so its length stays."""
    trip = await pulled((200, [*SSE, ("content-length", "0")], []), STREAM)
    assert (trip.headers["content-length"], settled(trip).end, settled(trip).charges) == (
        "0",
        End.STREAMED,
        (),
    )


async def test_an_error_is_passed_on() -> None:
    """Byte for byte, unread."""
    body = (
        b'{"error":{"message":"no","type":"t","param":null,"code":"c"},"usage":{"prompt_tokens":5}}'
    )
    trip = await pulled((400, with_length(body), [body]))
    assert (trip.status, trip.body) == (400, body)
    outcome = settled(trip)
    assert (outcome.end, outcome.status, outcome.metered, outcome.charges, outcome.error) == (
        End.ERROR,
        400,
        False,
        (),
        "",
    )


async def test_an_error_beside_a_count() -> None:
    """An answer of which the provider has counted output was made: its count is charged, whatever its error says."""
    body = b'{"error":{"code":0},"usage":{"prompt_tokens":12,"completion_tokens":5}}'
    trip = await pulled((200, with_length(body), [body]))
    assert (settled(trip).end, settled(trip).error) == (End.WHOLE, "error")
    assert settled(trip).charges[0].units.output == 5
    body = body.replace(b"5}", b"0}")
    trip = await pulled((200, with_length(body), [body]))
    assert settled(trip).end is End.ERROR


# Headers.


async def test_headers() -> None:
    """What belongs to the provider's own state or connection stays here, and so does what only we may say."""
    headers = [
        ("content-type", "application/json"),
        ("x-request-id", "req_1"),
        ("openai-processing-ms", "12"),
        ("alt-svc", 'h3=":443"'),
        ("set-cookie", "__cf_bm=1"),
        ("set-cookie2", "a=b"),
        ("trailer", "x"),
        ("x-tollhouse-reason", "budget_exceeded"),
        ("x-tollhouse-call-id", "call_theirs"),
    ]
    trip = await pulled((200, headers, [JSON]))
    assert trip.headers == {
        "content-type": "application/json",
        "x-request-id": "req_1",
        "openai-processing-ms": "12",
    }


async def test_a_content_type_in_any_case() -> None:
    """Media types have none, RFC 9110 8.3.1."""
    trip = await pulled((200, [("content-type", "Text/Event-Stream")], COUNTED_STREAM), STREAM)
    assert (trip.body, settled(trip).charges) == (b"".join(PLAIN_STREAM), (CHARGE,))


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        ({"usage": {"prompt_tokens": 1}, "service_tier": "default"}, "default"),
        ({"usage": {"prompt_tokens": 1}}, ""),
    ],
)
async def test_the_tier_that_was_served(body: dict[str, Any], tier: str) -> None:
    """Counted without one is standard, whatever was asked for."""
    data = json.dumps({"model": "gpt-4o-2024-08-06", **body}).encode()
    trip = await pulled((200, with_length(data), [data]), tier="flex")
    [charge] = settled(trip).charges
    assert (charge.tier, charge.model) == (tier, "gpt-4o-2024-08-06")


# Answers that break off.


async def test_a_stream_that_is_cut() -> None:
    """The refusal for the line, and what was seen of it; nothing is settled yet, and there is no further piece."""
    trip = Trip(Provider((200, SSE, [*COUNTED_STREAM[:4], CUT])), asked_for(STREAM))
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "upstream_bad_answer"
    outcome = trip.outcome()
    assert (outcome.end, outcome.charges, outcome.output_seen, trip.settled) == (
        End.CUT,
        (),
        3,
        None,
    )
    assert trip.body == b"".join(PLAIN_STREAM[:4])
    with pytest.raises(StopAsyncIteration):
        await anext(trip.answering)
    await trip.delivery.read_on()
    assert trip.outcome().end is End.CUT


async def test_a_stream_that_is_cut_behind_its_count() -> None:
    """The count is known."""
    trip = Trip(Provider((200, SSE, [*COUNTED_STREAM[:-1], CUT])), asked_for(COUNTED))
    with pytest.raises(Refused):
        await trip.run()
    assert (trip.outcome().end, trip.outcome().charges) == (End.CUT, (CHARGE,))


async def test_a_body_that_is_cut_before_its_first_byte() -> None:
    """No piece comes, so the client, which has no head yet, can still be told in so many words."""
    trip = Trip(Provider((200, with_length(JSON), [CUT])))
    with pytest.raises(Refused):
        await trip.run()
    assert (trip.outcome().end, trip.pieces, trip.answering.sized) == (End.CUT, [], True)


async def test_a_frame_that_was_cut_in_the_middle() -> None:
    """Its text counts, though it was held back; a stop counts it as a cut does."""
    half = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"word " * 40 + b'"}}]}'
    cut = Trip(Provider((200, SSE, [half, CUT])), asked_for(STREAM))
    with pytest.raises(Refused):
        await cut.run()
    stopped = await Trip(Provider((200, SSE, [half, WAIT])), asked_for(STREAM)).left_after(1)
    assert cut.outcome().output_seen == stopped.outcome(End.STOPPED).output_seen == 50


# The budget.


class Refusing:
    """A hold that covers nothing any more, once ``spent``."""

    amount = None
    unheld = False
    clamped = None
    grows = True

    def __init__(self) -> None:
        self.spent = False
        self.seen: list[int] = []

    async def covers(self, seen: int) -> Denial | None:
        self.seen.append(seen)
        return Denial("budget_exceeded") if self.spent else None

    async def covers_repeat(self) -> bool:
        return True


async def test_a_stream_that_its_budget_ends() -> None:
    """Behind the event that went over, by the gate of that name; the client can be told there."""
    hold = Refusing()
    trip = Trip(Provider((200, SSE, COUNTED_STREAM)), asked_for(COUNTED), hold=hold)  # type: ignore[arg-type]
    answering = await trip.delivery.answer()
    pieces = [await anext(answering), await anext(answering)]
    hold.spent = True
    with pytest.raises(Refused) as refused:
        await anext(answering)
    assert (refused.value.denial.code, refused.value.gate) == ("budget_exceeded", "budget")
    assert [piece.data for piece in pieces] == COUNTED_STREAM[:2]
    assert (answering.can_be_told, hold.seen) == (True, [0, 1])
    assert trip.outcome(End.OVER_BUDGET).end is End.OVER_BUDGET


async def test_the_budget_is_not_asked_behind_the_end() -> None:
    """A stream that is whole has cost what it cost."""
    hold = Refusing()
    trip = Trip(Provider((200, SSE, COUNTED_STREAM)), asked_for(COUNTED), hold=hold)  # type: ignore[arg-type]
    answering = await trip.delivery.answer()
    async for piece in answering:
        if piece.whole:
            hold.spent = True
    assert trip.outcome().end is End.STREAMED


# The one who pulls goes away.


async def test_a_stop_in_a_stream() -> None:
    """What was seen is known, and the connection is let go."""
    trip = await Trip(
        Provider((200, SSE, [*COUNTED_STREAM[:4], WAIT])), asked_for(STREAM)
    ).left_after(4)
    outcome = trip.outcome(End.STOPPED)
    await trip.delivery.close()
    assert (outcome.end, outcome.output_seen, outcome.charges) == (End.STOPPED, 3, ())
    assert trip.provider.closed == [200]


async def test_silences() -> None:
    """The time without text, but for its first second: up to the text that ends it, or to the client's leaving."""
    clock = Clock()
    provider = Provider(
        (200, SSE, [*COUNTED_STREAM[:2], WAIT]), clock=clock, head_s=5.0, piece_s=11.0
    )
    trip = await Trip(provider, asked_for(COUNTED), read_on_s=0, timing=Timing(clock)).left_after(2)
    # The first frame has no text: 5 and twice 11 seconds, less one.
    assert (trip.answering.output_seen, trip.answering.silent_s) == (1, 26.0)
    await trip.delivery.read_on()
    assert trip.outcome(End.LEFT).silent_s == 36.0


class Later(Provider):
    """The pieces behind `WAIT` come when the client has gone."""

    def __init__(
        self, first: Sequence[bytes], headers: Sequence[tuple[str, str]], *later: bytes | Exception
    ) -> None:
        super().__init__((200, headers, [*first, WAIT, *later]))


async def gone(
    provider: Provider, after: int, body: Any, *, read_on_s: float = 60, **more: Any
) -> Trip:
    trip = await Trip(provider, asked_for(body, **more), read_on_s=read_on_s).left_after(after)
    await trip.delivery.read_on()
    return trip


async def test_reading_on_to_the_count() -> None:
    """To `[DONE]`, without waiting for the end behind it."""
    trip = await gone(Later(COUNTED_STREAM[:4], SSE, *COUNTED_STREAM[4:], WAIT), 4, COUNTED)
    outcome = trip.outcome(End.LEFT)
    await trip.delivery.close()
    assert (outcome.end, outcome.charges) == (End.STREAMED, (CHARGE,))
    assert len(trip.pieces) == 4


async def test_reading_a_body_on_to_its_end() -> None:
    """Its count is at its end."""
    trip = await gone(Later([JSON[:50]], OF_JSON, JSON[50:]), 1, None)
    assert (trip.outcome(End.LEFT).end, trip.outcome(End.LEFT).charges) == (End.WHOLE, (CHARGE,))


@pytest.mark.parametrize(
    "piece", [WAIT, CUT, RuntimeError("injected")], ids=["silent", "cut", "a fault"]
)
async def test_reading_on_in_vain(piece: bytes | Exception) -> None:
    """It raises nothing, and what was seen is known."""
    trip = await gone(
        Later(COUNTED_STREAM[:4], SSE, COUNTED_STREAM[4], piece), 4, COUNTED, read_on_s=0.05
    )
    outcome = trip.outcome(End.LEFT)
    await trip.delivery.close()
    assert (outcome.end, outcome.charges) == (End.LEFT, ())
    assert outcome.output_seen == 5, "the frame that came when the client had gone counts"
    assert trip.provider.closed == [200]


async def test_reading_on_to_what_was_made() -> None:
    """Though it costs nothing: the client may ask for it later."""
    birds = replace(OPENAI, family=TINY)
    call = requested(b"{}", admitted("/nests", provider=birds))
    trip = Trip(Later([b'{"nest":'], OF_JSON, b'"nest-1"}'), call, read_on_s=60)
    await trip.left_after(1)
    assert trip.outcome(End.LEFT).created == ()
    trip = Trip(Later([b'{"nest":'], OF_JSON, b'"nest-1"}'), call, read_on_s=60)
    await trip.left_after(1)
    await trip.delivery.read_on()
    assert trip.outcome(End.LEFT).created == ("nest-1",)


async def test_nothing_is_read_on_for_nothing() -> None:
    """No answer yet, one that costs nothing, or one that is whole: it returns at once."""
    await Trip(Provider()).delivery.read_on()
    trip = await gone(Later([b"{"], OF_JSON, WAIT), 1, None, method="GET", path="/v1/models")
    assert trip.outcome(End.LEFT).end is End.LEFT
    trip = await Trip(Provider((200, SSE, [*COUNTED_STREAM, WAIT])), asked_for(COUNTED)).left_after(
        len(COUNTED_STREAM)
    )
    async with asyncio.timeout(5):
        await trip.delivery.read_on()
    assert trip.outcome(End.LEFT).end is End.STREAMED


@pytest.mark.parametrize(("status", "seen"), [(200, True), (206, False)])
async def test_a_part_of_an_answer_tells_no_usage_of_a_call_before_it(
    status: int, seen: bool
) -> None:
    """A client's ``Range`` chooses the part, and the call would be charged by it."""
    body = {"id": "resp_1", "status": "completed", "model": "gpt-4o"}
    body["usage"] = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}  # type: ignore[assignment]
    of = asked_for(b"", method="GET", path="/v1/responses/resp_1")
    later = pending(path="/v1/responses/resp_1")
    given = (status, OF_JSON, [json.dumps(body).encode()])
    trip = await Trip(Provider(given), replace(of, pending=later)).run()
    told = settled(trip).seen
    assert (told is not None) is seen
    assert told is None or told.charges[0].units.output == 2
