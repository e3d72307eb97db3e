"""Connections to the provider, through the running gateway: the certificate that we show, probes, how many and how old."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
import warnings
from pathlib import Path

import httpx2
import psutil
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from mitmproxy.tls import ClientHello
from tests.support.client_certificate import made_for
from tests.support.faulty import FaultyProvider, Wire
from tests.support.gateway import REAL_KEY
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Latch
from tollhouse.demo.standin_tls import make_server_tls

HOST = "api.openai.com"
URL = f"https://{HOST}/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
PLACE = "infrastructure/openai-client"


def ask(inside: Inside) -> httpx2.Response:
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        return client.post(URL, json=BODY)


def test_a_client_certificate_from_vault(tmp_path: Path) -> None:
    """Without one the provider ends the handshake. A new one is shown without a restart."""
    first, second = made_for("first"), made_for("second")
    settings = {
        "providers.openai": {"client_certificate": PLACE, "attempts": 1},
        "vault": {"refresh_s": 0.5},
    }
    with (
        StandIn(key=REAL_KEY, clients=(first.cert + second.cert).encode()) as standin,
        open_inside(tmp_path, settings, standin=standin, stores="real") as inside,
    ):
        assert inside.stores is not None
        assert ask(inside).headers["x-tollhouse-reason"] == "credential_unavailable"
        inside.stores.put(PLACE, first._asdict())
        shown(inside, "first")
        # What is no certificate is told as that. The one before it is not shown any more.
        inside.stores.put(PLACE, {"cert": first.cert, "key": second.key})
        until = time.monotonic() + 20
        while ask(inside).status_code == 200:
            assert time.monotonic() < until
        assert ask(inside).headers["x-tollhouse-reason"] == "credential_unavailable"
        inside.stores.put(PLACE, second._asdict())
        shown(inside, "second")
    assert [one.get("authorization") for one in standin.snapshot()] == [f"Bearer {REAL_KEY}"] * len(
        standin.snapshot()
    )


def shown(inside: Inside, name: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if ask(inside).status_code == 200 and inside.standin.snapshot()[-1].shown == name:
            return
    raise AssertionError(f"{name} is not shown")


def test_a_certificate_that_is_not_shown(tmp_path: Path) -> None:
    settings = {"providers.openai": {"attempts": 1}}
    with (
        StandIn(key=REAL_KEY, clients=made_for("other").cert.encode()) as standin,
        open_inside(tmp_path, settings, standin=standin) as inside,
    ):
        assert ask(inside).headers["x-tollhouse-reason"].startswith("upstream_")
        assert standin.snapshot() == []


def test_an_idle_connection_is_probed(tmp_path: Path) -> None:
    """After 30 s without a byte (tcp(7), TCP_KEEPIDLE)."""
    with open_inside(tmp_path) as inside:
        assert ask(inside).status_code == 200
        port = inside.standin.port
        [mine] = [
            one
            for one in psutil.Process().net_connections("tcp4")
            if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"
        ]
        with socket.socket(fileno=os.dup(mine.fd)) as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_the_tls_that_is_spoken(tmp_path: Path) -> None:
    """TLS 1.2 and newer, and HTTP/1.1 inside it. A provider that has TLS 1.1 at most is refused, and the refusal says why."""
    made = make_server_tls([HOST], "good")
    (tmp_path / "old-ca.pem").write_bytes(made.ca_pem)
    old = made.context
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    hellos: list[bytes] = []

    def serve(wire: Wire) -> None:
        if wire.number == 1:
            hellos.append(wire.hello())
        else:
            wire.tls()

    with FaultyProvider(serve, old).running() as provider:
        entry = {
            "connect_to": f"127.0.0.1:{provider.port}",
            "allow_private": True,
            "ca_file": "old-ca.pem",
            "attempts": 1,
        }
        with open_inside(tmp_path, {"providers.openai": entry}, placed=False) as inside:
            assert ask(inside).status_code == 502
            answer = ask(inside)
    # Behind the record's head (5 bytes) and the message's (4).
    asked = ClientHello(hellos[0][9:])
    versions = next(content for kind, content in asked.extensions if kind == 43)
    assert asked.alpn_protocols == [b"http/1.1"]
    assert versions == b"\x04\x03\x04\x03\x03", "supported_versions: 1.3 and 1.2"
    assert answer.headers["x-tollhouse-reason"] == "upstream_tls"
    message = answer.json()["error"]["message"]
    assert "offers no TLS 1.2 or newer" in message


class TwoAddresses(AbstractResolver):
    """Each name has ::1, which comes first, and 127.0.0.1."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=one, port=port, family=kind, proto=6, flags=0)
            for one, kind in (("::1", socket.AF_INET6), ("127.0.0.1", socket.AF_INET))
        ]

    async def close(self) -> None: ...


def test_a_name_with_a_dead_ipv6_address(tmp_path: Path) -> None:
    """SYNs to it are dropped (listen(2)). The other address is dialled a quarter of a second later, and not when an hour has
    passed."""
    with StandIn(key=REAL_KEY, hosts=(HOST,)) as standin, contextlib.ExitStack() as stack:
        dead = stack.enter_context(
            socket.create_server(("::1", standin.port), family=socket.AF_INET6, backlog=0)
        )
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            waiting.connect_ex(dead.getsockname())
        entry = {"connect_timeout_s": 3600.0, "connect_to": f"{HOST}:{standin.port}", "attempts": 1}
        with open_inside(
            tmp_path,
            {"providers.openai": entry},
            standin=standin,
            resolver_factory=TwoAddresses,
        ) as inside:
            assert ask(inside).status_code == 200
            [one] = standin.snapshot()
            assert one.get("authorization") == f"Bearer {REAL_KEY}"


@pytest.mark.parametrize(
    ("upstream", "connections"), [({}, 1), ({"idle_s": 0.001}, 2), ({"age_s": 0.001}, 2)]
)
def test_how_long_a_connection_is_kept(
    tmp_path: Path, upstream: dict[str, float], connections: int
) -> None:
    with open_inside(tmp_path, {"upstream": upstream}) as inside:
        assert [ask(inside).status_code for _ in range(2)] == [200, 200]
        assert len({one.connection for one in inside.standin.snapshot()}) == connections


def test_a_host_has_so_many_connections(tmp_path: Path) -> None:
    """A call that gets none within connect_timeout_s is refused, and has not left."""
    latch = Latch()
    settings = {
        "upstream": {"connections_per_host": 1},
        "providers.openai": {"connect_timeout_s": 0.3, "attempts": 1},
    }
    with open_inside(tmp_path, settings) as inside:
        inside.standin.script(Behaviour(wait=latch))
        with httpx2.Client(
            proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
        ) as client:
            request = client.build_request("POST", URL, json={**BODY, "stream": True})
            answers: list[int] = []
            waiting = threading.Thread(
                target=lambda: answers.append(client.send(request).status_code)
            )
            waiting.start()
            assert inside.standin.wait_for(bool)
            refused = ask(inside)
            latch.open()
            waiting.join()
        assert refused.headers["x-tollhouse-reason"] == "upstream_timeout"
        assert answers == [200]
        assert len(inside.standin.snapshot()) == 1
