"""TensorZero's gateway, from the wheel of its Python client, with cost limits in Redis.

https://www.tensorzero.com/docs/operations/enforce-custom-rate-limits and
https://www.tensorzero.com/docs/gateway/benchmarks, whose settings are used: no observability.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from bench.load import Api, BaseUrl, Proxy
from bench.peers.install import Unavailable, python_environment
from bench.peers.peer import CALLS_PAID, GPT_4O, Peer, Place, Race, Running
from bench.peers.stores import redis
from bench.servers import Side, running

VERSION: Final = "2026.6.0"
_START_S: Final = 120.0
_CONFIG: Final = """[gateway]
observability.enabled = false
[models.gpt-4o]
routing = ["openai"]
[models.gpt-4o.providers.openai]
type = "openai"
model_name = "gpt-4o"
api_base = "{provider_url}/v1"
api_key_location = "env::OPENAI_API_KEY"
cost = [
  {{ pointer = "/usage/prompt_tokens", cost_per_million = {price.input}, required = true }},
  {{ pointer = "/usage/completion_tokens", cost_per_million = {price.output}, required = true }},
]
[rate_limiting]
default_cost = {call_usd}
[[rate_limiting.rules]]
priority = 1
scope = [{{ tag_key = "project", tag_value = "bench" }}]
cost_per_day = 10000.0
[[rate_limiting.rules]]
priority = 1
scope = [{{ tag_key = "project", tag_value = "race" }}]
cost_per_day = {race_usd}
"""
"""A limit of 100,000 dollars is too many nano-dollars for a number that Redis's JSON writes without a fraction."""


@contextmanager
def _tensorzero(place: Place) -> Iterator[Running]:
    commands = python_environment(f"tensorzero-{VERSION}", f"tensorzero=={VERSION}")
    config, log = place.directory / "tensorzero.toml", place.directory / "tensorzero.log"
    race_usd = GPT_4O.race_usd()
    config.write_text(
        _CONFIG.format(
            provider_url=place.provider_url,
            price=GPT_4O,
            call_usd=race_usd / CALLS_PAID,
            race_usd=race_usd,
        )
    )
    script = Path(__file__).with_name("tensorzero_gateway.py")
    with redis(place.directory) as store:
        # -P: this directory has a module of the same name.
        arguments = [str(commands / "python"), "-P", str(script), str(config), store.url]
        with running(
            arguments,
            log,
            OPENAI_API_KEY=f"sk-{secrets.token_urlsafe(32)}",
            SSL_CERT_FILE=str(place.ca_file),
        ) as process:
            port = _port(log)
            racing = _way(port, "race")
            yield Running(
                Side((process.pid,), Proxy(port), process.pid),
                _way(port, "bench"),
                (Race("", lambda: nullcontext(racing)),),
                store.pid,
            )


def _way(port: int, project: str) -> BaseUrl:
    return BaseUrl(
        port,
        Api(
            f"127.0.0.1:{port}",
            "/openai/v1/chat/completions",
            model="tensorzero::model_name::gpt-4o",
            fields={"tensorzero::tags": {"project": project}},
        ),
    )


def _port(log: Path) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace")
        if found := re.search(r"base URL: http://[^:]+:(\d+)", said):
            return int(found[1])
        if "Traceback" in said:
            break
        time.sleep(0.05)
    raise Unavailable(f"did not start: {' '.join(log.read_text(errors='replace').split())[-300:]}")


TENSORZERO: Final = Peer(
    "tensorzero",
    f"TensorZero {VERSION}",
    "base URL",
    "The gateway's HTTP server in the native module of PyPI's `tensorzero`, in a process of its own that does nothing else "
    "(the standalone program comes as an image of a container). Settings of its benchmark page: no observability. A cost limit "
    "by tag in Redis (`cost_per_day`); `default_cost`, what it holds for a call, is what a call costs. No authentication, which "
    "needs PostgreSQL.",
    _tensorzero,
)
