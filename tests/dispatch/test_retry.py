import math
from typing import Final

import pytest
from tests.support.calls import head

from tollhouse.dispatch.answer import Answer, Sent
from tollhouse.dispatch.retry import (
    ClientSays,
    RetryPolicy,
    Then,
    after,
    retry_after_s,
    sdk_stops,
    then,
)
from tollhouse.providers.openai import OPENAI

NOW = 1_445_412_480.0
"""Wed, 21 Oct 2015 07:28:00 GMT."""


def answer(status: int = 503, **headers: str) -> Answer:
    async def read() -> bytes:
        return b""

    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status, pairs, read, lambda: None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "7"}, 7.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:09 GMT"}, 9.0),
        ({"retry_after": "Wednesday, 21-Oct-15 07:28:09 GMT"}, 9.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0.0),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "1e9"}, None),
        ({"retry_after": "99999999999999999999"}, 1e20),
        ({"retry_after": "Wed, 99 Foo 2015"}, None),
        ({"retry_after": ""}, None),
    ],
)
def test_what_the_provider_wants_waited(headers: dict[str, str], seconds: float | None) -> None:
    """Both forms of Retry-After and retry-after-ms are read; nonsense is not."""
    assert retry_after_s(answer(**headers), NOW) == seconds


SURE: Final[dict[int | str, Then]] = {
    "upstream_unreachable": "again",
    "upstream_tls": "again",
    "upstream_timeout": "again",
    "upstream_address_refused": "give up",
}
"""Errors of attempts that surely did not leave."""
STATUSES: Final[dict[int, tuple[Then, Then]]] = {
    # status: a request that creates nothing, and one that does
    200: ("give up", "give up"),
    301: ("give up", "give up"),
    400: ("give up", "give up"),
    401: ("give up", "give up"),
    402: ("give up", "give up"),
    403: ("give up", "give up"),
    404: ("give up", "give up"),
    408: ("again", "give up"),
    409: ("give up", "give up"),
    413: ("give up", "give up"),
    422: ("give up", "give up"),
    429: ("next key", "next key"),
    500: ("again", "give up"),
    501: ("give up", "give up"),
    502: ("again", "give up"),
    503: ("again", "give up"),
    504: ("again", "give up"),
    529: ("again", "again"),
}


@pytest.mark.parametrize("creates", [False, True])
@pytest.mark.parametrize("status", STATUSES)
def test_a_status(status: int, creates: bool) -> None:
    """The provider's x-should-retry decides over it, but for one that is no error."""
    what = STATUSES[status][creates]
    assert then(status, creates=creates) == what
    if status < 400:
        assert after(answer(status, x_should_retry="true"), creates) == "give up"
        return
    assert after(answer(status), creates) == what
    assert after(answer(status, x_should_retry="maybe"), creates) == what
    assert after(answer(status, x_should_retry="FALSE"), creates) == "give up"
    told = "next key" if status == 429 else "again"
    assert after(answer(status, x_should_retry=" true"), creates) == told


@pytest.mark.parametrize("creates", [False, True])
@pytest.mark.parametrize("code", SURE)
def test_an_attempt_that_did_not_leave(code: str, creates: bool) -> None:
    """It is made again, whatever it asks for."""
    assert then(code, "no", creates) == SURE[code]


@pytest.mark.parametrize(
    ("code", "sent", "what"),
    [
        ("upstream_unreachable", "maybe", "again"),
        ("upstream_unreachable", "stale", "at once"),
        ("upstream_timeout", "maybe", "again"),
        ("upstream_bad_answer", "maybe", "give up"),
    ],
)
def test_an_attempt_of_unknown_fate(code: str, sent: Sent, what: Then) -> None:
    """What creates something is never made again."""
    assert then(code, sent, creates=False) == what
    assert then(code, sent, creates=True) == "give up"


@pytest.mark.parametrize("creates", [False, True])
def test_an_attempt_that_was_not_read(creates: bool) -> None:
    """It was written to a connection that the server had closed before: once more, whatever it asks for."""
    assert then("upstream_unreachable", "unread", creates) == "at once"
    assert then("upstream_timeout", "unread", creates) != "at once"


@pytest.mark.parametrize(
    ("made", "count", "stops"),
    [(1, 0, False), (1, 1, False), (1, 2, True), (1, 3, True), (2, 0, True), (3, 0, True)],
)
def test_when_the_sdk_is_told_to_stop(made: int, count: int, stops: bool) -> None:
    """When it could make a fourth attempt of it: it does not say how often we have tried before."""
    assert sdk_stops(made, count) is stops


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, (0, math.inf)),
        ({"x-stainless-retry-count": "2", "x-stainless-read-timeout": "600"}, (2, 600.0)),
        ({"x-stainless-timeout": "20"}, (0, 20.0)),
        ({"x-stainless-timeout": "20", "x-stainless-read-timeout": "5.5"}, (0, 5.5)),
        ({"x-stainless-retry-count": "-1", "x-stainless-timeout": "NOT_GIVEN"}, (0, math.inf)),
        ({"x-stainless-retry-count": "9999", "x-stainless-timeout": "0"}, (0, math.inf)),
    ],
)
def test_what_the_sdk_says(headers: dict[str, str], said: tuple[int, float]) -> None:
    """How often it has retried, and how long it waits; what can't be read says nothing."""
    assert ClientSays.of(head("POST", "/v1/x", *headers.items())) == said


def test_our_own_wait_is_random_and_bounded() -> None:
    """Full jitter: from 0 to a bound that doubles with each attempt, up to 4 s."""
    policy = RetryPolicy.of(OPENAI)
    assert (policy.attempts, policy.deadline_s) == (OPENAI.attempts, OPENAI.deadline_s)
    assert policy.wait_s(1, lambda: 0.0) == 0.0
    assert [policy.wait_s(made, lambda: 1.0) for made in range(1, 7)] == [
        0.5,
        1.0,
        2.0,
        4.0,
        4.0,
        4.0,
    ]
