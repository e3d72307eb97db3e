"""Tunnels that are passed on: to the hosts that the file names, for the projects that it names, and unread."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.hello import hello, with_extension

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.standin import StandIn

HOST = "artifacts.internal"
AGENTS = "platform.claude.com"
LOOPBACK = "localhost"
HOSTS = ("localhost", "api.openai.com", HOST, AGENTS)
SETTINGS: dict[str, Any] = {
    "limits": {"max_tunnels": 12, "tunnel_idle_s": 3},
    "companions": {"claude-code": "all"},
}


class Sink:
    """A host that says nothing but what it is told to. ``took`` is what came, once its client has ended."""

    def __init__(self, answer: bytes = b"") -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.answer = answer
        self.took: list[bytes] = []
        self.sent = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                threading.Thread(target=self._one, args=(accepted,), daemon=True).start()

    def _one(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            came = accepted.recv(65536)
            for at in range(0, len(self.answer), 65536):
                self.sent += accepted.send(self.answer[at : at + 65536])
            while piece := accepted.recv(65536):
                came += piece
            self.took.append(came)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["embedded", "real"])
def tunnelled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sink: Sink
) -> Iterator[Road]:
    """A gateway whose tunnels lead to the stand-in, to a host that says nothing, and to an address that may not be dialled."""
    with StandIn(key=REAL_KEY, hosts=HOSTS) as standin:
        to_standin = {"connect_to": standin.address, "allow_private": True}
        entries = [
            {"hosts": [HOST, AGENTS], "projects": ["proj_123"], **to_standin},
            {
                "hosts": ["*.sink.internal"],
                "projects": ["*"],
                "connect_to": f"127.0.0.1:{sink.port}",
                "allow_private": True,
            },
            {"hosts": [LOOPBACK], "projects": ["*"], "port": standin.port},
        ]
        directory = tmp_path_factory.mktemp(f"tunnels-{request.param}")
        with open_road(
            directory, SETTINGS, stores=request.param, standin=standin, tables={"tunnels": entries}
        ) as road:
            yield road


@pytest.fixture
def road(tunnelled: Road) -> Road:
    """Its lines and book from here on."""
    tunnelled.standin.clear()
    tunnelled.fresh()
    limit(tunnelled)
    return tunnelled


def limit(road: Road, *limits: str) -> None:
    wanted = {"project": road.project, "tenant": road.tenant, "limits": list(limits)}
    perform(load_config(road.gateway.config), "project_set", wanted)


def basic(road: Road, token: str | None = None, project: str | None = None) -> str:
    pair = f"{project or road.project}:{token or road.token}"
    return f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"


@contextlib.contextmanager
def connected(road: Road, target: str, headers: str | None = None) -> Iterator[socket.socket]:
    host, _, port = road.gateway.proxy.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        said = basic(road) if headers is None else headers
        client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{said}\r\n".encode())
        yield client


def head_of(client: socket.socket) -> str:
    said = b""
    while b"\r\n\r\n" not in said:
        piece = client.recv(1)
        if not piece:
            break
        said += piece
    return said.decode()


def rest_of(client: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            said += piece
    return said


def test_a_tunnel(road: Road) -> None:
    """The client sees the host's own certificate, the host sees no key, and the line has the bytes."""
    answer = road.curl(
        *("--cacert", str(road.directory / "provider-ca.pem")),
        *("-H", "Authorization: Bearer my-own", f"https://{HOST}/v1/models"),
    )
    assert answer.stdout
    [received] = road.standin.wait_count(1)
    assert (received.sni, received.get("authorization")) == (HOST, "Bearer my-own")
    assert REAL_KEY.encode() not in received.everything()
    assert not received.get("proxy-authorization")
    [line] = road.wait_lines(1)
    assert (line["method"], line["host"], line["status"]) == ("CONNECT", HOST, 200)
    assert (line["decision"], line["reason"], line["provider"]) == ("allow", "", "")
    assert (line["project"], line["tenant"]) == (road.project, road.tenant)
    assert line["identity"].startswith("tok_")
    assert (line["cost_usd"], line["charged_by"]) == ("0", "none")
    assert line["bytes"]["sent"] > 300
    assert line["bytes"]["received"] > 500
    assert "my-own" not in json.dumps(line)


