"""How many retries the calls to a provider may make."""

from __future__ import annotations

from tests.support.clock import Clock

from tollhouse.dispatch.retry_budget import RetryBudget


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
