"""mitmproxy's layers behind a `ClientConnection`: plain bytes to them, and theirs back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from tollhouse.listen.client_connection import ClientConnection
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.mitm.handler import GateMaster, TollhouseConnectionHandler


class Beyond:
    """`shared.Spoken` by mitmproxy: HTTP/2, or HTTP/1 where the configuration says so."""

    def __init__(
        self,
        connection: ClientConnection,
        master: GateMaster,
        *,
        secure: bool,
        sni: str | None,
        connect: ConnectRequest | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        self._protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = _Above(connection)
        self._protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, self._protocol, reader, loop)
        self.handler = TollhouseConnectionHandler(
            reader,
            writer,
            kind=connection.listener,
            master=master,
            bounds=connection.bounds,
            connect=connect,
            client_certificate=connection.client_certificate,
            occupant=connection.occupant,
            clock=clock,
        )
        client = self.handler.client
        client.tls, client.sni = secure, sni
        client.alpn = connection.alpn.encode() if connection.alpn is not None else None
        client.timestamp_tls_setup = time.time() if secure else None
        self._connection = connection
        self._lost = False
        if connection.retiring:
            self.retire()
        connection.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self.handler.handle_client()
        finally:
            self._connection.close()

    def receive(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def receive_end(self) -> None:
        self._protocol.eof_received()

    def lose(self, why: str) -> None:
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(None)

    def overdue(self, now: float) -> bool:
        return self.handler.overdue(now)

    def retire(self) -> None:
        self.handler.retire(self._connection.leaves_by)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class _Above(asyncio.Transport):
    """A connection as a transport."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._connection.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self._connection.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._connection.linger()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._connection.end()

    def is_closing(self) -> bool:
        return self._connection.closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        # A UNIX socket without a name has an empty one, which mitmproxy does not know.
        return self._connection.about(name, default) or default

    def get_write_buffer_size(self) -> int:
        return self._connection.unsent()

    def pause_reading(self) -> None:
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        self._connection.resume_reading()