def test_an_agents_companion(road: Road) -> None:
    """It passes as an agent's; where it is dialled says an entry of its own."""
    road.curl("--cacert", str(road.directory / "provider-ca.pem"), f"https://{AGENTS}/v1/models")
    [line] = road.wait_lines(1)
    assert (line["host"], line["status"]) == (AGENTS, 200)


@pytest.mark.parametrize(
    ("target", "headers", "status", "reason"),
    [
        (f"{HOST}:443", "", 407, "identity_missing"),
        (f"{HOST}:443", "unknown", 401, "identity_unknown"),
        (f"{HOST}:443", "other project", 403, "host_not_allowed"),
        (f"{HOST}:22", None, 403, "port_not_allowed"),
        ("elsewhere.internal:443", None, 403, "host_not_allowed"),
        ("a.b.sink.internal:443", None, 403, "host_not_allowed"),
        ("sink.internal:443", None, 403, "host_not_allowed"),
        ("play.googleapis.com:443", None, 403, "host_not_allowed"),
        ("LOOPBACK", None, 502, "upstream_address_refused"),
    ],
)
def test_refused_at_connect(
    road: Road, target: str, headers: str | None, status: int, reason: str
) -> None:
    """With the reason in the answer, and nothing is dialled for it."""
    if headers == "unknown":
        headers = basic(road, token="gate_" + "A" * 49)
    elif headers == "other project":
        wanted = {"project": "other", "tenant": road.tenant}
        perform(load_config(road.gateway.config), "project_set", wanted)
        headers = basic(road, road.gateway.make_token("other"), "other")
    target = f"{LOOPBACK}:{road.standin.port}" if target == "LOOPBACK" else target
    with connected(road, target, headers) as client:
        head = head_of(client)
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert f"x-tollhouse-reason: {reason}" in head.lower()
    assert ('proxy-authenticate: Basic realm="tollhouse"' in head) is (status == 407)
    [line] = road.wait_lines(1)
    assert (line["reason"], line["decision"], line["status"]) == (reason, "deny", status)
    assert line["host"].partition(":")[0] == target.partition(":")[0]
    assert road.standin.snapshot() == []


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: one.sink.internal\r\n\r\n",
        hello("two.sink.internal"),
        hello(None),
        with_extension(hello("one.sink.internal"), 0xFE0D, b"\x00" * 8),
    ],
    ids=["no TLS", "another name", "no name", "ECH"],
)
def test_a_first_message_that_is_refused(road: Road, sink: Sink, first: bytes) -> None:
    """Nothing of it reaches the host."""
    sink.took.clear()
    with connected(road, "one.sink.internal:443") as client:
        assert head_of(client).startswith("HTTP/1.1 200 ")
        client.sendall(first)
        assert rest_of(client) == b""
    [line] = road.wait_lines(1)
    assert (line["reason"], line["decision"], line["bytes"]["sent"]) == ("tls_refused", "deny", 0)
    assert not any(sink.took)


def test_what_comes_with_the_connect(road: Road, sink: Sink) -> None:
    """A client may not wait for the 200; every byte goes on in its order."""
    sink.took.clear()
    name = "early.sink.internal"
    first = hello(name)
    target = f"{name}:443"
    host, _, port = road.gateway.proxy.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{basic(road)}\r\n".encode()
        client.sendall(head + first[:100])
        assert head_of(client).startswith("HTTP/1.1 200 ")
        client.sendall(first[100:] + b"and more")
        client.shutdown(socket.SHUT_WR)
        assert rest_of(client) == b""
    [line] = road.wait_lines(1)
    assert line["bytes"] == {"sent": len(first) + 8, "received": 0}
    # A connection of the test before may end here, of which nothing came.
    assert [took for took in sink.took if took] == [first + b"and more"]


