"""Connections to hosts that are no provider's: which address is dialled, and what each failure is called."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.dispatch.provider import FakeResolver
from tests.support.connect_proxy import ConnectProxy

from tollhouse.companions.passable import PassableHost
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.secret import Secret
from tollhouse.denial import Refused
from tollhouse.dispatch.dial import Dialler
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.providers import UpstreamProxy

HOST = "packages.test"


class NoSecrets:
    async def get(self, path: str, *names: str) -> tuple[Secret, ...]:
        raise CredentialUnavailable("There is no secret.")


@contextlib.asynccontextmanager
async def a_dialler(**names: list[list[str]]) -> AsyncIterator[Dialler]:
    tunnels = ProxyTunnels(NoSecrets())
    known = {name.replace("_", "."): addresses for name, addresses in names.items()}
    dialler = Dialler(tunnels, lambda: FakeResolver(known))
    try:
        yield dialler
    finally:
        await dialler.close()
        await tunnels.close()


def to(port: int, **more: Any) -> PassableHost:
    return PassableHost(HOST, frozenset(), **{"port": port, "allow_private": True, **more})


async def refusal(dialler: Dialler, entry: PassableHost) -> Refused:
    with pytest.raises(Refused) as caught:
        await dialler.dial(HOST, entry, asyncio.Protocol)
    return caught.value


async def test_a_host_that_answers() -> None:
    """An address that takes no connection is passed over, and the connection is probed when it is silent."""
    with socket.create_server(("127.0.0.2", 0)) as server:
        async with a_dialler(packages_test=[["127.0.0.3", "127.0.0.2"]]) as dialler:
            transport = await dialler.dial(HOST, to(server.getsockname()[1]), asyncio.Protocol)
            accepted, _ = server.accept()
            transport.write(b"hello")
            assert accepted.recv(5) == b"hello"
            dialled = transport.get_extra_info("socket")
            assert dialled.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            transport.abort()
            accepted.close()


async def test_another_place() -> None:
    """`connect_to` names host and port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with a_dialler(inside_test=[["127.0.0.1"]]) as dialler:
            place = ("inside.test", server.getsockname()[1])
            transport = await dialler.dial(HOST, to(1, connect_to=place), asyncio.Protocol)
            server.accept()[0].close()
            transport.abort()


async def test_what_is_not_reached(unused_tcp_port: int) -> None:
    async with a_dialler(packages_test=[["127.0.0.1"]]) as dialler:
        error = await refusal(dialler, to(unused_tcp_port))
        assert (error.denial.code, HOST in error.denial.why) == ("upstream_unreachable", True)
        unknown = to(443, connect_to=("nowhere.test", 443))
        assert (await refusal(dialler, unknown)).denial.code == "upstream_unreachable"


@pytest.mark.parametrize(
    ("address", "private"), [("127.0.0.1", False), ("10.0.0.1", False), ("169.254.169.254", True)]
)
async def test_an_address_that_may_not_be_dialled(address: str, private: bool) -> None:
    """Metadata never; what is private only where the entry says so."""
    async with a_dialler(packages_test=[[address]]) as dialler:
        error = await refusal(dialler, to(443, allow_private=private))
    assert error.denial.code == "upstream_address_refused"
    assert address in error.denial.why


async def test_through_a_proxy() -> None:
    """The tunnel is the connection. A proxy whose password is not there is asked for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with ConnectProxy({f"{HOST}:443": server.getsockname()[:2]}) as proxy:
            way = UpstreamProxy("localhost", proxy.port)
            locked = UpstreamProxy("localhost", proxy.port, secret="infrastructure/proxy")
            async with a_dialler() as dialler:
                error = await refusal(dialler, to(443, upstream_proxy=locked))
                assert error.denial.code == "credential_unavailable"
                assert proxy.asked == []
                transport = await dialler.dial(HOST, to(443, upstream_proxy=way), asyncio.Protocol)
                accepted, _ = server.accept()
                transport.write(b"hello")
                assert await asyncio.to_thread(accepted.recv, 5) == b"hello"
                transport.abort()
                accepted.close()
        assert len(proxy.asked) == 1
