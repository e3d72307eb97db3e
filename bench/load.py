"""The load: raw HTTP/1.1 through a CONNECT tunnel, so that the client costs little and sends each byte on purpose."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import time
from dataclasses import dataclass

HOST = "api.openai.com"
_MESSAGES = [
    {
        "role": "system",
        "content": "You are a helpful assistant of a company that builds bridges and roads.",
    },
    {
        "role": "user",
        "content": "Say in a few words why a toll is paid before the road and not after it.",
    },
]


def body(*, stream: bool) -> bytes:
    document: dict[str, object] = {
        "model": "gpt-4o",
        "messages": _MESSAGES,
        "max_completion_tokens": 256,
    }
    if stream:
        document["stream"] = True
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Proxy:
    """Where the proxy is and what is shown to it."""

    port: int
    authorization: str = ""

    @classmethod
    def basic(cls, port: int, user: str, password: str) -> Proxy:
        return cls(port, "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


class Tunnel:
    """One client connection to the provider through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, proxy: Proxy, tls: ssl.SSLContext) -> Tunnel:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        authorization = (
            f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        )
        writer.write(
            f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise RuntimeError(f"CONNECT was refused: {answer!r}")
        await writer.start_tls(tls, server_hostname=HOST)
        return cls(reader, writer)

    @property
    def port(self) -> int:
        """The client's own, by which the connection is known at the other side as well."""
        return int(self._writer.get_extra_info("sockname")[1])

    async def call(self, payload: bytes) -> int:
        """The length of the answer's body. Raises RuntimeError for anything but 200."""
        length = await self.begin(payload)
        if length is not None:
            return len(await self._reader.readexactly(length))
        total = 0
        while chunk := await self.chunk():
            total += len(chunk)
        return total

    async def begin(self, payload: bytes) -> int | None:
        """Sends the request and reads the answer's head. The length of the answer's body, None if it comes in chunks."""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n"
            "Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.54.0\r\nX-Stainless-Lang: python\r\n"
            "X-Stainless-Package-Version: 3.54.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n"
            "X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.0\r\nAuthorization: Bearer unused\r\n"
            f"X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        self._writer.write(head.encode() + payload)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(
                f"the call was refused: {answer!r} {await self._reader.read(2000)!r}"
            )
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", answer)
        return None if length is None else int(length[1])

    async def chunk(self) -> bytes:
        """The next chunk of an answer that has no length; empty at its end."""
        size = int(await self._reader.readline(), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    def close(self) -> None:
        self._writer.transport.abort()


def tls_context() -> ssl.SSLContext:
    """No verification: the clients' cost is not what is measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def open_many(proxy: Proxy, count: int, at_once: int = 16) -> list[Tunnel]:
    tls, free = tls_context(), asyncio.Semaphore(at_once)

    async def one() -> Tunnel:
        async with free:
            return await Tunnel.open(proxy, tls)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def open_direct(port: int, tls: ssl.SSLContext) -> Tunnel:
    """To the provider, through no proxy."""
    return Tunnel(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=HOST))


async def calls(proxy: Proxy, count: int, *, stream: bool, connections: int = 8) -> None:
    """``count`` calls over kept tunnels, ``connections`` at a time."""
    payload, tls = body(stream=stream), tls_context()

    async def some(number: int) -> None:
        tunnel = await Tunnel.open(proxy, tls)
        for _ in range(number):
            await tunnel.call(payload)
        tunnel.close()

    shares = [len(range(first, count, connections)) for first in range(connections)]
    await asyncio.gather(*map(some, filter(None, shares)))


async def saturate(tunnels: list[Tunnel], seconds: float) -> tuple[float, dict[int, int]]:
    """Each connection makes one call after the other. Calls a second, and how many each made, by the client's port."""
    payload, made = body(stream=False), dict.fromkeys((one.port for one in tunnels), 0)
    began = time.perf_counter()

    async def one(tunnel: Tunnel) -> None:
        while time.perf_counter() - began < seconds:
            await tunnel.call(payload)
            made[tunnel.port] += 1

    await asyncio.gather(*map(one, tunnels))
    return sum(made.values()) / (time.perf_counter() - began), made


async def fresh(proxy: Proxy, count: int) -> None:
    """``count`` calls, each on a client connection of its own: CONNECT, TLS, one call."""
    payload, tls = body(stream=False), tls_context()
    for _ in range(count):
        tunnel = await Tunnel.open(proxy, tls)
        await tunnel.call(payload)
        tunnel.close()
