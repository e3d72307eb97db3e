"""[identity.mtls]: a client certificate on a listener that speaks TLS itself, in HTTP/1.1 and HTTP/2, and around a tunnel."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from tests.support.attack import Attacked, get, post, watched
from tests.support.client_certificate import ClientCertificate, ClientsCa
from tests.support.hello import hello
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside
from tests.support.raw import H2Client, RawClient
from tests.support.raw_socket import RawSocket, handshake

from tollhouse.demo.standin_script import Behaviour, Steps

ID = "spiffe://prod.example.com/ns/a/sa/worker"
PASSED = "silent.internal"
"""A host whose tunnels are passed on, and which says nothing."""


@dataclass
class Mesh:
    inside: Inside
    ca: ClientsCa
    directory: Path
    ahead: list[float] = field(default_factory=lambda: [0.0])
    """By how many seconds the gateway's clock for identities is ahead: one number."""

    def raw(self, listener: str, shown: ClientCertificate, alpn: str = "http/1.1") -> RawClient:
        """With TLS up to the listener itself."""
        port = int(self.inside.gateway.addresses[listener].rpartition(":")[2])
        client = RawClient(("127.0.0.1", port), self.inside.ca_file)
        context = self.context(shown, proxy=True)
        client.send_plain(client.hello("localhost", (alpn,), context))
        client.handshake()
        return client

    def context(self, shown: ClientCertificate | None, *, proxy: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "listener-ca.pem"))
        if not proxy:
            context.load_verify_locations(cafile=str(self.inside.ca_file))
        if shown is not None:
            file = self.directory / "client.pem"
            file.write_text(shown.cert + shown.key)
            context.load_cert_chain(file)
        return context

    def base_url(self, shown: ClientCertificate | None, *, http2: bool = False) -> httpx2.Client:
        port = self.inside.gateway.addresses["base_url"].rpartition(":")[2]
        return httpx2.Client(
            base_url=f"https://localhost:{port}/v1",
            verify=self.context(shown),
            http2=http2,
            trust_env=False,
        )

    def proxied(self, shown: ClientCertificate | None) -> httpx2.Client:
        port = self.inside.gateway.addresses["proxy"].rpartition(":")[2]
        proxy = httpx2.Proxy(
            f"https://localhost:{port}", ssl_context=self.context(shown, proxy=True)
        )
        return httpx2.Client(
            base_url="https://api.openai.com/v1",
            proxy=proxy,
            verify=self.inside.context,
            trust_env=False,
        )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    directory = tmp_path_factory.mktemp("mesh")
    ca = ClientsCa()
    (directory / "workloads-ca.pem").write_bytes(ca.pem)
    own_ca = ClientsCa()
    (directory / "listener-ca.pem").write_bytes(own_ca.pem)
    own = own_ca.issue("localhost", server=True)
    (directory / "tls.pem").write_text(own.cert)
    (directory / "tls-key.pem").write_text(own.key)
    ahead = [0.0]
    settings = {
        "listen": {
            "tls": {"cert_file": "tls.pem", "key_file": "tls-key.pem"},
            "proxy_auth": "required",
        },
        "identity": {
            "mtls": {
                "ca_file": "workloads-ca.pem",
                "projects": {ID: PROJECT, "worker.internal": "proj_dns"},
                "tenant": TENANT,
                "limits": ["100 requests/minute"],
            }
        },
        "projects.proj_dns": {"tenant": TENANT, "limits": ["10 usd/day"]},
    }
    with socket.create_server(("127.0.0.1", 0)) as silent:
        passed = {
            "hosts": [PASSED],
            "projects": [PROJECT],
            "connect_to": f"127.0.0.1:{silent.getsockname()[1]}",
            "allow_private": True,
        }
        with open_inside(
            directory,
            settings,
            wall_clock=lambda: time.time() + ahead[0],
            tables={"tunnels": [passed]},
        ) as inside:
            yield Mesh(inside, ca, directory, ahead)


