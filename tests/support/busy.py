"""A running gateway that has had a call of each kind: for what reads their lines and records."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from anthropic import Anthropic

from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.redis_server import RedisServer
from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

LOGIN = "sk-ant-oat01-a-login-of-a-subscription-0123456789abcdefghijklmnop"
CHAT = "https://api.openai.com/v1/chat/completions"
FORMULA = '=HYPERLINK("https://evil.test","gpt")'
"""A model's name that a spreadsheet would run."""
ASKED: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Who pays at the tollhouse?"}],
    "max_completion_tokens": 40,
}
CODES = ("identity_unknown", "endpoint_forbidden", "model_not_allowed", "budget_exceeded")
"""How the refused calls were refused, in their order."""


def counted(
    model: str, prompt: int, output: int, *, cached: int = 0, reasoning: int = 0
) -> dict[str, Any]:
    """An answer that has counted so many tokens."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "You do."},
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        },
    }


@dataclasses.dataclass
class Busy:
    """``lines`` are those of its calls, in the order in which they ended; ``poor`` is a project without money."""

    road: Road
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def made(self, count: int) -> None:
        """So many calls more have ended."""
        self.lines += self.road.wait_lines(count)
        self.road.fresh()

    def project(self, name: str, **settings: Any) -> Road:
        config = load_config(self.road.gateway.config)
        perform(config, "project_set", {"project": name, "tenant": "acme", **settings})
        made = perform(config, "token_create", {"projects": [name], "label": f"of {name}"})
        return dataclasses.replace(self.road, project=name, token=str(made["token"]))


@contextlib.contextmanager
def open_busy(directory: Path) -> Iterator[Busy]:
    """On a real Redis."""
    hosts = ("localhost", "api.openai.com", "api.anthropic.com", "second.test", "files.internal")
    (directory / "redis").mkdir(parents=True)
    with StandIn(key=REAL_KEY, hosts=hosts) as standin, RedisServer(directory / "redis") as redis:
        standin.keys.add(LOGIN)
        own = {"connect_to": standin.address, "allow_private": True, "ca_file": "provider-ca.pem"}
        settings: dict[str, dict[str, Any]] = {
            "redis": {"url": redis.url},
            "providers.openai": {"fallback": "second", "attempts": 1},
            "providers.second": {**own, "family": "openai", "hosts": ["second.test"]},
            "providers.anthropic": own,
            'prices."second/gpt-4o"': {"input": "5", "output": "20"},
            f"prices.{json.dumps('openai/' + FORMULA)}": {"input": "1", "output": "2"},
            'prices."openai/o-thinks"': {
                "input": "1.10",
                "cached": "0.275",
                "output": "4.40",
                "reasoning": "6.60",
            },
        }
        tunnels = [{"hosts": ["files.internal"], "projects": ["*"], **_dialled(standin)}]
        with open_road(directory, settings, standin=standin, tables={"tunnels": tunnels}) as road:
            EmbeddedVault(directory / "state").set("second", standin.key)
            busy = Busy(road)
            _calls(busy)
            _refusals(busy)
            yield busy


def _dialled(standin: StandIn) -> dict[str, Any]:
    return {"connect_to": standin.address, "allow_private": True}


def _calls(busy: Busy) -> None:
    road, standin = busy.road, busy.road.standin
    session = {"x-session-id": "ses_one", "x-coreason-trace-id": "trace-1"}
    with road.http() as client:
        client.post(CHAT, json=ASKED, headers=session).raise_for_status()
        busy.made(1)
        client.post(CHAT, json={**ASKED, "stream": True}).raise_for_status()
        busy.made(1)
        for model, usage in (
            ("o-thinks", {"prompt": 1000, "output": 333, "cached": 777, "reasoning": 111}),
            ("gpt-4o", {"prompt": 901, "output": 7, "cached": 128}),
            (FORMULA, {"prompt": 3, "output": 5}),
        ):
            body = json.dumps(counted(model, **usage)).encode()
            standin.script(reply(200, body, [("content-type", "application/json")]))
            client.post(CHAT, json={**ASKED, "model": model}).raise_for_status()
            busy.made(1)
        # The first provider is ill, and its fallback answers.
        standin.script(reply(503, b'{"error":{"message":"ill"}}', [("x-should-retry", "false")]))
        client.post(CHAT, json=ASKED).raise_for_status()
        busy.made(1)
        assert busy.lines[-1]["fallback_from"] == "openai"
    with_login = busy.project("proj_login", login="pass", limits=["0.000001 usd/day"])
    anthropic = Anthropic(auth_token=LOGIN, api_key=None, http_client=with_login.http())
    anthropic.messages.create(
        model="claude-sonnet-5",
        max_tokens=60,
        messages=[{"role": "user", "content": "Who pays?"}],
        extra_headers={"anthropic-beta": "oauth-2025-04-20"},
    )
    busy.made(1)
    with road.sdk().realtime.connect(
        model="gpt-realtime",
        websocket_connection_options={"proxy": road.proxy_url, "ssl": road.context},
    ) as conversation:
        conversation.response.create()
        for event in conversation:
            if event.type == "response.done":
                break
    busy.made(1)
    _tunnel(road)
    busy.made(1)


def _tunnel(road: Road) -> None:
    """TLS that is passed on, to the stand-in itself."""
    trusting = ssl.create_default_context(cadata=road.standin.ca_pem.decode())
    with httpx2.Client(proxy=road.proxy_url, verify=trusting, trust_env=False) as client:
        client.get("https://files.internal/")


def _refusals(busy: Busy) -> None:
    road = busy.road
    poor = busy.project("proj_poor", limits=["0.000001 usd/day"], models=["gpt-4o*"])
    nobody = dataclasses.replace(road, token="gate_of_nobody")
    for caller, url, body in (
        (nobody, CHAT, ASKED),
        (road, "https://api.openai.com/v1/organization/admin_api_keys", {}),
        (poor, CHAT, {**ASKED, "model": "gpt-5"}),
        (poor, CHAT, ASKED),
    ):
        with caller.http() as client, contextlib.suppress(httpx2.HTTPError):
            client.post(url, json=body)
        busy.made(1)
    # No request at all: the handshake names no host.
    host, _, port = road.gateway.proxy.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(b"CONNECT nobody.test:443 HTTP/1.1\r\nHost: nobody.test:443\r\n\r\n")
        raw.recv(4096)
    busy.made(1)
