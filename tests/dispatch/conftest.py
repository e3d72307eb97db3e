"""A raw provider over TLS, and the `Upstream` that reaches it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.dispatch.provider import HOST, Authority, FakeResolver, RawProvider
from tests.support.calls import lease
from tests.support.values import replace

from tollhouse.credential.lease import Lease
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.upstream import Answer, Upstream
from tollhouse.families.openai import OPENAI
from tollhouse.providers import Catalog, CredentialSlot, Provider

KEY = "sk-the-real-key-of-the-provider"
LEASE = lease(KEY, path="infrastructure/provider")


class Reached:
    """A running `Upstream` with one provider, and a short way to call it."""

    def __init__(self, upstream: Upstream, provider: Provider, resolver: FakeResolver) -> None:
        self.upstream = upstream
        self.provider = provider
        self.resolver = resolver

    async def send(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        headers: list[tuple[str, str]] | None = None,
        body: bytes | None = b'{"model":"m"}',
        *,
        host: str = HOST,
        lease: Lease = LEASE,
        budget_s: float = 10.0,
        on_leaving: Callable[[], None] | None = None,
        fresh: bool = False,
        creates: bool = False,
    ) -> Answer:
        outgoing = Outgoing(self.provider, host, method, path, headers or [], body, lease)
        return await self.upstream.send(
            outgoing, budget_s=budget_s, on_leaving=on_leaving, fresh=fresh, creates=creates
        )


Reach = Callable[..., contextlib.AbstractAsyncContextManager[Reached]]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def raw(authority: Authority) -> AsyncIterator[RawProvider]:
    async with RawProvider().running(authority.server()) as provider:
        yield provider


@pytest.fixture
def reach(authority: Authority) -> Reach:
    """``reach(port, names=..., **changes of the provider's entry)``: an Upstream whose provider's name is 127.0.0.1."""

    @contextlib.asynccontextmanager
    async def reach(
        port: int, names: dict[str, list[list[str]]] | None = None, **changes: Any
    ) -> AsyncIterator[Reached]:
        provider = Provider(
            name="provider",
            family=OPENAI,
            hosts=(HOST,),
            slot=CredentialSlot("authorization", "Bearer "),
            port=port,
            ca_file=str(authority.ca_file),
            allow_private=True,
        )
        provider = replace(provider, **changes)
        resolver = FakeResolver({HOST: [["127.0.0.1"]]} if names is None else names)
        upstream = Upstream(Catalog((provider,)), resolver_factory=lambda: resolver)
        await upstream.start()
        try:
            async with asyncio.timeout(20):  # What would hang for ever fails instead.
                yield Reached(upstream, provider, resolver)
        finally:
            await upstream.close()

    return reach


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)
