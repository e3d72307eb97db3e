"""A token that lives while its command does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support.redis_server import RedisServer

from tollhouse.cli.command_token import LIFE_S, TokenLife
from tollhouse.cli.common import SaysNo, perform, perform_again
from tollhouse.config.load import load_config
from tollhouse.demo.gateway_config import write_config


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


@pytest.mark.requires("redis")
def test_a_store_that_is_away_for_a_moment(tmp_path: Path) -> None:
    """What is done after the command is done again until the store is there: its token is revoked, and its cost is said."""
    with RedisServer(tmp_path) as server:
        config = load_config(write_config(tmp_path, None, {"redis": {"url": server.url}}))
        server.stop()
        with pytest.raises(SaysNo, match="can't be reached"):
            perform(config, "project_list", {})
        starting = threading.Thread(target=server.start)
        starting.start()
        try:
            assert perform_again(config, "project_list", {}) == []
        finally:
            starting.join()
        with pytest.raises(SaysNo, match="no token has the id"):
            perform_again(config, "token_revoke", {"token_id": "tok_0123456789abcdef"})
