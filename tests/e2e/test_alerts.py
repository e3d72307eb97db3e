"""Alerts of running gateways: each fires once a window, over all gateways and through kill -9; a dead receiver holds nobody up."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.support.fleet import PROJECT, TENANT
from tests.support.gateway import REAL_KEY
from tests.support.redis_server import RedisServer
from tests.support.webhook_receiver import PATIENCE_S, WebhookReceiver, webhook_receiver

from tollhouse.control.client import ask
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess, GatewayProcessError
from tollhouse.demo.standin import StandIn

SECRET = "whsec_" + base64.b64encode(b"of-the-tests-and-nobody-else").decode()
CALL: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "what does it come to"}],
    "max_completion_tokens": 20,
}


@dataclass
class Place:
    """A directory with a Redis, a stand-in provider and the gateways' configurations."""

    directory: Path
    redis: RedisServer
    standin: StandIn

    def gateway(
        self, name: str, alerts: Sequence[Mapping[str, Any]], *, workers: int = 1
    ) -> GatewayProcess:
        """One that is not started."""
        own = self.directory / name
        own.mkdir()
        settings = {
            "redis": {"url": self.redis.url},
            "admin": {"unsafe_open_metrics": True},
        }
        path = write_config(own, self.standin, settings, {"alerts": alerts})
        gateway = GatewayProcess(path, workers=workers)
        gateway.tollhouse("key", "set", "openai", stdin=REAL_KEY)
        return gateway

    def entry(self, receiver: WebhookReceiver, **more: Any) -> dict[str, Any]:
        ca = receiver.write_ca(self.directory / f"receiver-{receiver.port}.pem")
        secret = self.directory / "signing"
        secret.write_text(SECRET + "\n")
        return {
            "at": ["50%", "80%", "100%"],
            "to": receiver.url,
            "ca_file": str(ca),
            "allow_private": True,
            "signing_secret_file": str(secret),
            **more,
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as server, StandIn(key=REAL_KEY) as standin:
        yield Place(tmp_path, server, standin)


def call(gateway: GatewayProcess, token: str) -> int:
    """The status."""
    import httpx2

    url = f"http://localhost:{gateway.base_url.rpartition(':')[2]}/v1/chat/completions"
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.post(url, json=CALL, headers=headers, trust_env=False, timeout=60).status_code


def until(condition: Callable[[], object]) -> None:
    """Looks again and again; each look takes its own time."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


def listed(gateway: GatewayProcess) -> dict[str, dict[str, Any]]:
    """What `tollhouse alerts list` asks the gateway."""
    found = ask(gateway.config.parent / "state", "alerts_list", {})
    return {row["receiver"]: row for row in found["receivers"]}


def test_each_threshold_once_over_two_gateways_and_two_workers(place: Place) -> None:
    """Calls through both cross 50, 80 and 100%. The receiver fails twice, and has each of them by one id in the end."""
    with webhook_receiver() as receiver, contextlib.ExitStack() as stack:
        receiver.answers += [500, 503]
        entry = place.entry(receiver, name="ops")
        one = stack.enter_context(place.gateway("one", [entry], workers=2))
        two = stack.enter_context(place.gateway("two", [entry]))
        one.make_project(PROJECT, "10 requests/day")
        token = one.make_token(PROJECT)
        statuses = [call(gateway, token) for _ in range(5) for gateway in (one, two)]
        assert statuses == [200] * 10
        assert call(two, token) == 429
        wanted = {"50%": 1, "80%": 1, "100%": 1}
        receiver.wait_for(lambda it: it.thresholds() == wanted and len(it.taken) == 4)
        assert set(receiver.ids().values()) == {1}
        refused = [it.payload for it in receiver.taken if it.payload["type"] == "budget.refused"]
        assert [it["data"]["limit"] for it in refused] == ["10 requests/day"]
        assert len(receiver.received) == 6
        for request in receiver.received:
            Webhook(SECRET).verify(request.body, request.headers)
        # Another gateway that comes finds nothing to tell.
        three = stack.enter_context(place.gateway("three", [entry]))
        for gateway in (one, two):
            gateway.stop()
        assert call(three, token) == 429
        [row] = listed(three).values()
        counts = {name: row[name] for name in ("fired", "delivered", "given_up", "dropped")}
        assert counts == {"fired": 4, "delivered": 4, "given_up": 0, "dropped": 0}
        [data] = [
            it.payload["data"]
            for it in receiver.taken
            if it.payload["data"].get("threshold") == "80%"
        ]
        assert (data["tenant"], data["project"]) == (TENANT, PROJECT)
        assert (data["limit"], data["used"]) == ("10 requests/day", data["used"])
        assert 8 <= int(data["used"]) <= 10


def test_kill_9_between_the_outbox_and_the_receiver(place: Place) -> None:
    """A receiver that hangs delays no call and no other receiver. What it has not answered when the gateway is killed, the next
    gateway sends, by the same ids; the other receiver is told nothing twice."""
    with webhook_receiver() as dead, webhook_receiver() as alive, contextlib.ExitStack() as stack:
        dead.hang()
        entries = [
            place.entry(dead, name="dead", on=[]),
            place.entry(alive, name="alive", on=[]),
        ]
        one = stack.enter_context(place.gateway("one", entries))
        one.make_project(PROJECT, "2 requests/day")
        token = one.make_token(PROJECT)
        wanted = {"50%": 1, "80%": 1, "100%": 1}
        assert [call(one, token), call(one, token)] == [200, 200]
        alive.wait_for(lambda it: it.thresholds() == wanted)
        dead.wait_for(lambda it: len(it.received) >= 2)
        # No call waits for the one that hangs: it has answered nobody so far.
        assert call(one, token) == 429
        assert listed(one)["dead"]["waiting"] == 3
        one.kill()
        lost = {it.id for it in dead.received}
        dead.let_go()
        two = stack.enter_context(place.gateway("two", entries))
        dead.wait_for(lambda it: len({one.id for one in it.received}) == 3 and len(it.taken) >= 5)
        until(lambda: listed(two)["dead"]["waiting"] == 0)
        assert lost <= set(dead.ids())
        assert {it.payload["data"]["threshold"] for it in dead.taken} == set(wanted)
        assert dead.ids().keys() == alive.ids().keys()
        assert set(alive.ids().values()) == {1}
        assert listed(two)["alive"]["delivered"] == 3


def test_alerts_test_and_an_embedded_store(tmp_path: Path) -> None:
    """With a gateway and without one; Slack's URL is a secret, and is shown nowhere. A threshold is told once though the gateway
    was killed in between."""
    with webhook_receiver() as receiver, StandIn(key=REAL_KEY) as standin:
        url = f"https://localhost:{receiver.port}/services/T00/B00/slack-url-is-the-secret"
        (tmp_path / "slack").write_text(url)
        ca = str(receiver.write_ca(tmp_path / "receiver.pem"))
        shared = {"ca_file": ca, "allow_private": True}
        slack = {**shared, "name": "team", "form": "slack", "to_file": "slack", "at": ["50%"]}
        refused = {"name": "closed", "to": receiver.url, "ca_file": ca, "at": ["999%"]}
        path = write_config(tmp_path, standin, None, {"alerts": [slack, refused]})
        gateway = GatewayProcess(path)
        gateway.tollhouse("key", "set", "openai", stdin=REAL_KEY)
        with pytest.raises(GatewayProcessError, match="1 of 2 receivers did not take it"):
            gateway.tollhouse("alerts", "test")
        assert len(receiver.taken) == 1
        gateway.start()
        try:
            gateway.make_project(PROJECT, "1 requests/day")
            token = gateway.make_token(PROJECT)
            [row] = json.loads(gateway.tollhouse("alerts", "test", "--to", "team", "--json"))
            assert (row["result"], row["status"], row["why"]) == ("delivered", 204, "")
            assert call(gateway, token) == 200
            receiver.wait_for(lambda it: any(b"50% of the limit" in one.body for one in it.taken))
            until(lambda: listed(gateway)["team"]["waiting"] == 0)
            counts = listed(gateway)["team"]
            # What was told is written within a second or two.
            spend = tmp_path / "state" / "spend.json"
            until(lambda: "team delivered" in spend.read_text())
            gateway.kill()
            gateway.start()
            assert call(gateway, token) == 429
            receiver.wait_for(lambda it: any(b"are refused" in one.body for one in it.taken))
            texts = [one.payload["text"] for one in receiver.taken]
            assert sum("50% of the limit 1 requests/day" in text for text in texts) == 1
            assert all(one.headers.keys().isdisjoint({"webhook-id"}) for one in receiver.taken)
            assert listed(gateway)["team"]["fired"] == counts["fired"] + 1
            shown = gateway.stderr + gateway.tollhouse("alerts", "list")
            assert "slack-url-is-the-secret" not in shown
        finally:
            gateway.kill()
