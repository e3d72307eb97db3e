"""A token that lives while its command does."""

from __future__ import annotations

import threading

from tollhouse.cli.command_token import LIFE_S, TokenLife
from tollhouse.cli.common import SaysNo


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_when_its_end_is_moved() -> None:
    """Each minute to five from then, and never beyond the time that the token was made for. After a failure, or when the machine
    was asleep, the next look does it."""
    clock, asked, away = Clock(), list[tuple[float, float]](), False

    def extend(seconds: float) -> None:
        asked.append((clock.now - 1_000, seconds))
        if away:
            raise SaysNo("the store is away")

    life = TokenLife(extend, until=clock.now + 4_000, clock=clock)
    for at in (0, 59, 60, 61, 119, 121):
        clock.now = 1_000.0 + at
        life.tend()
    assert asked == [(60, LIFE_S), (121, LIFE_S)]
    asked.clear()
    away = True
    for at in (181, 185, 191):
        clock.now = 1_000.0 + at
        life.tend()
    assert life.failure == "the store is away"
    away = False
    for at in (201, 3_800, 3_861, 4_000, 5_000):
        clock.now = 1_000.0 + at
        life.tend()
    assert asked == [(181, 300), (191, 300), (201, 300), (3_800, 200), (3_861, 139)]
    assert life.failure is None


def test_it_is_looked_at_while_the_command_runs() -> None:
    clock, moved = Clock(), threading.Event()

    def extend(seconds: float) -> None:
        moved.set()

    life = TokenLife(extend, until=clock.now + 4_000, clock=clock)
    with life.tended(look_s=0.01):
        assert not moved.is_set()
        clock.now += 3_600
        assert moved.wait(30)