def test_calls_at_the_same_time(road: Road) -> None:
    """An open tunnel takes one of the places that the project has, and gives it back."""
    limit(road, "1 concurrent")
    name = "place.sink.internal"
    with connected(road, f"{name}:443") as first:
        assert head_of(first).startswith("HTTP/1.1 200 ")
        with connected(road, f"{name}:443") as second:
            head = head_of(second)
            assert head.startswith("HTTP/1.1 429 ")
            assert "x-tollhouse-reason: concurrency_limited" in head.lower()
    road.wait_lines(2)
    with connected(road, f"{name}:443") as third:
        assert head_of(third).startswith("HTTP/1.1 200 ")
    road.wait_lines(3)


def test_too_many_of_one_token(road: Road) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            one = stack.enter_context(connected(road, "many.sink.internal:443"))
            assert head_of(one).startswith("HTTP/1.1 200 ")
        one_more = stack.enter_context(connected(road, "many.sink.internal:443"))
        head = head_of(one_more)
    assert head.startswith("HTTP/1.1 503 ")
    assert "x-tollhouse-reason: too_many_connections" in head.lower()
    road.wait_lines(4)


def test_silence(road: Road) -> None:
    """A tunnel in which nothing is said ends."""
    name = "idle.sink.internal"
    with connected(road, f"{name}:443") as client:
        head_of(client)
        client.sendall(hello(name))
        assert rest_of(client) == b""
    [line] = road.wait_lines(1)
    assert (line["reason"], line["status"]) == ("tunnel_idle", 200)


def test_a_token_that_is_revoked(road: Road) -> None:
    """An open tunnel ends within seconds though its client goes on."""
    token = road.gateway.make_token(road.project)
    name = "revoked.sink.internal"
    stop = threading.Event()
    with connected(road, f"{name}:443", basic(road, token)) as client:
        head_of(client)
        client.sendall(hello(name))

        def go_on() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.2):
                    client.sendall(b"x")

        talking = threading.Thread(target=go_on)
        talking.start()
        from tollhouse.accounts.token import token_id

        perform(load_config(road.gateway.config), "token_revoke", {"token_id": token_id(token)})
        assert rest_of(client) == b""
        stop.set()
        talking.join()
    [line] = road.wait_lines(1)
    assert (line["reason"], line["decision"]) == ("identity_revoked", "deny")


def test_a_client_that_does_not_read(road: Road, sink: Sink) -> None:
    """The host has to wait: nothing is heaped up here."""
    name = "slow.sink.internal"
    sink.answer, sink.sent = bytes(64 << 20), 0
    try:
        with connected(road, f"{name}:443") as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            head_of(client)
            client.sendall(hello(name))
            client.recv(1)
            # Until it ends for its silence.
            [line] = road.wait_lines(1, timeout=30)
    finally:
        sink.answer = b""
    assert line["bytes"]["received"] < 16 << 20
    assert line["reason"] == "tunnel_idle"


def test_a_tunnel_to_a_provider_is_no_configuration(tmp_path: Path) -> None:
    from tollhouse.config.load import ConfigError

    for host in ("api.openai.com", "*.openai.com", "api.anthropic.com"):
        path = tmp_path / "tollhouse.toml"
        path.write_text(
            '[redis]\nurl = "embedded"\n[vault]\naddress = "embedded"\n'
            f'[[tunnels]]\nhosts = ["{host}"]\nprojects = ["*"]\n'
        )
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        [problem] = caught.value.problems
        assert problem.key == "tunnels[0].hosts[0]"
        assert "neither held nor metered" in str(problem)


def test_the_transparent_listener(tmp_path: Path) -> None:
    """Nobody can say there who calls, and so nothing passes."""
    settings = {"listen": {"transparent": "127.0.0.1:0"}, "companions": {"claude-code": "all"}}
    with open_road(tmp_path, settings) as road:
        host, _, port = road.gateway.addresses["transparent"].rpartition(":")
        context = ssl.create_default_context()
        with (
            socket.create_connection((host, int(port)), timeout=30) as client,
            pytest.raises(ssl.SSLError, match="unrecognized"),
        ):
            context.wrap_socket(client, server_hostname=AGENTS)
        [line] = road.wait_lines(1)
        assert (line["reason"], line["host"]) == ("tls_refused", AGENTS)
