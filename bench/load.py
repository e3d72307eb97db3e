"""The load: raw HTTP/1.1, so that the client costs little and sends each byte on purpose.

A call goes through a CONNECT tunnel (`Proxy`), or to a gateway's own address without TLS (`BaseUrl`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

HOST = "api.openai.com"
_SYSTEM = "You are a helpful assistant of a company that builds bridges and roads."
_QUESTION = "Say in a few words why a toll is paid before the road and not after it."


_ENDS = (b"data: [DONE]", b'"message_stop"')
"""Of a stream of OpenAI, and of Anthropic."""


class CallRefused(RuntimeError):
    """The answer's status is not 200. ``status`` is its first line."""

    def __init__(self, status: str, answer: bytes) -> None:
        super().__init__(f"the call was refused: {status} {answer!r}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """What is called, and with what. The defaults are those of OpenAI's own address."""

    host: str = HOST
    path: str = "/v1/chat/completions"
    key: str = "unused"
    headers: tuple[str, ...] = ()
    """Lines beside those of OpenAI's SDK."""
    model: str = "gpt-4o"
    fields: Mapping[str, object] = field(default_factory=dict)
    """Of the body, beside what every call has."""
    anthropic: bool = False
    """The body is that of Anthropic's Messages."""

    def body(self, *, stream: bool, cap: int = 256, question: str = _QUESTION) -> bytes:
        """``cap`` is the most tokens that the answer may have."""
        system = {"role": "system", "content": _SYSTEM}
        user = {"role": "user", "content": question}
        document: dict[str, object] = {"model": self.model}
        if self.anthropic:
            document |= {"system": _SYSTEM, "messages": [user], "max_tokens": cap}
        else:
            document |= {"messages": [system, user], "max_completion_tokens": cap}
        document |= self.fields
        if stream:
            document["stream"] = True
        return json.dumps(document, separators=(",", ":")).encode()

    def head(self, length: int) -> bytes:
        more = "".join(f"{line}\r\n" for line in self.headers)
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}\r\nAccept: application/json\r\n"
            "Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.54.0\r\nX-Stainless-Lang: python\r\n"
            "X-Stainless-Package-Version: 3.54.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n"
            f"X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.0\r\nAuthorization: Bearer {self.key}\r\n"
            f"X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\n{more}Content-Length: {length}\r\n\r\n"
        ).encode()


OPENAI = Api()


def body(*, stream: bool) -> bytes:
    return OPENAI.body(stream=stream)


@dataclass(frozen=True)
class Proxy:
    """Where the proxy is and what is shown to it."""

    port: int
    authorization: str = ""
    api: Api = OPENAI

    @classmethod
    def basic(cls, port: int, user: str, password: str) -> Proxy:
        return cls(port, "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())

    async def connect(
        self, tls: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        authorization = (
            f"Proxy-Authorization: {self.authorization}\r\n" if self.authorization else ""
        )
        writer.write(
            f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise RuntimeError(f"CONNECT was refused: {answer!r}")
        await writer.start_tls(tls, server_hostname=HOST)
        return reader, writer


@dataclass(frozen=True)
class BaseUrl:
    """A gateway that is itself the address, as ``OPENAI_BASE_URL`` names it. Plain HTTP."""

    port: int
    api: Api

    async def connect(
        self, tls: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """``tls`` is not used."""
        return await asyncio.open_connection("127.0.0.1", self.port)


Way = Proxy | BaseUrl


class Tunnel:
    """One client connection, by whichever way."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, api: Api = OPENAI
    ) -> None:
        self._reader, self._writer, self.api = reader, writer, api

    @classmethod
    async def open(cls, way: Way, tls: ssl.SSLContext) -> Tunnel:
        return cls(*await way.connect(tls), way.api)

    @property
    def port(self) -> int:
        """The client's own, by which the connection is known at the other side as well."""
        return int(self._writer.get_extra_info("sockname")[1])

    async def call(self, payload: bytes) -> int:
        """The length of the answer's body. Raises RuntimeError for anything but 200, and for a stream that is cut."""
        length = await self.begin(payload)
        if length is not None:
            return len(await self._reader.readexactly(length))
        total, last = 0, b""
        while chunk := await self.chunk():
            total += len(chunk)
            last = (last + chunk)[-64:]
        if b'"stream":true' in payload and not any(end in last for end in _ENDS):
            raise RuntimeError(f"the stream was cut after {total} bytes: {last!r}")
        return total

    async def begin(self, payload: bytes) -> int | None:
        """Sends the request and reads the answer's head. The length of the answer's body, None if it comes in chunks."""
        self._writer.write(self.api.head(len(payload)) + payload)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            status = answer.split(b"\r\n")[0].decode("latin-1")
            raise CallRefused(status, answer + await self._reader.read(2000))
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


async def open_many(way: Way, count: int, at_once: int = 16) -> list[Tunnel]:
    tls, free = tls_context(), asyncio.Semaphore(at_once)

    async def one() -> Tunnel:
        async with free:
            return await Tunnel.open(way, tls)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def open_direct(port: int, tls: ssl.SSLContext) -> Tunnel:
    """To the provider, through no proxy."""
    return Tunnel(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=HOST))


async def calls(way: Way, count: int, *, stream: bool, connections: int = 8) -> None:
    """``count`` calls over kept connections, ``connections`` at a time."""
    payload, tls = way.api.body(stream=stream), tls_context()

    async def some(number: int) -> None:
        tunnel = await Tunnel.open(way, tls)
        for _ in range(number):
            await tunnel.call(payload)
        tunnel.close()

    shares = [len(range(first, count, connections)) for first in range(connections)]
    await asyncio.gather(*map(some, filter(None, shares)))


async def saturate(tunnels: list[Tunnel], seconds: float) -> tuple[float, dict[int, int]]:
    """Each connection makes one call after the other. Calls a second, and how many each made, by the client's port."""
    payload = tunnels[0].api.body(stream=False)
    made = dict.fromkeys((one.port for one in tunnels), 0)
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
