import pytest
from tests.support.clock import Clock

from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.retry import RetryBudget, RetryPolicy, retry_after_s, worth_retrying
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
        ({"retry_after": "99999999999999999999"}, None),
        ({"retry_after": "Wed, 99 Foo 2015"}, None),
        ({"retry_after": ""}, None),
    ],
)
def test_what_the_provider_wants_waited(headers: dict[str, str], seconds: float | None) -> None:
    """Both forms of Retry-After and retry-after-ms are read; nonsense is not."""
    assert retry_after_s(answer(**headers), NOW) == seconds


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_statuses_that_are_retried(status: int) -> None:
    """The provider's x-should-retry decides over the status."""
    assert worth_retrying(answer(status))
    assert not worth_retrying(answer(status, x_should_retry="false"))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 422, 501])
def test_statuses_that_are_not(status: int) -> None:
    """Unless the provider asks for it."""
    assert not worth_retrying(answer(status))
    assert worth_retrying(answer(status, x_should_retry="true"))


def test_a_success_is_never_retried() -> None:
    """Whatever its headers say."""
    assert not worth_retrying(answer(200, x_should_retry="true"))


def test_our_own_wait_is_random_and_bounded() -> None:
    """Full jitter: from 0 to a bound that doubles with each try, up to 4 s."""
    policy = RetryPolicy.of(OPENAI)
    assert (policy.attempts, policy.deadline_s) == (OPENAI.attempts, OPENAI.deadline_s)
    assert policy.wait_s(1, lambda: 0.0) == 0.0
    assert [policy.wait_s(tries, lambda: 1.0) for tries in range(1, 7)] == [
        0.5,
        1.0,
        2.0,
        4.0,
        4.0,
        4.0,
    ]


def test_the_retry_budget() -> None:
    """10 retries in 10 s are always there; above that a tenth of the calls."""
    clock = Clock()
    budget = RetryBudget(clock)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(120):
        budget.call()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    clock.now += 11
    assert budget.take()
