"""The listeners: TLS of their own, 407, the transparent one, and what they hold a client to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.certificate import make_certificate
from tests.support.gateway import Road, open_road

BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]})
CALL = ["-H", "content-type: application/json", "-d", BODY]
URL = "https://api.openai.com/v1/chat/completions"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Listeners that speak TLS with a certificate of the operator's, 407 first, and the transparent one beside them."""
    directory = tmp_path_factory.mktemp("secured")
    cert, key = make_certificate(directory)
    listen = {
        "tls": {"cert_file": str(cert), "key_file": str(key)},
        "proxy_auth": "required",
        "transparent": "127.0.0.1:0",
    }
    with open_road(directory, {"listen": listen}) as road:
        yield road


def listener_ca(road: Road) -> str:
    return str(road.directory / "provider.pem")


@pytest.mark.requires("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_proxy_behind_tls(secured: Road, version: str) -> None:
    """TLS to the proxy, CONNECT inside it, TLS to the provider inside that: nothing is in the clear on the wire."""
    done = secured.curl(
        version,
        "-x",
        f"https://{secured.project}:{secured.token}@{secured.gateway.proxy}",
        "--proxy-cacert",
        listener_ca(secured),
        "--cacert",
        str(secured.ca_file),
        URL,
        *CALL,
        environ={},
    )
    assert json.loads(done.stdout)["object"] == "chat.completion"


@pytest.mark.requires("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_base_url_behind_tls(secured: Road, version: str) -> None:
    """The base URL listener with the same certificate, on both versions of HTTP."""
    url = f"https://{secured.gateway.base_url}/v1/chat/completions"
    done = secured.curl(
        version,
        "--cacert",
        listener_ca(secured),
        "-H",
        f"Authorization: Bearer {secured.token}",
        url,
        *CALL,
        environ={},
    )
    assert json.loads(done.stdout)["object"] == "chat.completion"


@pytest.mark.requires("curl")
def test_credentials_are_asked_for_first(secured: Road) -> None:
    """proxy_auth = "required": 407 with a challenge to a CONNECT without credentials, and a line that says so."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        secured.curl(
            "-v",
            "-x",
            f"https://{secured.gateway.proxy}",
            "--proxy-cacert",
            listener_ca(secured),
            "--cacert",
            str(secured.ca_file),
            URL,
            *CALL,
            environ={},
        )
    said = refused.value.stderr.decode().lower()
    assert "407 proxy authentication required" in said
    assert 'proxy-authenticate: basic realm="tollhouse"' in said
    lines = secured.gateway.wait_until(lambda lines: any(line["status"] == 407 for line in lines))
    [line] = [line for line in lines if line["status"] == 407]
    assert (line["reason"], line["method"]) == ("identity_missing", "CONNECT")


@pytest.mark.requires("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_the_transparent_listener(secured: Road, version: str) -> None:
    """No proxy setting at all: the host is the SNI's, the identity is in the credential slot."""
    host, _, port = secured.gateway.addresses["transparent"].rpartition(":")

    def calls(lines: list[dict[str, Any]]) -> int:
        return sum(line["listener"] == "transparent" for line in lines)

    before = calls(secured.lines())
    done = secured.curl(
        version,
        "--cacert",
        str(secured.ca_file),
        "--connect-to",
        f"api.openai.com:443:{host}:{port}",
        "-H",
        f"Authorization: Bearer {secured.token}",
        URL,
        *CALL,
        environ={},
    )
    assert json.loads(done.stdout)["object"] == "chat.completion"
    secured.gateway.wait_until(lambda lines: calls(lines) == before + 1)


def test_a_plain_request_to_a_listener_with_tls_gets_nothing(secured: Road) -> None:
    """No TLS, no answer: the token is not taken in the clear."""
    host, _, port = secured.gateway.base_url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in raw.recv(1000)


def test_one_connection_too_many(tmp_path: Path) -> None:
    """Above max_connections a connection is answered 503 and closed; the others go on."""
    with open_road(tmp_path / "road", {"limits": {"max_connections": 2}}) as road:
        host, _, port = road.gateway.base_url.rpartition(":")
        first = [socket.create_connection((host, int(port)), timeout=20) for _ in range(2)]
        for each in first:
            each.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 401 " in each.recv(4000)
        with socket.create_connection((host, int(port)), timeout=20) as third:
            answer = third.recv(4000)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"x-tollhouse-reason: too_many_connections" in answer
        first[0].sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 401 " in first[0].recv(4000)
        for each in first:
            each.close()


def test_a_log_file_that_was_moved_is_opened_anew(tmp_path: Path) -> None:
    """SIGHUP after a rotation: the next line is in a new file, none is lost."""
    directory = tmp_path / "road"
    with open_road(directory, {"log": {"calls": "calls.jsonl"}}) as road:
        file = directory / "calls.jsonl"
        with road.http() as client:
            client.get("https://api.openai.com/v1/models")
            file.rename(directory / "calls.1")
            road.gateway.signal(signal.SIGHUP)
            while not file.exists():
                client.get("https://api.openai.com/v1/engines")
            client.get("https://api.openai.com/v1/models")
        lines = [
            json.loads(line)
            for name in ("calls.1", "calls.jsonl")
            for line in (directory / name).open()
        ]
        assert [line["status"] for line in lines if line["path"] == "/v1/models"] == [200, 200]
