import itertools

import pytest
from tests.support.clock import Clock

from tollhouse.denial import Refused
from tollhouse.dispatch.breaker import TRANSITIONS, Breaker, Breakers, Event, State


def opened(clock: Clock) -> Breaker:
    breaker = Breaker("api.openai.com", clock)
    for _ in range(10):
        breaker.enter()
        breaker.failure()
    assert breaker.state is State.OPEN
    return breaker


def test_the_table() -> None:
    """Every pair of state and event is either a row or cannot happen."""
    impossible = {
        (State.OPEN, Event.TRIPPED),
        (State.HALF_OPEN, Event.TRIPPED),
        (State.CLOSED, Event.COOLED),
        (State.HALF_OPEN, Event.COOLED),
    }
    assert set(TRANSITIONS) == set(itertools.product(State, Event)) - impossible


def test_ten_failures_in_a_row_open_it() -> None:
    """Nine do not, and a success between them starts the count anew."""
    breaker = Breaker("api.openai.com", Clock())
    for _ in range(2):
        for _ in range(9):
            breaker.enter()
            breaker.failure()
        assert breaker.state is State.CLOSED
        breaker.success()
    breaker = opened(Clock())
    with pytest.raises(Refused) as caught:
        breaker.enter()
    assert caught.value.denial.code == "breaker_open"
    assert caught.value.denial.headers == (("retry-after", "10"),)
    assert "api.openai.com" in caught.value.denial.message


def test_half_of_many_failing_opens_it() -> None:
    """Half of at least 20 results within 30 s."""
    breaker = Breaker("api.openai.com", Clock())
    for _ in range(9):
        breaker.failure()
        breaker.success()
    breaker.success()
    assert breaker.state is State.CLOSED
    breaker.failure()
    assert breaker.state is State.OPEN


def test_old_failures_are_forgotten() -> None:
    """Failures of half a minute ago say nothing of now."""
    clock = Clock()
    breaker = Breaker("api.openai.com", clock)
    for _ in range(9):
        breaker.failure()
        breaker.success()
    clock.now += 31
    breaker.success()
    breaker.failure()
    assert breaker.state is State.CLOSED


def test_a_probe_after_the_pause() -> None:
    """After 10 s one call is let through, others are refused meanwhile, and its success closes the breaker."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 9.5
    with pytest.raises(Refused) as caught:
        breaker.enter()
    assert caught.value.denial.headers == (("retry-after", "1"),)
    clock.now += 0.5
    breaker.enter()
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(Refused):
        breaker.enter()
    breaker.success()
    assert breaker.state is State.CLOSED
    breaker.enter()


def test_a_probe_that_fails() -> None:
    """The breaker opens for another 10 s."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    breaker.enter()
    breaker.failure()
    assert breaker.state is State.OPEN
    assert breaker.wait_s() == 10


def test_a_probe_that_tells_nothing() -> None:
    """A 429 or a client that left gives the probe's place to the next call."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    breaker.enter()
    breaker.neither()
    breaker.enter()
    assert breaker.state is State.HALF_OPEN


def test_a_probe_that_takes_minutes() -> None:
    """Another call is let through after 10 s: a probe may be a call whose answer takes long."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    breaker.enter()
    clock.now += 10
    breaker.enter()
    with pytest.raises(Refused):
        breaker.enter()


def test_late_results_of_calls_from_before() -> None:
    """A call that had left before the breaker opened changes nothing while it is open."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 5
    breaker.success()
    breaker.failure()
    assert breaker.state is State.OPEN
    assert breaker.wait_s() == 5


def test_one_breaker_for_each_host_and_key() -> None:
    """Another credential, or another host, has a breaker of its own, and their number is bounded."""
    breakers = Breakers(Clock(), limit=2)
    first = breakers.of("api.openai.com", "aaaa")
    assert breakers.of("api.openai.com", "aaaa") is first
    assert breakers.of("api.openai.com", "bbbb") is not first
    assert breakers.of("eu.api.openai.com", "aaaa") is not first
    assert breakers.of("api.openai.com", "aaaa") is not first
