"""The running gateway: a stand-in provider, a real ``tollhouse run``, a project and a token, on either kind of stores.

    def test_it(road: Road) -> None:            # embedded stores, then real redis-server and OpenBao
        answer = road.sdk().chat.completions.create(...)
        [received] = road.standin.wait_count(1)
        [line] = road.wait_lines(1)

`road` shares one gateway per worker and kind of stores; its project, token, book and lines are the test's own.
`open_road` makes a gateway of the test's own, with settings.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support.openbao import OpenBao
from tests.support.redis_server import RedisServer
from tests.support.requires import program, require
from tests.support.schema import check_line
from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.gateway_config import Settings, write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn

if TYPE_CHECKING:
    # Slow to import, and this module is loaded in every test run.
    import httpx2
    from openai import AsyncOpenAI, OpenAI

REAL_KEY = "sk-the-real-key-of-the-tests-0123456789abcdefghijklmnop"
"""What the Vault holds and the stand-in takes. No test writes it anywhere else, so that a search of all logs for it
means something."""
PLACEHOLDER = "no-key-of-mine"
"""What an SDK that must have an api_key is given beside a proxy's credentials."""

Stores = Literal["embedded", "real"]


@dataclass
class Road:
    """One project's view of a running gateway. Lines and book are those since the road was made."""

    gateway: GatewayProcess
    standin: StandIn
    directory: Path
    project: str
    token: str
    tenant: str = "acme"
    _seen: int = field(default=0, repr=False)

    @property
    def proxy_url(self) -> str:
        """With the project and the token in it."""
        return self.gateway.proxy_url(self.project, self.token)

    @property
    def bare_proxy_url(self) -> str:
        return f"http://{self.gateway.proxy}"

    @property
    def base_url(self) -> str:
        """``http://localhost:PORT/v1``."""
        return f"http://localhost:{self.gateway.base_url.rpartition(':')[2]}/v1"

    @property
    def ca_file(self) -> Path:
        return self.directory / "state" / "ca.pem"

    @property
    def context(self) -> ssl.SSLContext:
        """A client's TLS that trusts the gateway's CA alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    @property
    def environ(self) -> dict[str, str]:
        """A workload's whole environment."""
        return {"HTTPS_PROXY": self.proxy_url, "SSL_CERT_FILE": str(self.ca_file)}

    def http(self, *, http2: bool = False, credentials: bool = True) -> httpx2.Client:
        """An HTTP client through the proxy listener."""
        import httpx2

        proxy = self.proxy_url if credentials else self.bare_proxy_url
        return httpx2.Client(
            proxy=proxy, verify=self.context, http2=http2, trust_env=False, timeout=30
        )

    def sdk(self, api_key: str = PLACEHOLDER, **options: Any) -> OpenAI:
        """The SDK through the proxy listener, the provider's URL unchanged."""
        from openai import DefaultHttpxClient, OpenAI

        client = DefaultHttpxClient(proxy=self.proxy_url, verify=self.context, trust_env=False)
        return OpenAI(api_key=api_key, http_client=client, **options)

    def async_sdk(self, api_key: str = PLACEHOLDER, **options: Any) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        client = DefaultAsyncHttpxClient(proxy=self.proxy_url, verify=self.context, trust_env=False)
        return AsyncOpenAI(api_key=api_key, http_client=client, **options)

    def direct(self) -> httpx2.Client:
        """An HTTP client to the stand-in itself, with its key: what an answer is without a gateway."""
        import httpx2

        return httpx2.Client(
            base_url=f"https://localhost:{self.standin.port}",
            headers={"authorization": f"Bearer {self.standin.key}"},
            verify=ssl.create_default_context(cadata=self.standin.ca_pem.decode()),
            trust_env=False,
        )

    def curl(
        self, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """curl with a workload's environment, or that given, and nothing else."""
        command = [program("curl"), "-sS", "--max-time", "30", *arguments]
        variables = dict(self.environ if environ is None else environ)
        return subprocess.run(command, env=variables, capture_output=True, timeout=60, check=True)

    def lines(self) -> list[dict[str, Any]]:
        """By when each call came: a line may be behind that of a later call which had nothing to settle."""
        return sorted(self.gateway.lines()[self._seen :], key=lambda line: str(line["ts"]))

    def fresh(self) -> None:
        """Its lines are those from here on."""
        self._seen = len(self.gateway.lines())

    def wait_lines(self, count: int, timeout: float = 60.0) -> list[dict[str, Any]]:
        """`lines` once there are ``count``. Each has the published schema."""
        self.gateway.wait_lines(self._seen + count, timeout)
        lines = self.lines()
        for line in lines:
            check_line(line)
        return lines

    def budget(self) -> dict[str, dict[str, Any]]:
        """Limit text to ``used``, ``held``, ``left``."""
        return self.gateway.budget(self.project)

    def used(self, limit: str = "10 usd/day") -> Decimal:
        return Decimal(self.budget()[limit]["used"])


@contextlib.contextmanager
def open_road(
    directory: Path,
    settings: Settings | None = None,
    *,
    stores: Stores = "embedded",
    standin: StandIn | None = None,
    project: str = "proj_123",
    limits: Sequence[str] = ("10 usd/day",),
    environ: Mapping[str, str] | None = None,
    workers: int = 1,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Iterator[Road]:
    """A gateway of one's own, ready, with a project and a token. A ``standin`` that does not run is started here. ``tables``
    are those of which there may be several (``[[tunnels]]``)."""
    directory.mkdir(parents=True, exist_ok=True)
    provider = standin or StandIn(
        key=REAL_KEY, hosts=("localhost", "api.openai.com", "*.api.openai.com")
    )
    with contextlib.ExitStack() as stack:
        if not provider.running:
            stack.enter_context(provider)
        merged: dict[str, dict[str, Any]] = {"admin": {"unsafe_open_metrics": True}}
        bao: OpenBao | None = None
        if stores == "real":
            bao = real_stores(stack, directory, merged)
        for table, keys in (settings or {}).items():
            merged.setdefault(table, {}).update(keys)
        path = write_config(directory, provider, merged, tables)
        gateway = GatewayProcess(path, environ=environ, workers=workers)
        if bao is None:
            # What `tollhouse key set` does, without a process for it.
            (directory / "state").mkdir(mode=0o700, exist_ok=True)
            EmbeddedVault(directory / "state").set("openai", provider.key)
        else:
            bao.put("infrastructure/openai", {"api_key": provider.key})
        stack.enter_context(gateway)
        gateway.make_project(project, *limits)
        yield Road(gateway, provider, directory, project, gateway.make_token(project))


def real_stores(
    stack: contextlib.ExitStack, directory: Path, settings: dict[str, dict[str, Any]]
) -> OpenBao:
    """Start redis-server and OpenBao for this gateway alone, and point ``settings`` at them."""
    require("redis", "openbao")
    for name in ("redis", "openbao"):
        (directory / name).mkdir()
    redis_server = stack.enter_context(RedisServer(directory / "redis"))
    bao = OpenBao(directory / "openbao")
    stack.callback(bao.stop)
    bao.start()
    settings.setdefault("redis", {})["url"] = redis_server.url
    files = {"role_id_file": str(bao.role_id_file), "secret_id_file": str(bao.secret_id_file)}
    vault = settings.setdefault("vault", {})
    vault |= {"address": bao.address, "auth": {"method": "approle", **files}}
    return bao


@pytest.fixture(scope="session", params=["embedded", "real"])
def shared_road(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    """The worker's gateway; a test asks for `road`."""
    with open_road(tmp_path_factory.mktemp(f"road-{request.param}"), stores=request.param) as made:
        yield made


_numbers = itertools.count(1)


@pytest.fixture
def road(shared_road: Road) -> Road:
    """A project and a token of the test's own on the worker's gateway, with an empty book and no lines yet."""
    gateway = shared_road.gateway
    project = f"proj_{os.getpid()}_{next(_numbers)}"
    shared_road.standin.clear()
    # The commands' own way to the stores, without a process for each.
    config = load_config(gateway.config)
    perform(config, "project_set", {"project": project, "tenant": "acme", "limits": ["10 usd/day"]})
    token = str(perform(config, "token_create", {"projects": [project], "label": "test"})["token"])
    return Road(
        gateway,
        shared_road.standin,
        shared_road.directory,
        project,
        token,
        _seen=len(gateway.lines()),
    )
