"""The stand-in provider: speaks TLS as api.openai.com on a free loopback port and writes down every byte it is sent.

`tollhouse demo` shows its book, the tests assert on it, and it runs alone as
``python -m tollhouse.demo.standin --port P --state DIR``. It believes nothing: a request without one of its keys gets
OpenAI's 401.

Past 400 lines because its server, its thread and its command stand together: tests and the demo start the same thing.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import click
from aiohttp import web

from tollhouse.demo import standin_sockets
from tollhouse.demo.standin_book import Outcome, Received
from tollhouse.demo.standin_files import Files
from tollhouse.demo.standin_routes import judge
from tollhouse.demo.standin_script import Behaviour
from tollhouse.demo.standin_tls import Certificate, make_server_tls


class StandIn:
    """The provider, in a thread with a loop of its own, or awaited inside the caller's.

    All that a test touches is safe from any thread: the book is appended to and read under one lock.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        hosts: Sequence[str] = (
            *("api.openai.com", "*.api.openai.com", "api.anthropic.com"),
            "generativelanguage.googleapis.com",
        ),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = True,
        certificate: Certificate = "good",
        clients: bytes = b"",
        book_file: Path | None = None,
    ) -> None:
        """``clients`` are the certificates (PEM) of which a client has to show one."""
        self.key = key or f"sk-standin-{secrets.token_urlsafe(32)}"
        self.keys: set[str] = {self.key}
        self.host, self.port = host, port
        self.book: list[Received] = []
        self.dialled = 0
        """TCP connections accepted, whether or not a handshake or a request followed."""
        self._tls = make_server_tls(hosts, certificate) if tls else None
        if self._tls is not None and clients:
            self._tls.context.verify_mode = ssl.CERT_REQUIRED
            self._tls.context.load_verify_locations(cadata=clients.decode())
        self._names: dict[int, str] = {}
        self._script: deque[Behaviour] = deque()
        self._always = Behaviour()
        self._files = Files()
        self._changed = threading.Condition()
        self._book_file = book_file
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._connections: dict[int, int] = {}
        self._stopping = False

    # What a test says and asks.

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def ca_pem(self) -> bytes:
        """PEM of the CA to trust; empty without TLS."""
        return self._tls.ca_pem if self._tls else b""

    def write_ca(self, path: Path) -> Path:
        path.write_bytes(self.ca_pem)
        return path

    def script(self, *behaviours: Behaviour) -> None:
        """Queue behaviours: each of the next requests takes one, in order of arrival."""
        with self._changed:
            self._script.extend(behaviours)

    def always(self, behaviour: Behaviour) -> None:
        """What is done with a request when the queue is empty."""
        with self._changed:
            self._always = behaviour

    def wait_for(self, condition: Callable[[list[Received]], bool], timeout: float = 10.0) -> bool:
        """Whether ``condition`` of the book came true within ``timeout`` seconds; asked at each change."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.book), timeout)

    def wait_count(self, count: int, timeout: float = 10.0) -> list[Received]:
        """The book once it has at least ``count`` requests whose bodies are complete; raises ``TimeoutError``."""
        if not self.wait_for(lambda book: sum(one.complete for one in book) >= count, timeout):
            raise TimeoutError(
                f"the stand-in received {len(self.book)} requests, not {count}, within {timeout} s"
            )
        return self.snapshot()

    def snapshot(self) -> list[Received]:
        with self._changed:
            return list(self.book)

    def clear(self) -> None:
        """Forget the book, the files and what is queued; request numbers begin again."""
        self._files.clear()
        with self._changed:
            self.book.clear()
            self._script.clear()
            self._always = Behaviour()
            self.dialled = 0

    # Running.

    def start(self) -> Self:
        """Listen, in a thread; returns when the port is known."""
        ready = threading.Event()
        failure: list[BaseException] = []

        def run() -> None:
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self.listen())
            except BaseException as error:
                failure.append(error)
                loop.close()
                return
            finally:
                ready.set()
            loop.run_forever()
            loop.run_until_complete(self.close())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

        self._thread = threading.Thread(target=run, name="stand-in", daemon=True)
        self._thread.start()
        ready.wait()
        if failure:
            raise failure[0]
        return self

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Break what is open, stop listening, end the thread."""
        if self._thread and self._loop and self.running:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def listen(self) -> None:
        """Listen on the running loop; `close` ends it."""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._server = web.Server(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=1 << 17,
            max_field_size=1 << 17,
            lingering_time=0,
        )
        context = self._tls.context if self._tls else None
        if context is not None:
            context.sni_callback = self._server_name
        self._listener = await self._loop.create_server(
            self._accepted, self.host, self.port, ssl=context
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            await self._server.shutdown(0.1)

    # One connection, one request.

    def _accepted(self) -> asyncio.Protocol:
        with self._changed:
            self.dialled += 1
            self._changed.notify_all()
        assert self._server is not None
        protocol = self._server()
        self._connections[id(protocol)] = self.dialled
        return protocol

    def _server_name(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._names[id(connection)] = name or ""

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        received, behaviour = self._write_down(request)
        try:
            if request.headers.get("expect", "").lower() == "100-continue" and request.transport:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await self.take_body(request, received)
            with self._changed:
                received.body, received.complete = body, True
                self._changed.notify_all()
            if request.headers.get("upgrade", "").lower() == "websocket" and not (
                behaviour.raw is not None or behaviour.reply is not None
            ):
                return await self._converse(request, received, behaviour)
            return await self._act(request, received, behaviour)
        except (asyncio.CancelledError, ConnectionError):
            self._end(received, "stopped" if self._stopping else "client_gone")
            raise
        finally:
            self._end(received, "answered" if received.status < 400 else "refused")

    def _write_down(self, request: web.BaseRequest) -> tuple[Received, Behaviour]:
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport else None
        received = Received(
            number=0,
            method=request.method,
            target=request.raw_path,
            headers=list(request.raw_headers),
            sni=self._names.get(id(tls)) or None,
            connection=self._connections.get(id(request.protocol), 0),
            at=time.time(),
            shown=_common_name(tls),
        )
        with self._changed:
            self.book.append(received)
            received.number = len(self.book)
            self._changed.notify_all()
            return received, self.behaviour(request)

    async def take_body(self, request: web.BaseRequest, received: Received) -> bytes:
        """What the book keeps of the body. A stand-in of another kind may keep less."""
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
        return bytes(body)

    def behaviour(self, request: web.BaseRequest) -> Behaviour:
        """How ``request`` is answered: as the script says next, or as always. A stand-in of another kind may judge by the
        request."""
        return self._script.popleft() if self._script else self._always

    def _end(self, received: Received, outcome: Outcome) -> None:
        """The first outcome stays."""
        with self._changed:
            if received.outcome != "open":
                return
            received.outcome = outcome
            self._changed.notify_all()
            if self._book_file is not None:
                with self._book_file.open("a") as book:
                    book.write(received.as_json() + "\n")

    async def _act(
        self, request: web.BaseRequest, received: Received, behaviour: Behaviour
    ) -> web.StreamResponse:
        if behaviour.wait is not None:
            await behaviour.wait.passed()
        if behaviour.cut_after == -1:
            return self._break(request, received, behaviour)
        if behaviour.raw is not None:
            if request.transport is not None:
                request.transport.write(behaviour.raw)
                request.transport.close()
            self._end(received, "cut")
            return web.StreamResponse()
        status, headers, pieces = judge(received, behaviour, self.keys, self._files)
        received.status = status
        response = web.StreamResponse(status=status)
        for name, value in [*headers, *behaviour.headers]:
            response.headers.add(name, value)
        return await self._send(request, response, received, behaviour, pieces)

    async def _converse(
        self, request: web.BaseRequest, received: Received, behaviour: Behaviour
    ) -> web.StreamResponse:
        """A WebSocket: its messages are in the book, and so is what was told of its usage."""
        if behaviour.wait is not None:
            await behaviour.wait.passed()

        def changed() -> None:
            with self._changed:
                self._changed.notify_all()

        talk = standin_sockets.SocketTalk(received, behaviour, changed)
        if (refused := talk.refused(self.keys)) is not None:
            status, headers, pieces = judge(
                received, Behaviour(reply=refused), self.keys, self._files
            )
            received.status = status
            response = web.StreamResponse(status=status, headers=dict(headers))
            return await self._send(request, response, received, Behaviour(), pieces)
        received.status = 101
        response = await talk.run(request)
        if talk.cut:
            return self._break(request, received, behaviour, response)
        return response

    async def _send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        received: Received,
        behaviour: Behaviour,
        pieces: Iterable[bytes],
    ) -> web.StreamResponse:
        """Write the body piece by piece, each as one chunk; break off where the behaviour says so."""
        if "content-length" not in response.headers:
            response.enable_chunked_encoding()
        await response.prepare(request)
        for number, piece in enumerate(pieces):
            await behaviour.passed(number, piece)
            if number == behaviour.cut_after:
                if "content-length" in response.headers:
                    await response.write(piece[: len(piece) // 2])
                return self._break(request, received, behaviour, response)
            with self._changed:
                received.sent.append(time.monotonic())
                self._changed.notify_all()
            await response.write(piece)
        await response.write_eof()
        return response

    def _break(
        self,
        request: web.BaseRequest,
        received: Received,
        behaviour: Behaviour,
        response: web.StreamResponse | None = None,
    ) -> web.StreamResponse:
        self._end(received, "cut")
        transport = request.transport
        if transport is not None and behaviour.cut == "reset":
            connection = transport.get_extra_info("socket")
            # l_onoff = 1, l_linger = 0: close() sends RST (socket(7)).
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif transport is not None:
            transport.close()
        return response or web.StreamResponse()


def _common_name(tls: ssl.SSLObject | None) -> str:
    shown: Any = (tls.getpeercert() if tls is not None else None) or {}
    names = [pair for one in shown.get("subject", ()) for pair in one]
    return next((value for key, value in names if key == "commonName"), "")


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=int, default=0, help="0 is any free port.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where ca.pem, key (the key it accepts; made if missing) and book.jsonl are.",
)
@click.option("--plain", is_flag=True, help="Speak http.")
def main(host: str, port: int, state: Path, plain: bool) -> None:
    """Run the stand-in provider until SIGINT or SIGTERM; prints `standin: ready HOST:PORT` on stdout."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_file = state / "key"
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_text(f"sk-standin-{secrets.token_urlsafe(32)}\n")
    standin = StandIn(
        key=key_file.read_text().strip(),
        host=host,
        port=port,
        tls=not plain,
        book_file=state / "book.jsonl",
    )
    standin.write_ca(state / "ca.pem")

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await standin.listen()
        click.echo(f"standin: ready {standin.address}")
        await stop.wait()
        # What is open ends here, and is in the book.
        await standin.close()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
