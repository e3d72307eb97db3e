"""Whether a client waits until Redis has answered the settle, with a Redis that hangs at that moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.attack import BODY, begin, post
from tests.support.inproc import PROJECT, open_inside
from tests.support.redis_server import RedisServer

from tollhouse.demo.standin_script import Behaviour, Latch


@pytest.mark.requires("redis")
@pytest.mark.parametrize(("limit", "waits"), [("10 usd/day", False), ("7 concurrent", True)])
def test_redis_hangs_at_the_settle(tmp_path: Path, limit: str, waits: bool) -> None:
    """Far from every limit the answer comes, and its line when Redis has answered. Near one the answer waits as well."""
    home = tmp_path / "gateway"
    home.mkdir()
    with RedisServer(tmp_path) as server:
        url = f"{server.url}?socket_timeout=60"
        settings = {f"projects.{PROJECT}": {"limits": [limit]}, "redis": {"url": url}}
        with open_inside(home, settings) as inside:
            attacked, gate = begin(inside), Latch()
            inside.standin.always(Behaviour(wait=gate))
            with attacked.tunnel() as client:
                client.send(post(BODY))
                inside.standin.wait_count(1)
                server.pause()
                gate.open()
                if not waits:
                    assert client.answer().status == 200
                # Redis is told, and nothing is held here any more.
                inside.until(lambda gateway: not gateway.purse.held)
                assert [one.answered for one in inside.gateway.journey.under_way] == [not waits]
                server.resume()
                if waits:
                    assert client.answer().status == 200
            [line] = attacked.lines(1)
            assert (line["status"], line["charged_by"]) == (200, "usage")
            assert inside.held() == []
