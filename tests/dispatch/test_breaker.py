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


def test_probes_after_the_pause() -> None:
    """After 10 s three calls are let through, others are refused meanwhile, and the first success closes the breaker."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 9.5
    with pytest.raises(Refused) as caught:
        breaker.enter()
    assert caught.value.denial.headers == (("retry-after", "1"),)
    clock.now += 0.5
    for _ in range(3):
        breaker.enter()
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(Refused):
        breaker.enter()
    breaker.success()
    assert breaker.state is State.CLOSED
    breaker.enter()


def test_those_that_pause() -> None:
    """The own of a tenant, and the shared one when several tenants fail; none once the pause is over, though nobody has called."""
    clock = Clock()
    breakers = Breakers(clock)
    for _ in range(10):
        breakers.of("a.example", "digest", tenant="acme").failure()
    assert list(breakers.paused()) == [("a.example", "acme")]
    for _ in range(5):
        breakers.of("a.example", "digest", tenant="other").failure()
    assert sorted(breakers.paused()) == [("a.example", ""), ("a.example", "acme")]
    clock.now += 10
    assert list(breakers.paused()) == []


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
    for _ in range(3):
        breaker.enter()
    breaker.neither()
    breaker.enter()
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(Refused):
        breaker.enter()


def test_probes_that_take_minutes() -> None:
    """Another call is let through 10 s after the first of them: a probe may be a call whose answer takes long."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    breaker.enter()
    clock.now += 4
    breaker.enter()
    breaker.enter()
    clock.now += 6
    breaker.enter()
    assert breaker.wait_s() == 4
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


def test_one_breaker_for_each_host_key_and_model() -> None:
    """Another credential, host, model or tenant has a breaker of its own, and their number is bounded."""
    breakers = Breakers(Clock(), limit=2)
    first = breakers.of("api.openai.com", "aaaa")
    for other in (("", "initech"), ("gpt-4o", "")):
        assert breakers.of("api.openai.com", "aaaa", *other) is not first
        assert breakers.of("api.openai.com", "aaaa") is first
    assert breakers.of("api.openai.com", "aaaa") is first
    assert breakers.of("api.openai.com", "bbbb") is not first
    assert breakers.of("eu.api.openai.com", "aaaa") is not first
    assert breakers.of("api.openai.com", "aaaa") is not first


def failing(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.enter()
        breaker.failure()


def is_open(breaker: Breaker) -> bool:
    try:
        breaker.enter()
    except Refused:
        return True
    return False


def test_one_tenant_alone_opens_its_own() -> None:
    """However often it fails, and whatever single failures the others have."""
    breakers = Breakers(Clock())
    bad, good = (breakers.of("h", "k", 1, tenant) for tenant in ("bad", "good"))
    failing(bad, 10)
    assert (is_open(bad), bad.shown) == (True, State.OPEN)
    failing(good, 4)
    assert (is_open(good), good.shown) == (False, State.CLOSED)
    assert breakers.shared_states() == {State.CLOSED: 1}


def test_several_tenants_open_it_for_all() -> None:
    """Two that fail five times each, or ten that fail once, with no success of anybody between."""
    for failures in ((5, 5), (9, 2, 3), (1,) * 10):
        breakers = Breakers(Clock())
        for number, times in enumerate(failures):
            failing(breakers.of("h", "k", 1, f"t{number}"), times)
        other = breakers.of("h", "k", 1, "another")
        assert (other.state, other.shown) == (State.CLOSED, State.OPEN)
        assert is_open(other)
        assert not is_open(breakers.of("h", "k", 2, "another")), "another model"
        assert not is_open(breakers.of("h", "l", 1, "another")), "another key"


def test_a_success_of_anybody_between() -> None:
    """The provider works, so what fails are requests."""
    breakers = Breakers(Clock())
    first, second, good = (breakers.of("h", "k", 1, tenant) for tenant in "abc")
    for breaker in (first, second):
        failing(breaker, 5)
        good.success()
    assert not is_open(breakers.of("h", "k", 1, "another"))


def test_one_tenant_does_not_keep_it_open_for_all() -> None:
    """After the pause its requests fail first each time; the others' get through, and the first that succeeds closes it."""
    clock = Clock()
    breakers = Breakers(clock)
    bad, good = (breakers.of("h", "k", 1, tenant) for tenant in ("bad", "good"))
    failing(bad, 5)
    failing(good, 5)
    clock.now += 10
    failing(bad, 5)
    assert (bad.state, is_open(bad)) == (State.OPEN, True), "its own"
    assert not is_open(good)
    good.success()
    assert (good.shown, breakers.shared_states()) == (State.CLOSED, {State.CLOSED: 1})


def test_the_shared_one_closes() -> None:
    """After the pause a few calls of anybody are let through, and a success closes it; the own ones go by their own calls."""
    clock = Clock()
    breakers = Breakers(clock)
    for tenant in "ab":
        failing(breakers.of("h", "k", 1, tenant), 5)
    other = breakers.of("h", "k", 1, "c")
    assert is_open(other)
    clock.now += 10
    assert [is_open(other) for _ in range(4)] == [False, False, False, True]
    assert other.shown is State.HALF_OPEN
    other.failure()
    breakers.of("h", "k", 1, "d").failure()
    assert other.wait_s() == 10
    clock.now += 10
    other.enter()
    other.success()
    assert [is_open(breakers.of("h", "k", 1, tenant)) for tenant in "abc"] == [False] * 3
