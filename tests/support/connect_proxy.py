"""A corporate proxy of the tests' own: CONNECT alone, over plain TCP or TLS, with or without a password."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Mapping
from typing import Self

from tollhouse.demo.standin_tls import make_server_tls


class ConnectProxy:
    """``names`` is its DNS: where a tunnel to a name leads. ``login`` is the user's name and the password that it wants.
    ``answer`` replaces its answer to each CONNECT; b"" is silence."""

    def __init__(
        self,
        names: Mapping[str, tuple[str, int]],
        *,
        tls: bool = False,
        login: tuple[str, str] | None = None,
        answer: bytes | None = None,
    ) -> None:
        self.names = dict(names)
        self.login = login
        self.answer = answer
        self.asked: list[str] = []
        """The heads of CONNECTs, as they came."""
        self.port = 0
        self._tls = make_server_tls(("localhost",)) if tls else None
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://localhost:{self.port}"

    @property
    def ca_pem(self) -> bytes:
        return b"" if self._tls is None else self._tls.ca_pem

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        context: ssl.SSLContext | None = None if self._tls is None else self._tls.context
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        if self.answer is not None:
            writer.write(self.answer)
            await reader.read()
            return
        if self.login is not None:
            wanted = base64.b64encode(":".join(self.login).encode()).decode()
            if f"Proxy-Authorization: Basic {wanted}\r\n" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
        there = self.names.get(head.split()[1])
        if there is None:
            writer.write(b"HTTP/1.1 502 No such host\r\n\r\n")
            return
        far_reader, far_writer = await asyncio.open_connection(*there)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    target.close()
