"""The way through a corporate proxy, through the running gateway: what the proxy sees, and what is said when it fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.test_realtime import ask as ask_in
from tests.e2e.test_realtime import connect, until
from tests.e2e.test_uploads import TYPE, a_file
from tests.support import token_endpoint
from tests.support.connect_proxy import ConnectProxy
from tests.support.gateway import REAL_KEY, Stores, open_road
from tests.support.inproc import Inside, open_inside
from tests.support.openai_media import FILE
from tests.support.openai_media import answered as answered_by

from tollhouse.demo.gateway_process import GatewayProcessError
from tollhouse.demo.standin import StandIn

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
TARGET = "api.openai.com:443"
TOKENS = "oauth2.googleapis.com:443"
PASSED = "artifacts.internal"
PAST = "packages.internal"


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(key=REAL_KEY) as provider:
        yield provider


@pytest.fixture(autouse=True)
def cleared(standin: StandIn) -> None:
    standin.clear()


def there(standin: StandIn) -> dict[str, tuple[str, int]]:
    return {TARGET: (standin.host, standin.port)}


def settings(proxy: ConnectProxy, **more: Any) -> dict[str, dict[str, Any]]:
    """Nothing says where the provider is: the proxy alone knows."""
    entry = {"ca_file": "provider-ca.pem", "attempts": 1}
    return {"providers.openai": entry, "upstream": {"proxy": {"url": proxy.url, **more}}}


def ask(inside: Inside, **options: Any) -> httpx2.Response:
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        return client.post(URL, json=BODY, **options)


def opened(directory: Path, standin: StandIn, given: dict[str, dict[str, Any]], **more: Any) -> Any:
    standin.write_ca(directory / "provider-ca.pem")
    return open_inside(directory, given, standin=standin, placed=False, **more)


@pytest.mark.parametrize("tls", [False, True])
def test_a_call_through_the_proxy(tmp_path: Path, standin: StandIn, tls: bool) -> None:
    """It sees the provider's name and nothing of the call; its connection is kept, and used again. It has a CA of its own."""
    with ConnectProxy(there(standin), tls=tls) as proxy:
        more = {}
        if tls:
            (tmp_path / "proxy-ca.pem").write_bytes(proxy.ca_pem)
            more["ca_file"] = "proxy-ca.pem"
        with opened(tmp_path, standin, settings(proxy, **more)) as inside:
            assert ask(inside).status_code == 200
            assert ask(inside).status_code == 200
        assert proxy.asked == [f"CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n"]
    assert [one.get("proxy-authorization") for one in standin.snapshot()] == ["", ""]
    assert {one.sni for one in standin.snapshot()} == {"api.openai.com"}


def test_tls_is_the_providers_inside_the_tunnel(tmp_path: Path) -> None:
    """A proxy that leads elsewhere gets no key."""
    with (
        StandIn(key=REAL_KEY) as real,
        StandIn(key=REAL_KEY) as other,
        ConnectProxy({TARGET: (other.host, other.port)}) as proxy,
        opened(tmp_path, real, settings(proxy)) as inside,
    ):
        answer = ask(inside)
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (502, "upstream_tls")
        assert other.snapshot() == []


