"""Tunnels for what is no provider's: who is asked, by what name, and what an endpoint of tokens gets through one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.connect_proxy import ConnectProxy
from tests.support.token_endpoint import HOST, TokenServer, says, token_server

from tollhouse.credential.cloud.token_host import TokenHost
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.dispatch.resolve import AddressRefused
from tollhouse.providers import UpstreamProxy

URL = f"https://{HOST}/token"


class Kept:
    """A store with one secret."""

    async def get(self, path: str, *names: str) -> tuple[Secret, ...]:
        if path != "infrastructure/proxy":
            raise CredentialUnavailable("There is no secret.")
        return tuple(Secret({"username": "toll", "password": "s3cr3t"}[name]) for name in names)


@pytest.fixture(scope="module")
def server() -> Iterator[TokenServer]:
    with token_server() as running:
        running.act = says(200, b"{}")
        yield running


@pytest.fixture
async def tunnels() -> AsyncIterator[ProxyTunnels]:
    made = ProxyTunnels(Kept())
    yield made
    await made.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_post_through_a_proxy(
    server: TokenServer, tunnels: ProxyTunnels, tmp_path: Path, tls: bool
) -> None:
    """It has a password and, where it speaks TLS, a CA of its own. The endpoint gets the same bytes as without one."""
    to = {f"{HOST}:443": ("127.0.0.1", server.port)}
    with ConnectProxy(to, tls=tls, login=("toll", "s3cr3t")) as proxy:
        ca_file = None
        if tls:
            ca_file = str(tmp_path / "proxy.pem")
            (tmp_path / "proxy.pem").write_bytes(proxy.ca_pem)
        way = UpstreamProxy("localhost", proxy.port, tls, ca_file, "infrastructure/proxy")
        host = TokenHost(
            URL, ca_file=server.write_ca(tmp_path / "ca.pem"), connector=tunnels.connector(way)
        )
        assert (await host.post(b"assertion=x", {})).status == 200
        await host.close()
    assert b"\n\nassertion=x" in server.received[-1]
    assert b"roxy-" not in server.received[-1]
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("secret", "said"),
    [(None, "wants a user name"), ("infrastructure/none", "There is no secret")],
)
async def test_a_proxy_that_lets_nothing_through(
    tunnels: ProxyTunnels, secret: str | None, said: str
) -> None:
    """It is told as the store of keys being away."""
    with ConnectProxy({}, login=("toll", "s3cr3t")) as proxy:
        way = UpstreamProxy("localhost", proxy.port, secret=secret)
        host = TokenHost(URL, connector=tunnels.connector(way))
        with pytest.raises(StoreAway, match=said) as away:
            await host.post(b"assertion=x", {})
        assert away.value.__context__ is None
        await host.close()


async def test_an_address_is_judged_before_the_proxy_is_asked(tunnels: ProxyTunnels) -> None:
    with ConnectProxy({}) as proxy:
        way = UpstreamProxy("localhost", proxy.port)
        with pytest.raises(AddressRefused):
            await tunnels.open(way, "169.254.169.254", 443, allow_private=True)
    assert proxy.asked == []
