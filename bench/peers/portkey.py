"""Portkey's gateway from npm: https://github.com/Portkey-AI/gateway/blob/main/docs/installation-deployments.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.load import Api, BaseUrl, Proxy
from bench.peers.install import npm_package
from bench.peers.peer import Peer, Place, Running
from bench.servers import Side, free_port, running, wait_for_port

VERSION: Final = "1.15.2"
_OVERRIDES: Final = {"@hono/node-server": "1.13.5"}
"""Its own lock file has that. With what npm chooses, each stream is answered 500."""


@contextmanager
def _portkey(place: Place) -> Iterator[Running]:
    modules = npm_package(f"portkey-{VERSION}", "@portkey-ai/gateway", VERSION, _OVERRIDES)
    port = free_port()
    server = modules / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    api = Api(
        f"127.0.0.1:{port}",
        headers=(
            "x-portkey-provider: openai",
            f"x-portkey-custom-host: {place.provider_url}/v1",
        ),
    )
    with running(
        ["node", str(server), f"--port={port}", "--headless"],
        place.directory / "portkey.log",
        NODE_ENV="production",
        NODE_EXTRA_CA_CERTS=str(place.ca_file),
        TRUSTED_CUSTOM_HOSTS="127.0.0.1",
    ) as process:
        wait_for_port(port, process)
        yield Running(Side((process.pid,), Proxy(port), process.pid), BaseUrl(port, api))


PORTKEY: Final = Peer(
    "portkey",
    f"Portkey gateway {VERSION}",
    "base URL",
    "`NODE_ENV=production`, `--headless`, no retries, no cache. The open-source gateway has no keys of its own and no budgets: "
    "the client's key goes to the provider. `@hono/node-server` is the 1.13.5 of its lock file: with the newest it answers streams "
    "with 500.",
    _portkey,
)
