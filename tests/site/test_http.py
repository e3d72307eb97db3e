"""The admin listener: liveness, readiness with reasons, and whose Host it answers to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tollhouse.config.load import Address
from tollhouse.site.http import AdminSite, Looks, host_named


async def one_metric() -> tuple[str, bytes]:
    return "text/plain", b"a 1\n"


@asynccontextmanager
async def site(
    status: Callable[[], list[str]] = list,
    hosts: tuple[str, ...] = ("localhost", "ops.internal"),
    bind: str = "127.0.0.1",
    metrics: Callable[[], Awaitable[tuple[str, bytes]]] = one_metric,
) -> AsyncIterator[int]:
    """A running site; its port."""
    looks = Looks(open_metrics=True)
    admin = AdminSite(Address(bind, 0), hosts, status, metrics, looks=looks)
    _, port = await admin.start()
    try:
        yield port
    finally:
        await admin.close()


async def ask(port: int, request: str) -> tuple[int, dict[str, str], Any]:
    """Send raw bytes, read to the end: status, headers, JSON body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.replace("\n", "\r\n").encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    lines = head.split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    return (
        int(lines[0].split()[1]),
        headers,
        json.loads(body) if "json" in headers.get("content-type", "") and body else None,
    )


def get(path: str, host: str = "localhost") -> str:
    return f"GET {path} HTTP/1.1\nHost: {host}\nConnection: close\n\n"


async def test_alive_while_not_ready() -> None:
    """/livez is 200 whatever the status says; it says nothing of the software below."""
    async with site(lambda: ["Redis is away"]) as port:
        status, headers, body = await ask(port, get("/livez"))
    assert (status, body, headers["server"], headers["cache-control"]) == (
        200,
        {"live": True},
        "tollhouse",
        "no-store",
    )


async def test_ready_with_warnings() -> None:
    """They stand beside it, and nothing does when there is none; a reason against it comes first."""
    for status, told, answer in (
        ([], ["Redis is away"], (200, {"ready": True, "warnings": ["Redis is away"]})),
        ([], [], (200, {"ready": True})),
        (["stopping"], ["Redis is away"], (503, {"ready": False, "reasons": ["stopping"]})),
    ):
        admin = AdminSite(
            Address("127.0.0.1", 0), (), lambda s=status: s, lambda: ("", b""), lambda t=told: t
        )  # type: ignore[misc]
        _, port = await admin.start()
        found, _, body = await ask(port, get("/readyz", "127.0.0.1"))
        await admin.close()
        assert (found, body) == answer


async def test_metrics_that_can_not_be_told(caplog: pytest.LogCaptureFixture) -> None:
    """500 and a sentence; what it is stands in the log alone."""

    async def broken() -> tuple[str, bytes]:
        raise RuntimeError("at a path")

    async with site(metrics=broken) as port:
        status, _, body = await ask(port, get("/metrics"))
    assert status == 500
    assert "log says why" in body["error"]
    assert "at a path" not in str(body)
    assert "at a path" in caplog.text


async def test_ready() -> None:
    """/readyz is 200 only when no reason speaks against it."""
    async with site() as port:
        assert (await ask(port, get("/readyz")))[::2] == (200, {"ready": True})


async def test_not_ready_says_why() -> None:
    """/readyz is 503 with every reason, and turns as soon as the status does."""
    reasons = ["the ledger cannot be reached", "starting"]
    async with site(lambda: reasons) as port:
        assert (await ask(port, get("/readyz")))[::2] == (
            503,
            {"ready": False, "reasons": list(reasons)},
        )
        reasons.clear()
        assert (await ask(port, get("/readyz")))[0] == 200


async def test_unknown_status_is_not_ready() -> None:
    """A status that raises is not ready, and its words are not shown."""

    def broken() -> list[str]:
        raise RuntimeError("redis://user:password@host")

    async with site(broken) as port:
        status, _, body = await ask(port, get("/readyz"))
    assert (status, body) == (503, {"ready": False, "reasons": ["status unknown: RuntimeError"]})


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9090", "localhost.", "ops.internal:80", "127.0.0.1", "127.0.0.1:9090"],
)
async def test_own_hosts_are_answered(host: str) -> None:
    """Names of the list and the address bound to, in any case, with and without port."""
    async with site() as port:
        assert (await ask(port, get("/readyz", host)))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "169.254.169.254",
        "[::1]",
        "a@localhost",
    ],
)
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/nothing"])
async def test_foreign_hosts_are_refused(host: str, path: str) -> None:
    """A page that DNS rebinding leads here learns nothing, not even which paths exist."""
    async with site() as port:
        status, _, body = await ask(port, get(path, host))
    assert status == 421
    assert "base_url_hosts" in body["error"]


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /livez HTTP/1.0\n\n",
        "GET /livez HTTP/1.1\nHost: localhost\nHost: evil\nConnection: close\n\n",
    ],
)
async def test_host_missing_or_double(request_text: str) -> None:
    """No Host, or two, is not one of ours."""
    async with site() as port:
        assert (await ask(port, request_text))[0] in (400, 421)


async def test_arrival_address_is_its_own_host() -> None:
    """Bound to every address, it answers to the one that a probe dialled (a kubelet names the pod's)."""
    async with site(bind="0.0.0.0", hosts=()) as port:
        assert (await ask(port, get("/livez", f"127.0.0.1:{port}")))[0] == 200
        assert (await ask(port, get("/livez", "10.0.0.1")))[0] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
async def test_get_only(method: str) -> None:
    """Nothing but GET, on any path."""
    async with site() as port:
        status, headers, _ = await ask(
            port, f"{method} /livez HTTP/1.1\nHost: localhost\nConnection: close\n\n"
        )
    assert (status, headers.get("allow")) == (405, "GET")


async def test_other_paths_are_unknown() -> None:
    """404 as JSON."""
    async with site() as port:
        status, _, told = await ask(port, get("/operations/token_create"))
        assert (status, "nothing at this path" in told["error"]) == (404, True)


async def test_port_in_use_is_an_os_error() -> None:
    """A second listener on the port is an `OSError` of the start."""
    async with site() as port:
        with pytest.raises(OSError, match="address already in use"):
            await AdminSite(Address("127.0.0.1", port), (), list, one_metric).start()


def test_host_named() -> None:
    """Brackets, port and final dot are taken off; what is no host gives None."""
    assert [host_named(h) for h in ("[::1]:80", "A.b.:1", "1.2.3.4")] == ["::1", "a.b", "1.2.3.4"]
    assert [host_named(h) for h in ("", "a b", "a:b", "u@h", "h/", "[", "a:123456", "x\x00")] == [
        None
    ] * 8