@pytest.fixture
def attacked(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(mesh.inside, caplog)


def test_a_certificate_is_an_identity(attacked: Attacked, mesh: Mesh) -> None:
    """At the base URL over both HTTPs, and in a tunnel through the proxy, which wants no Proxy-Authorization then. An SDK's
    placeholder counts as nothing. A gate token decides where one is shown."""
    shown, dns = mesh.ca.issue(ID, "other.internal"), mesh.ca.issue("worker.internal")
    placeholder = {"authorization": "Bearer not-a-key"}
    for http2 in (False, True):
        with mesh.base_url(shown, http2=http2) as client:
            answer = client.get("models", headers=placeholder)
            assert (answer.status_code, answer.http_version) == (
                200,
                "HTTP/2" if http2 else "HTTP/1.1",
            )
            assert client.get("models").status_code == 200
    with mesh.proxied(dns) as client:
        assert client.get("models", headers=placeholder).status_code == 200
    with mesh.base_url(shown) as client:
        token = {"authorization": f"Bearer {mesh.inside.token}"}
        assert client.get("models", headers=token).status_code == 200
        own = client.get("models", headers={"authorization": "Bearer sk-its-own"})
        assert own.headers["x-tollhouse-reason"] == "identity_unknown"
    lines = attacked.lines(7)
    assert [line.get("subject") for line in lines[:5]] == [ID] * 4 + ["worker.internal"]
    assert [line["project"] for line in lines[:6]] == [PROJECT] * 4 + ["proj_dns", PROJECT]
    assert lines[0]["identity"].startswith("crt_")
    assert lines[5]["identity"].startswith("tok_")


def test_a_certificate_that_is_none(attacked: Attacked, mesh: Mesh) -> None:
    """Of another CA, expired or for servers: no handshake. Without a name that is configured, with two, by its common name, or
    in another case: 401, and a token does not make up for it where none is shown."""
    for wrong in (
        ClientsCa().issue(ID),
        mesh.ca.issue(ID, life=dt.timedelta(days=-1)),
        mesh.ca.issue(ID, server=True),
    ):
        with mesh.base_url(wrong) as client, pytest.raises(httpx2.TransportError):
            client.get("models")
    for names in ((), (ID + "/x",), (ID.replace("worker", "Worker"),), (ID, "worker.internal")):
        with mesh.base_url(mesh.ca.issue(*names)) as client:
            answer = client.get("models")
            assert answer.headers["x-tollhouse-reason"] == "identity_unknown", names
            assert "client certificate has" in answer.json()["error"]["message"]
    with mesh.base_url(None) as client:
        assert client.get("models").headers["x-tollhouse-reason"] == "identity_missing"
    with mesh.proxied(None) as client, pytest.raises(httpx2.ProxyError):
        client.get("models")
    reasons = [line["reason"] for line in attacked.lines(9)]
    assert reasons == ["tls_refused"] * 3 + ["identity_unknown"] * 4 + ["identity_missing"] * 2
    attacked.nothing_left()


def request2(method: str) -> list[tuple[str | bytes, str | bytes]]:
    """The head of a chat completion, or of a look at the models, over HTTP/2."""
    path = "/v1/chat/completions" if method == "POST" else "/v1/models"
    head: list[tuple[str | bytes, str | bytes]] = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ]
    return [*head, ("content-type", "application/json")] if method == "POST" else head


def test_a_certificate_that_ends_meanwhile(attacked: Attacked, mesh: Mesh) -> None:
    """By the gateway's clock, though no handshake is made anew: a stream over either HTTP, a session over a WebSocket and a tunnel
    that is passed on are ended, and the next request on a connection that is kept is refused. What a certificate that lives on
    has begun, stays."""
    inside, steps, steps2 = mesh.inside, Steps(), (Steps(), Steps())
    short = mesh.ca.issue(ID, life=dt.timedelta(hours=1))
    long = mesh.ca.issue("worker.internal", life=dt.timedelta(hours=20))
    asked = (
        b'{"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "hello"}]}'
    )
    upgrade = handshake(host="localhost")
    with (
        mesh.raw("base_url", short, "h2") as ending2,
        mesh.raw("base_url", long, "h2") as lasting2,
        mesh.raw("base_url", short) as kept,
        mesh.raw("base_url", short) as streaming,
        mesh.raw("base_url", short) as session,
        mesh.raw("base_url", long) as other_session,
        mesh.raw("proxy", short) as tunnel,
    ):
        assert kept.ask(get(host="localhost")).status == 200
        inside.standin.script(Behaviour(steps=steps))
        streaming.send(post(asked, host="localhost"))
        steps.release()
        assert streaming.receive().startswith(b"HTTP/1.1 200 ")
        over2 = []
        for raw, each in zip((ending2, lasting2), steps2, strict=True):
            inside.standin.script(Behaviour(steps=each))
            client = H2Client(raw)
            over2.append((client, client.request(request2("POST"), asked)))
            each.release()
            assert client.until(over2[-1][1], b"data: ").status == 200
        ending, lasting = RawSocket(session, upgrade), RawSocket(other_session, upgrade)
        for opened in (ending, lasting):
            opened.until("session.created")
        assert tunnel.connect(f"{PASSED}:443").status == 200
        tunnel.send(hello(PASSED))
        mesh.ahead[0] = 7200.0
        try:
            inside.do(inside.gateway.journey.end_invalid(0.0))
            rest = b""
            while b"identity_expired" not in rest:
                piece = streaming.receive()
                assert piece, rest
                rest += piece
            client, stream = over2[0]
            client.until(stream, b"identity_expired")
            refused = client.answer(client.request(request2("GET")))
            assert (refused.status, refused.reason) == (401, "identity_expired")
            steps2[1].release_all()
            client, stream = over2[1]
            assert client.answer(stream).body.endswith(b"data: [DONE]\n\n")
            assert ending.until("error").event["error"]["code"] == "identity_expired"
            assert tunnel.rest() == b""
            assert kept.ask(get(host="localhost")).reason == "identity_expired"
        finally:
            mesh.ahead[0] = 0.0
            for each in (steps, *steps2):
                each.release_all()
    lines = attacked.lines(9)
    found = sorted(
        (line["method"], line["path"], line["reason"], line["decision"]) for line in lines
    )
    assert found == [
        ("CONNECT", "", "identity_expired", "deny"),
        ("GET", "/v1/models", "", "allow"),
        ("GET", "/v1/models", "identity_expired", "deny"),
        ("GET", "/v1/models", "identity_expired", "deny"),
        ("GET", "/v1/realtime", "client_gone", "allow"),
        ("GET", "/v1/realtime", "identity_expired", "fail"),
        ("POST", "/v1/chat/completions", "", "allow"),
        ("POST", "/v1/chat/completions", "identity_expired", "fail"),
        ("POST", "/v1/chat/completions", "identity_expired", "fail"),
    ]
