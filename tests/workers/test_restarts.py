"""When a worker that died is started again."""

from __future__ import annotations

import pytest

from tollhouse.workers.restarts import FORGOTTEN_S, LONGEST_S, LOOP, Restarts


def test_the_wait_doubles() -> None:
    """At once, then from half a second to half a minute."""
    restarts = Restarts()
    waits = [restarts.died(100.0, 1.0) - 100.0 for _ in range(10)]
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_S, LONGEST_S, LONGEST_S]
    assert restarts.count == 10


def test_a_long_life_is_a_new_beginning() -> None:
    restarts = Restarts()
    for _ in range(4):
        restarts.died(100.0, 1.0)
    assert restarts.died(200.0, FORGOTTEN_S) == 200.0
    assert restarts.died(200.0, 1.0) == 200.5


@pytest.mark.parametrize(("apart", "looping"), [(FORGOTTEN_S / LOOP, True), (FORGOTTEN_S, False)])
def test_deaths_close_together_are_a_loop(apart: float, looping: bool) -> None:
    restarts = Restarts()
    for number in range(LOOP - 1):
        restarts.died(number * apart, 1.0)
        assert not restarts.looping(number * apart)
    restarts.died((LOOP - 1) * apart, 1.0)
    assert restarts.looping((LOOP - 1) * apart) is looping
    assert not restarts.looping((LOOP - 1) * apart + FORGOTTEN_S)