@pytest.mark.parametrize(
    ("answer", "said", "reason"),
    [
        (b"HTTP/1.1 407 Who are you\r\n\r\n", "wants a user name", "upstream_unreachable"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "answers 403", "upstream_unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "sends more than its answer", "upstream_unreachable"),
        (b"SSH-2.0-x\r\n\r\n", "is no HTTP", "upstream_unreachable"),
        (b"x" * 20_000, "is no HTTP", "upstream_unreachable"),
        (b"", "No connection", "upstream_timeout"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "No connection", "upstream_timeout"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(
    tmp_path: Path, standin: StandIn, answer: bytes, said: str, reason: str
) -> None:
    """Each is told apart, nothing has left, and none of it hangs."""
    with ConnectProxy({}, answer=answer) as proxy:
        given = settings(proxy)
        given["providers.openai"]["connect_timeout_s"] = 0.5
        with opened(tmp_path, standin, given) as inside:
            got = ask(inside)
            assert (got.headers["x-tollhouse-reason"], said in got.text) == (reason, True)
            inside.until(lambda gateway: not gateway.journey.under_way)
            [line] = inside.lines()
    assert (line["cost_usd"], line["charged_by"]) == ("0", "none")


def test_a_proxy_that_is_not_there(tmp_path: Path, standin: StandIn) -> None:
    with ConnectProxy({}) as proxy:
        given = settings(proxy)
    with opened(tmp_path, standin, given) as inside:
        got = ask(inside)
    assert got.headers["x-tollhouse-reason"] == "upstream_unreachable"
    assert f"The proxy localhost:{proxy.port} can't be reached" in got.text


def test_a_proxy_at_a_metadata_address(tmp_path: Path, standin: StandIn) -> None:
    """Its address may be private; no setting lets it be where a cloud gives out credentials."""
    given = {
        "providers.openai": {"attempts": 1},
        "upstream": {"proxy": {"url": "http://169.254.169.254:80"}},
    }
    with opened(tmp_path, standin, given) as inside:
        got = ask(inside)
    assert got.headers["x-tollhouse-reason"] == "upstream_address_refused"


def test_a_provider_that_goes_past_the_proxy(tmp_path: Path, standin: StandIn) -> None:
    with ConnectProxy({}) as proxy:
        given = settings(proxy)
        given["providers.openai"] |= {
            "upstream_proxy": "off",
            "connect_to": standin.address,
            "allow_private": True,
        }
        with opened(tmp_path, standin, given) as inside:
            assert ask(inside).status_code == 200
        assert proxy.asked == []


def test_the_password_is_in_vault(tmp_path: Path, standin: StandIn) -> None:
    """A new one there counts without a restart."""
    with ConnectProxy(there(standin), login=("toll", "first")) as proxy:
        given = settings(proxy, secret="infrastructure/proxy")
        given["vault"] = {"refresh_s": 0.5}
        given["upstream"]["idle_s"] = 0.001
        with opened(tmp_path, standin, given, stores="real") as inside:
            assert inside.stores is not None
            answer = ask(inside)
            assert answer.headers["x-tollhouse-reason"] == "credential_unavailable"
            inside.stores.put("infrastructure/proxy", {"username": "toll", "password": "first"})
            answered(inside)
            proxy.login = ("toll", "second")
            inside.stores.put("infrastructure/proxy", {"username": "toll", "password": "second"})
            answered(inside)


def answered(inside: Inside) -> None:
    """Until the secret has been read again."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if ask(inside).status_code == 200:
            return
    raise AssertionError("the new secret is not used")


@pytest.mark.parametrize("secret", [False, True])
def test_a_provider_that_speaks_http(tmp_path: Path, secret: bool) -> None:
    """A model server of one's own behind the proxy, which may want a password: the tunnel is there, TLS is not."""
    login = ("toll", "first") if secret else None
    with (
        StandIn(key=REAL_KEY, tls=False) as plain,
        ConnectProxy(there(plain), login=login) as proxy,
    ):
        given = settings(proxy, **({"secret": "infrastructure/proxy"} if secret else {}))
        given["providers.openai"] = {"unsafe_plaintext": True, "attempts": 1}
        stores: Stores = "real" if secret else "embedded"
        with open_inside(tmp_path, given, standin=plain, placed=False, stores=stores) as inside:
            if inside.stores is not None:
                inside.stores.put("infrastructure/proxy", {"username": "toll", "password": "first"})
            assert [ask(inside).status_code for _ in range(2)] == [200, 200]
        assert len(proxy.asked) == 1


def test_an_address_behind_the_proxy_is_judged(tmp_path: Path, standin: StandIn) -> None:
    """`connect_to` says an address: the proxy is not asked for one that may not be dialled."""
    with ConnectProxy(there(standin)) as proxy:
        given = settings(proxy)
        given["providers.openai"] |= {"connect_to": "169.254.169.254:443", "allow_private": True}
        with opened(tmp_path, standin, given) as inside:
            got = ask(inside)
        assert got.headers["x-tollhouse-reason"] == "upstream_address_refused"
        assert proxy.asked == []


def test_what_else_goes_through_the_proxy(tmp_path: Path, standin: StandIn) -> None:
    """A WebSocket session, a tunnel that is passed on, and the fetch of an access token. A tunnel that says "off" goes past it.
    The password is the proxy's alone."""
    away = {"allow_private": True, "projects": ["*"]}
    tunnels = [
        {"hosts": [PASSED], **away},
        {"hosts": [PAST], "connect_to": standin.address, "upstream_proxy": "off", **away},
    ]
    names = {
        standin.address: (standin.host, standin.port),
        f"{PASSED}:443": (standin.host, standin.port),
    }
    with (
        token_endpoint.token_server() as tokens,
        ConnectProxy({**names, TOKENS: ("127.0.0.1", tokens.port)}) as proxy,
        open_road(
            tmp_path,
            {"upstream": {"proxy": {"url": proxy.url}}},
            standin=standin,
            tables={"tunnels": tunnels},
        ) as road,
    ):
        with connect(road) as session:
            until(session, "session.created")
            assert ask_in(session)[-1].type == "response.done"
        assert road.wait_lines(1)[0]["status"] == 101
        for host in (PASSED, PAST):
            assert road.curl("--insecure", f"https://{host}/v1/models").stdout
        road.gateway.tollhouse("key", "set", "vertex", stdin=json.dumps(token_endpoint.account()))
        # The gateway trusts the public roots for Google's endpoint: no assertion is sent to this one.
        with pytest.raises(GatewayProcessError, match=r"TLS with oauth2\.googleapis\.com fails"):
            road.gateway.tollhouse("key", "test", "vertex", "--json")
    assert tokens.received == []
    asked = [head.split()[1] for head in proxy.asked]
    assert asked == [standin.address, f"{PASSED}:443", TOKENS]
    assert not any("authorization" in head.lower() for head in proxy.asked)


def test_an_upload_through_the_proxy(tmp_path: Path, standin: StandIn) -> None:
    standin.script(answered_by(FILE))
    body = a_file(8 << 20)
    with (
        ConnectProxy(there(standin)) as proxy,
        opened(tmp_path, standin, settings(proxy)) as inside,
        httpx2.Client(
            proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
        ) as client,
    ):
        got = client.post(
            "https://api.openai.com/v1/files", content=body, headers={"content-type": TYPE}
        )
    assert got.status_code == 200
    assert standin.snapshot()[0].body == body
