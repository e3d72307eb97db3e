"""A gateway in this process, its running master on a loop in a thread: for faults that a test puts into its parts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import io
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from aiohttp.abc import AbstractResolver

from tests.support.gateway import REAL_KEY, Stores, real_stores
from tests.support.lines import lines_of
from tests.support.openbao import OpenBao
from tollhouse.config.load import catalog, load_config
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.gateway_config import Settings, write_config
from tollhouse.demo.standin import StandIn
from tollhouse.families.asked import Dialect
from tollhouse.families.base import Family
from tollhouse.families.opened import opened
from tollhouse.gateway import Gateway
from tollhouse.ledger.ledger import Scope
from tollhouse.loop import eager_task_factory, tell_of_failure
from tollhouse.providers import Catalog
from tollhouse.stores import open_reader

T = TypeVar("T")
PROJECT = "proj_123"
TENANT = "acme"

_running: weakref.WeakSet[Inside] = weakref.WeakSet()


class Inside:
    """The gateway, from the inside. What touches its parts goes through `do`, on its own loop."""

    def __init__(
        self, gateway: Gateway, loop: asyncio.AbstractEventLoop, standin: StandIn, directory: Path
    ) -> None:
        self.gateway = gateway
        self.standin = standin
        self.directory = directory
        self._loop = loop
        self.token = ""
        self.stores: OpenBao | None = None
        _running.add(self)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def proxy(self) -> tuple[str, int]:
        host, _, port = self.gateway.addresses["proxy"].rpartition(":")
        return host, int(port)

    @property
    def proxy_url(self) -> str:
        return f"http://{PROJECT}:{self.token}@{self.gateway.addresses['proxy']}"

    @property
    def credentials(self) -> str:
        """What stands in Proxy-Authorization."""
        return "Basic " + base64.b64encode(f"{PROJECT}:{self.token}".encode()).decode()

    @property
    def context(self) -> ssl.SSLContext:
        """A client's TLS that trusts the gateway's CA alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def until(self, condition: Callable[[Gateway], bool], seconds: float = 20.0) -> None:
        """Until ``condition`` of the gateway holds, looked at after each turn of its loop; raises ``TimeoutError``."""

        async def wait() -> None:
            async with asyncio.timeout(seconds):
                while not condition(self.gateway):  # noqa: ASYNC110 - after each turn
                    await asyncio.sleep(0)

        self.do(wait())

    @property
    def ca_file(self) -> Path:
        return self.directory / "state" / "ca.pem"

    def lines(self) -> list[dict[str, Any]]:
        """A line comes a moment behind its answer where no limit is near: those of calls that are answered are waited for."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with contextlib.suppress(TimeoutError):
                self.until(lambda gateway: not any(e.finished for e in gateway.journey.under_way))
        return lines_of(self.directory / "calls.jsonl")

    def held(self) -> list[str]:
        """Call ids that Redis still has a hold of."""

        async def ask() -> list[str]:
            found = await self.gateway.redis.hkeys(f"toll:{{{TENANT}}}:holds")  # type: ignore[misc]
            return [key.decode() for key in found]

        return self.do(ask())

    def budget(self) -> dict[str, dict[str, str]]:
        """Limit text to its ``used``, ``held``, ``left``."""

        async def ask() -> list[Any]:
            shown = await self.gateway.operations.perform("budget_show", {"project": PROJECT})
            return [limit for scope in shown["scopes"] for limit in scope["limits"]]

        return {limit["limit"]: limit for limit in self.do(ask())}

    def scope(self) -> Scope:
        return Scope("project", TENANT, PROJECT)

    def tasks(self) -> str:
        """Where each task of the gateway stands."""

        async def look() -> str:
            text = io.StringIO()
            for task in asyncio.all_tasks():
                task.print_stack(file=text)
            return text.getvalue()

        return asyncio.run_coroutine_threadsafe(look(), self._loop).result(5)


def tasks_of_all() -> str:
    """What the gateways of this process wait for: for the report of a test that has failed."""
    found = []
    for inside in tuple(_running):
        try:
            found.append(inside.tasks())
        except Exception as error:
            found.append(f"the loop of {inside.directory} does not answer: {error!r}")
    return "\n\n".join(found)


def speaking(family: Family, providers: Catalog, dialect: Dialect | None) -> Catalog:
    """``providers``, of which the first speaks ``family``, with what the configuration opens beside it."""
    first, *others = providers.providers
    spoken = opened(family, first.allow, first.unmetered)
    first = dataclasses.replace(first, family=spoken, dialect=dialect or first.dialect)
    return Catalog((first, *others))


@contextlib.contextmanager
def open_inside(
    directory: Path,
    settings: Settings | None = None,
    *,
    standin: StandIn | None = None,
    stores: Stores = "embedded",
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    login_clock: Callable[[], float] = time.monotonic,
    health_every_s: float = 1.0,
    family: Family | None = None,
    dialect: Dialect | None = None,
    own_keys: Mapping[str, str] | None = None,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
    before_vault: Callable[[OpenBao], contextlib.AbstractContextManager[str]] | None = None,
    placed: bool = True,
    resolver_factory: Callable[[], AbstractResolver] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Iterator[Inside]:
    """A gateway that is ready, with `PROJECT` and a token; its stores embedded, or redis-server and OpenBao of its own. Its
    login to Vault goes by ``login_clock``, and identities end by ``wall_clock``. The provider speaks ``family``, if one is
    given, in ``dialect``. ``own_keys`` are keys of projects alone, and ``secrets`` others of a real store, by path.
    ``before_vault`` gives the address of what stands before OpenBao. Without ``placed`` the configuration does not say where
    the provider is. ``tables`` are those of which there may be several."""
    provider = standin or StandIn(key=REAL_KEY)
    merged: dict[str, dict[str, Any]] = {
        "log": {"calls": "calls.jsonl"},
        "admin": {"unsafe_open_metrics": True},
        f"projects.{PROJECT}": {"tenant": TENANT, "limits": ["10 usd/day", "100 requests/minute"]},
    }
    for table, keys in (settings or {}).items():
        merged.setdefault(table, {}).update(keys)
    with contextlib.ExitStack() as stack:
        if not provider.running:
            stack.enter_context(provider)
        bao = real_stores(stack, directory, merged) if stores == "real" else None
        if before_vault is not None:
            assert bao is not None
            merged["vault"]["address"] = stack.enter_context(before_vault(bao))
        config = load_config(write_config(directory, provider if placed else None, merged, tables))
        config.state.directory.mkdir(mode=0o700)
        if bao is None:
            EmbeddedVault(config.state.directory).set("openai", REAL_KEY)
        else:
            bao.put("infrastructure/openai", {"api_key": REAL_KEY})
        for place, fields in (secrets or {}).items():
            assert bao is not None
            bao.put(place, fields)
        for project, key in (own_keys or {}).items():
            provider.keys.add(key)
            if bao is None:
                own = EmbeddedVault(config.state.directory, "projects/{project}/{provider}")
                own.set("openai", key, project=project)
            else:
                bao.put(f"projects/{project}/openai", {"api_key": key})
        providers = None if family is None else speaking(family, catalog(config), dialect)
        # As `tollhouse run` has it.
        loop = uvloop.new_event_loop()
        loop.set_task_factory(eager_task_factory)
        loop.set_exception_handler(tell_of_failure)
        thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
        thread.start()

        async def begin() -> Gateway:
            reader = open_reader(config, login_clock)
            gateway = Gateway(
                config,
                clock=clock,
                wall_clock=wall_clock,
                reader=reader,
                health_every_s=health_every_s,
                providers=providers,
                resolver_factory=resolver_factory,
            )
            await gateway.start()
            return gateway

        inside = Inside(
            asyncio.run_coroutine_threadsafe(begin(), loop).result(60), loop, provider, directory
        )
        inside.stores = bao
        made = inside.do(inside.gateway.operations.perform("token_create", {"projects": [PROJECT]}))
        inside.token = made["token"]
        try:
            yield inside
        except Exception as error:
            error.add_note(inside.tasks())
            raise
        finally:
            _running.discard(inside)
            inside.do(inside.gateway.stop())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
