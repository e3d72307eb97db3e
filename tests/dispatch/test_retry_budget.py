"""How many retries the calls to a provider may make."""

from __future__ import annotations

from tests.support.clock import Clock

from tollhouse.dispatch.retry_budget import RetryBudget, beyond_the_tenth


def taken(budget: RetryBudget, times: int) -> int:
    """How many of so many retries may be made."""
    return sum(budget.take() for _ in range(times))


def test_a_tenant_alone() -> None:
    """10 retries in 10 s are always there; above that a tenth of the calls."""
    clock = Clock()
    budget = RetryBudget(clock)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(120):
        budget.call()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    clock.now += 11
    assert budget.take()


def test_a_worker_of_many() -> None:
    """It has one retry in 10 s at the least."""
    assert taken(RetryBudget(Clock(), a_second=1 / 64), 5) == 1


def test_a_storm_of_one_tenant() -> None:
    """Others have their least of 10, and the tenth of their own calls, as if it were not there."""
    clock = Clock()
    beyond = beyond_the_tenth(clock)
    storm, other, busy = (RetryBudget(clock, beyond=beyond) for _ in range(3))
    for _ in range(5_000):
        storm.call()
    for _ in range(300):
        busy.call()
    assert taken(storm, 5_000) == 500
    assert taken(other, 50) == 10
    assert taken(busy, 50) == 30


def test_storms_of_many_tenants() -> None:
    """Beyond a tenth of their calls they get no more than 4 a second, and each tenth stays its tenant's own."""
    clock = Clock()
    beyond = beyond_the_tenth(clock)
    idle = [RetryBudget(clock, beyond=beyond) for _ in range(100)]
    for budget in idle:
        for _ in range(10):
            budget.call()
    # One retry of each is its tenth.
    assert sum(taken(budget, 20) for budget in idle) == 100 + 40
    busy = RetryBudget(clock, beyond=beyond)
    for _ in range(200):
        busy.call()
    assert taken(busy, 50) == 20
    late = RetryBudget(clock, beyond=beyond)
    assert taken(late, 5) == 0
    clock.now += 11
    assert taken(late, 20) == 10
