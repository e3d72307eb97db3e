"""Who judges CONNECT and handshakes, without a gateway."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.support.calls import HOST, models_head
from tests.support.lines import lines_of

from tollhouse.accounts.token import mint
from tollhouse.book import Book
from tollhouse.call import ListenerKind
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.tunnel import Tunnel
from tollhouse.providers import BUILT_IN, Catalog
from tollhouse.trust.leaf import server_context


class Leaves:
    """Remembers which hosts a certificate was made for."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def context(self, host: str) -> ssl.SSLContext:
        if host == "api.anthropic.com":
            raise ValueError("the CA does not cover api.anthropic.com")
        self.made.append(host)
        return server_context(())


Make = Callable[..., Tunnel]


@pytest.fixture
def leaves() -> Leaves:
    return Leaves()


@pytest.fixture
def make(tmp_path: Path, leaves: Leaves) -> Make:
    def made(
        proxy_auth: Literal["optional", "required"] = "optional", **own: ssl.SSLContext
    ) -> Tunnel:
        book = Book(tmp_path / "lines")
        return Tunnel(Catalog(BUILT_IN), leaves, book, proxy_auth=proxy_auth, listener_tls=own)  # type: ignore[arg-type]

    return made


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return lines_of(tmp_path / "lines")


BASIC = ("proxy-authorization", "Basic eDp5")


@pytest.mark.parametrize(
    ("target", "headers", "auth", "verdict"),
    [
        (f"{HOST}:443", (), "optional", HOST),
        ("API.OPENAI.COM.:443", (), "optional", HOST),
        (f"{HOST}:443", (BASIC,), "required", HOST),
        (f"{HOST}:443", (), "required", "identity_missing 407"),
        ("evil.test:443", (), "required", "host_not_allowed 403"),
        ("evil.test:443", (BASIC,), "optional", "host_not_allowed 403"),
        (f"{HOST}:22", (), "optional", "port_not_allowed 403"),
        ("", (), "optional", "host_not_allowed 403"),
        (f"{HOST}:443", (BASIC, BASIC), "optional", "bad_request 400"),
        (f"{HOST}:443", (("host", HOST), ("host", HOST)), "optional", "bad_request 400"),
    ],
)
def test_connect(
    make: Make,
    tmp_path: Path,
    target: str,
    headers: tuple[tuple[str, str], ...],
    auth: Literal["optional", "required"],
    verdict: str,
) -> None:
    """A host and no line, or a denial and a line that says the same."""
    data = ConnectRequest(target, headers, "127.0.0.1")
    make(auth).connect(data)
    if data.denial is None:
        assert (data.host, lines(tmp_path)) == (verdict, [])
        return
    assert (data.host, f"{data.denial.code} {data.denial.status}") == (None, verdict)
    [line] = lines(tmp_path)
    assert (line["reason"], line["status"], line["call_id"]) == (
        data.denial.code,
        data.denial.status,
        data.call_id,
    )
    assert (line["host"], line["gate"], line["method"]) == (target, "tunnel", "CONNECT")
    if data.denial.status == 407:
        assert ("proxy-authenticate", 'Basic realm="tollhouse"') in data.denial.headers


@pytest.mark.parametrize(
    "target", ["x" * 10_000, "a\r\nb", "\x00", "é", f"{mint(bytes(32))}@{HOST}:443"]
)
def test_what_is_written_of_a_target(make: Make, tmp_path: Path, target: str) -> None:
    """Cut, escaped, and without a token."""
    make().connect(ConnectRequest(target, (), "127.0.0.1"))
    [line] = lines(tmp_path)
    assert line["host"].isprintable()
    assert line["host"].isascii()
    assert len(line["host"]) <= 300
    assert mint(bytes(32)) not in line["host"]


@pytest.mark.parametrize(
    ("listener", "connect", "sni", "made"),
    [
        ("proxy", HOST, HOST, [HOST]),
        ("proxy", HOST, "API.OPENAI.COM.", [HOST]),
        ("proxy", HOST, "us.api.openai.com", []),
        ("proxy", HOST, None, []),
        ("transparent", None, "us.api.openai.com", ["us.api.openai.com"]),
        ("transparent", None, "evil.test", []),
        ("transparent", None, None, []),
        ("proxy", None, HOST, []),
        ("base_url", None, HOST, []),
        ("proxy", "api.anthropic.com", "api.anthropic.com", []),
    ],
)
def test_handshake(
    make: Make,
    leaves: Leaves,
    listener: ListenerKind,
    connect: str | None,
    sni: str | None,
    made: list[str],
) -> None:
    """A certificate is made for the provider's host that was asked for, and for nothing else."""
    request = (
        None if connect is None else ConnectRequest(f"{connect}:443", (), "127.0.0.1", host=connect)
    )
    context = make().context(listener, request, sni)
    assert leaves.made == made
    assert (context is not None) == bool(made)


def test_a_listener_of_our_own(make: Make, leaves: Leaves) -> None:
    """A listener that speaks TLS itself has its own certificate, whatever the SNI."""
    own = server_context(())
    assert make(base_url=own).context("base_url", None, "evil.test") is own
    assert leaves.made == []


@pytest.mark.parametrize(
    ("sni", "host"), [("evil.test", "evil.test"), (None, HOST), ("x\r\ny", "x\\r\\ny")]
)
def test_a_refused_handshake_is_written_down(
    make: Make, tmp_path: Path, sni: str | None, host: str
) -> None:
    """One line, with the name that was asked for, else the tunnel's."""
    make().tls_refused(models_head(sni=sni), "it names no host")
    [line] = lines(tmp_path)
    assert (line["reason"], line["status"], line["host"], line["decision"]) == (
        "tls_refused",
        403,
        host,
        "deny",
    )
