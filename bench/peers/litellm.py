"""LiteLLM's proxy, with budgets in Redis.

Its virtual keys are rows of PostgreSQL, and it reaches that by Prisma, whose engine is downloaded from a host that is no package
registry: https://docs.litellm.ai/docs/proxy/virtual_keys. So keys come from its custom auth here, and spend is in Redis. The
settings are those of https://docs.litellm.ai/docs/proxy/prod: one worker, no debug logs, host and port of Redis instead of its
URL, `simple-shuffle`, no cache of answers.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.load import Api, BaseUrl, Proxy, Way
from bench.peers.install import Unavailable, python_environment
from bench.peers.peer import CLAUDE_SONNET, GPT_4O, Peer, Place, Price, Race, Running
from bench.peers.stores import Store, redis
from bench.servers import Side, free_port, running, wait_for_port

VERSION: Final = "1.106.12"
"""Of later ones (1.108.12 to 1.110.2 were tried) packages of its own that they pin could not be had."""

_KEYS: Final = """from litellm.proxy._types import UserAPIKeyAuth

BUDGETS = {budgets!r}


async def user_api_key_auth(request, api_key):
    if api_key not in BUDGETS:
        raise Exception("unknown key")
    return UserAPIKeyAuth(api_key=api_key, max_budget=BUDGETS[api_key])
"""
"""https://docs.litellm.ai/docs/proxy/custom_auth"""


@dataclass(frozen=True)
class Model:
    """Which model of which provider it is set up for, and how it is called."""

    name: str
    provider: str
    price: Price
    suffix: str
    """Of the provider's address."""
    anthropic: bool = False
    rust: bool = False

    def way(self, port: int, key: str) -> BaseUrl:
        path = "/v1/messages" if self.anthropic else "/v1/chat/completions"
        return BaseUrl(
            port, Api(f"127.0.0.1:{port}", path, key, model=self.name, anthropic=self.anthropic)
        )


OPENAI: Final = Model("gpt-4o", "openai", GPT_4O, "/v1")
ANTHROPIC: Final = Model(
    "claude-sonnet-4-5", "anthropic", CLAUDE_SONNET, "", anthropic=True, rust=True
)


@contextmanager
def _litellm(place: Place, *, model: Model) -> Iterator[Running]:
    commands = python_environment(f"litellm-{VERSION}", f"litellm[proxy]=={VERSION}")
    keys = {name: f"sk-{secrets.token_hex(24)}" for name in ("bench", "race")}
    budgets = {keys["bench"]: 1e6, keys["race"]: model.price.race_usd()}
    with (
        redis(place.directory) as store,
        _process(commands, place, "keys", model, store, budgets) as side,
    ):
        way, racing = (model.way(side.proxy.port, keys[name]) for name in ("bench", "race"))
        if model.rust and not _made_by_rust(way):
            raise Unavailable("its Rust core does not make the call, and Python does")
        yield Running(
            side,
            way,
            (
                Race("budget of the key", lambda: nullcontext(racing)),
                Race(
                    "budget of the provider",
                    partial(_limited_provider, commands, place, model, store),
                ),
            ),
            store.pid,
        )


def _made_by_rust(way: BaseUrl) -> bool:
    """Whether a call's answer says that its Rust core made it."""
    connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=60)
    headers = {"Authorization": f"Bearer {way.api.key}", "Content-Type": "application/json"}
    connection.request("POST", way.api.path, way.api.body(stream=False), headers)
    said = connection.getresponse().headers.get("x-litellm-rust")
    connection.close()
    return said == "true"


@contextmanager
def _limited_provider(commands: Path, place: Place, model: Model, store: Store) -> Iterator[Way]:
    """A process whose provider has the money: https://docs.litellm.ai/docs/proxy/provider_budget_routing."""
    key = f"sk-{secrets.token_hex(24)}"
    limit = {"budget_limit": model.price.race_usd(), "time_period": "1d"}
    router = {"provider_budget_config": {model.provider: limit}}
    with _process(commands, place, "provider", model, store, {key: 1e6}, router=router) as side:
        yield model.way(side.proxy.port, key)


@contextmanager
def _process(
    commands: Path,
    place: Place,
    name: str,
    model: Model,
    store: Store,
    budgets: dict[str, float],
    router: dict[str, Any] | None = None,
) -> Iterator[Side]:
    home, port = place.directory / name, free_port()
    home.mkdir()
    where = {"host": "127.0.0.1", "port": store.port}
    deployment = {
        "model": f"{model.provider}/{model.name}",
        "api_key": f"sk-{secrets.token_urlsafe(32)}",
        "api_base": f"{place.provider_url}{model.suffix}",
        **({"rust": True} if model.rust else {}),
    }
    config = {
        "model_list": [{"model_name": model.name, "litellm_params": deployment}],
        "general_settings": {
            "custom_auth": "keys.user_api_key_auth",
            # Without it the budget of a key is not looked at.
            "custom_auth_run_common_checks": True,
            # Without it one more call is let through than there is money for.
            "fail_closed_budget_enforcement": True,
            "disable_error_logs": True,
            "proxy_batch_write_at": 60,
        },
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            "redis_host": where["host"],
            "redis_port": where["port"],
            **(router or {}),
        },
        "litellm_settings": {
            "set_verbose": False,
            "num_retries": 0,
            "request_timeout": 600,
            "cache": True,
            # Redis for spend and limits, and no answer from a cache.
            "cache_params": {"type": "redis", **where, "supported_call_types": []},
        },
    }
    (home / "config.yaml").write_text(json.dumps(config))  # YAML as well
    (home / "keys.py").write_text(_KEYS.format(budgets=budgets))
    arguments = [str(commands / "litellm"), "--config", str(home / "config.yaml")]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    arguments += ["--keepalive_timeout", "60"]
    with running(
        arguments,
        home / "litellm.log",
        PATH=f"{commands}{os.pathsep}{os.environ['PATH']}",
        LITELLM_MASTER_KEY=f"sk-{secrets.token_hex(24)}",
        LITELLM_MODE="PRODUCTION",
        LITELLM_LOG="ERROR",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        SSL_CERT_FILE=str(place.ca_file),
        **({"LITELLM_RUST": "true"} if model.rust else {}),
    ) as process:
        wait_for_port(port, process)
        yield Side((process.pid,), Proxy(port), process.pid)


_SETTINGS: Final = (
    "Settings of its production page: one worker of Uvicorn, no debug logs, Redis by host and port, `simple-shuffle`, no retries, "
    "no cache of answers. Keys by custom auth with `max_budget`, whose spend is reserved in Redis "
    "(`custom_auth_run_common_checks`, `fail_closed_budget_enforcement`). No PostgreSQL, as its client for that, Prisma, downloads "
    "an engine from a host that is no package registry: so nothing settles a reservation and no spend is logged, which costs it "
    "less than its virtual keys do. The budget of the provider is `provider_budget_config`, in a process of its own."
)

LITELLM: Final = Peer(
    "litellm", f"LiteLLM {VERSION}", "base URL", _SETTINGS, partial(_litellm, model=OPENAI)
)
LITELLM_RUST: Final = Peer(
    "litellm-rust",
    f"LiteLLM {VERSION}, `rust: true`",
    "base URL, Anthropic's Messages",
    "As above, with `rust: true` and `LITELLM_RUST=true`: its Rust core makes calls of `/v1/messages` to Anthropic, and of "
    "`/v1/chat/completions` none, so that API is measured.",
    partial(_litellm, model=ANTHROPIC),
)
