"""What all deliveries share: nothing leaves without a clearance, and what counts for a breaker."""

from __future__ import annotations

import pytest
from tests.dispatch.played import (
    JSON,
    OLD,
    STREAM,
    WAIT,
    Given,
    Keys,
    Provider,
    Trip,
    asked_for,
    opened,
    with_length,
)
from tests.support.clock import Clock

from tollhouse.dispatch.breaker import Breakers, State
from tollhouse.dispatch.relay import Relay

ANSWER: Given = (200, with_length(JSON), [JSON])


def test_nothing_leaves_without_a_clearance() -> None:
    """A stage of the call is not one."""
    relay = Relay(Provider(), Breakers(lambda: 0.0), Keys(None), abandoned_read_s=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        relay.delivery(asked_for())  # type: ignore[arg-type]


# An error of the provider's own under status 200, as the breaker sees it.

OWN = b'{"error":{"message":"Provider returned error","type":"server_error","code":504}}'
THE_REQUESTS = (
    b'{"error":{"message":"m","type":"invalid_request_error","code":"context_length_exceeded"}}'
)
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
OK: Given = (200, with_length(JSON), [JSON])


def erring(error: bytes, *before: bytes) -> Given:
    event = b"data: " + error + b"\n\n"
    return (200, [("content-type", "text/event-stream")], [*before, event, b"data: [DONE]\n\n"])


async def states(breakers: Breakers, *answers: Given) -> str:
    """The breaker's state after each answer, by its first letter."""
    found = ""
    for answer in answers:
        of = asked_for(STREAM if answer[1] == [("content-type", "text/event-stream")] else None)
        trip = Trip(Provider(answer), of, breakers=breakers)
        await trip.run()
        await trip.delivery.close()
        await trip.delivery.close()
        found += breakers.of("api.openai.com", OLD.secret.digest, tenant="acme").state.value[0]
    return found


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ((200, with_length(OWN), [OWN]), "c" * 9 + "o"),
        (erring(OWN), "c" * 9 + "o"),
        ((200, with_length(THE_REQUESTS), [THE_REQUESTS]), "c" * 10),
        (erring(THE_REQUESTS), "c" * 10),
        (erring(THE_REQUESTS, TEXT), "c" * 10),
        (ANSWER, "c" * 10),
    ],
    ids=[
        "an object",
        "first in a stream",
        "the request's",
        "the same in a stream",
        "the same behind text",
        "none",
    ],
)
async def test_what_counts_for_the_breaker(answer: Given, state: str) -> None:
    """What would be a status of 5xx elsewhere: ten in a row open it. A workload can cause the others."""
    assert await states(Breakers(lambda: 0.0), *[answer] * 10) == state


async def test_an_error_behind_text_counts_half() -> None:
    """The text was a success: ten in a row do not open it, and half of twenty results do."""
    assert await states(Breakers(lambda: 0.0), *[erring(OWN, TEXT)] * 10) == "c" * 9 + "o"
    assert await states(Breakers(lambda: 0.0), OK, *[erring(OWN, TEXT)] * 19) == "c" * 20


async def test_a_probe_that_is_an_error() -> None:
    """The breaker stays open for another pause: the head alone does not close it."""
    clock = Clock()
    breakers = opened(Breakers(clock), OLD)
    clock.advance(10.0)
    assert await states(breakers, erring(OWN)) == "o"
    clock.advance(10.0)
    assert await states(breakers, ANSWER) == "c"


async def test_a_probe_whose_text_has_begun() -> None:
    """It closes the breaker at once: its answer may take minutes."""
    clock = Clock()
    breakers = opened(Breakers(clock), OLD)
    clock.advance(10.0)
    breaker = breakers.of("api.openai.com", OLD.secret.digest, tenant="acme")
    trip = Trip(
        Provider((200, [("content-type", "text/event-stream")], [TEXT, WAIT])), breakers=breakers
    )
    await trip.left_after(1)
    assert breaker.state is State.CLOSED
    await trip.delivery.close()


@pytest.mark.parametrize("pieces", [0, 1], ids=["before a byte", "before a text"])
async def test_a_probe_that_is_left(pieces: int) -> None:
    """Its head has come, and that is all that will be known."""
    clock = Clock()
    breakers = opened(Breakers(clock), OLD)
    clock.advance(10.0)
    given: list[bytes | Exception] = [b": waiting\n\n"] * pieces
    trip = Trip(
        Provider((200, [("content-type", "text/event-stream")], [*given, WAIT])), breakers=breakers
    )
    await trip.left_after(pieces)
    assert breakers.of("api.openai.com", OLD.secret.digest, tenant="acme").state is State.HALF_OPEN
    await trip.delivery.close()
    assert breakers.of("api.openai.com", OLD.secret.digest, tenant="acme").state is State.CLOSED
