"""One client connection, and the addons that it asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from mitmproxy.addonmanager import AddonManager
from mitmproxy.connection import ConnectionState
from mitmproxy.hooks import all_hooks
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.server import LiveConnectionHandler

from tollhouse.admit.connection_limits import Occupant
from tollhouse.call import ListenerKind
from tollhouse.listen import half_closed
from tollhouse.listen.doors import Bounds, ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm.hooks import TollhouseCallHook
from tollhouse.listen.mitm.http1 import StrictHttp1Server
from tollhouse.listen.mitm.http2 import BoundedHttp2Server
from tollhouse.listen.mitm.layer import CallLayer
from tollhouse.listen.mitm.wire import Reply

log = logging.getLogger(__name__)

_READ_AHEAD = 1024 * 1024
"""Bytes of an HTTP/1 request's body that are kept for an owner who has not read them yet; then the
socket is not read on."""
_LINGER_S = 2.0
"""How long a refused client's bytes are read on after the answer. A close with unread bytes is a
reset, and a reset can overtake the answer."""
_MODE = mode_specs.ProxyMode.parse("regular")


class TollhouseConnectionHandler(LiveConnectionHandler):
    """One client connection. Differs from mitmproxy's in that it never dials, runs hooks that nobody implements without
    making a task of each (57% of a bare request's time), and starts hook tasks only after the layers have been left, so
    that an answer given at once does not re-enter them."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        kind: ListenerKind,
        master: GateMaster,
        bounds: Bounds,
        connect: ConnectRequest | None = None,
        client_certificate: bytes | None = None,
        occupant: Occupant | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(reader, writer, master.options, _MODE)
        self.clock = clock
        self.kind: ListenerKind = kind
        self.client_certificate = client_certificate
        self.occupant = occupant
        self.addons = master.addons
        self.bounds = bounds
        self.exchanges: set[Exchange] = set()
        self.last_active = clock()
        """The last time at which a request was under way or a byte of an answer went out. Other
        bytes of the client do not count: with them it could keep an idle connection for ever."""
        self.lingering_since: float | None = None
        """When our direction was closed while the client's stayed open."""
        self._half_closed = self._retiring = self._told = False
        self._leaves_by = float("inf")
        self._hooks = master.hooks
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer = writer
        self.layer = self.http = CallLayer(self.layer.context, self, connect)

    async def handle_client(self) -> None:
        try:
            await super().handle_client()
        finally:
            for exchange in tuple(self.exchanges):
                exchange.lose("the connection ended")

    async def server_event(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionClosed):
            if self._left():
                self.client.state = ConnectionState.CLOSED
            elif not self._half_closed:
                self._half_closed = True
                half_closed.watch(self._writer.get_extra_info("socket"))
                self.run(self._until_lost())
        self.process(event)

    def _left(self) -> bool:
        """Whether the client has ended both directions."""
        return self._writer.is_closing() or half_closed.left(self._writer.get_extra_info("socket"))

    async def _until_lost(self) -> None:
        try:
            await self._writer.wait_closed()
        except OSError:
            pass  # A reset is an end like any other.
        self.close()

    def process(self, *given: events.Event) -> None:
        """Gives events to the layers and does what they ask. The bytes for the client are one
        write. It never awaits, so the layers are never entered twice."""
        if self.exchanges or any(isinstance(event, Reply) for event in given):
            self.last_active = self.clock()
        queue: deque[events.Event] = deque(given)
        hooks: list[commands.StartHook] = []
        out: list[bytes] = []
        try:
            while queue:
                for command in self.layer.handle_event(queue.popleft()):
                    if isinstance(command, commands.SendData):
                        out.append(command.data)
                    elif isinstance(command, commands.StartHook):
                        if command.name in self._hooks:
                            hooks.append(command)
                        elif command.blocking:
                            queue.append(events.HookCompleted(command))
                    elif isinstance(command, commands.CloseConnection):
                        self._write(out)
                        if isinstance(command, commands.CloseTcpConnection) and command.half_close:
                            self._linger()
                        else:
                            self.close()
                    elif isinstance(command, commands.Log):
                        log.log(min(command.level, logging.INFO), "%s", command.message)
                    else:
                        raise RuntimeError(
                            f"a layer asked for {type(command).__name__}, which is never done here"
                        )
        except Exception:
            log.exception("a connection's layers failed; it is closed")
            self.close()
        self._write(out)
        if self._retiring:
            self._say_go_away()
        for hook in hooks:
            self.run(self.hook_task(hook))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` in a task of its own, which is kept until it has ended."""
        task = asyncio.get_running_loop().create_task(work)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _write(self, out: list[bytes]) -> None:
        if out and self.client in self.transports and not self._writer.is_closing():
            self._writer.write(b"".join(out) if len(out) > 1 else out[0])
        out.clear()

    async def handle_hook(self, hook: commands.StartHook) -> None:
        if hook.name not in self._hooks:
            return
        await self.addons.trigger_event(hook)
        if isinstance(hook, TollhouseCallHook):
            # mitmproxy logs the exception of a hook and goes on. If the exchange is not finished
            # then, it is cut here.
            exchange = hook.data
            exchange.abort()
            self.exchanges.discard(exchange)

    def send_buffer_size(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def drain_client(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            pass  # The reader's side sees the same loss and reports it.

    async def drain_writers(self) -> None:
        """Called after each read: the next one waits until the client takes answers and the owners take request bodies."""
        await self.drain_client()
        if self.client.alpn != b"h2":
            for exchange in tuple(self.exchanges):
                await exchange.room(_READ_AHEAD)

    def retire(self, leaves_by: float) -> None:
        """Another process takes the client's next requests. HTTP/2 has a frame for that, and the client closes the connection when
        it has read it. If the connection were closed here, a request that is on its way would meet a reset."""
        self._retiring, self._leaves_by = True, leaves_by
        if isinstance(self.http.http, StrictHttp1Server):
            self.http.http.retired = True
        self._say_go_away()

    def _say_go_away(self, *, now: bool = False) -> None:
        """Once, and between two requests: some clients (httpx) give up what is under way when they read it."""
        http_side = self.http.http
        if self._told or not isinstance(http_side, BoundedHttp2Server):
            return
        if now or http_side.rests:
            self._told = True
            self._write([http_side.go_away()])

    def overdue(self, now: float) -> bool:
        """Whether this connection has to be closed: it takes too long for a
        request's head or for a body that nobody wants any more, it is idle for too long, or its
        client is gone. Each time is bounded as a whole, and not only between two bytes."""
        if self.lingering_since is not None:
            return now - self.lingering_since > _LINGER_S
        if self._half_closed and self._left():
            return True
        limit = self.bounds.request_timeout_s
        if self.http.end_unread(now - limit):
            return True
        if self._retiring and now >= self._leaves_by:
            self._say_go_away(now=True)
        if any(not e.finished for e in self.exchanges):
            return False
        http_side = self.http.http
        since = http_side.head_since if isinstance(http_side, StrictHttp1Server) else None
        if since is not None:
            return now - since > limit
        return now - self.last_active > self.bounds.idle_connection_s

    def _linger(self) -> None:
        if self.lingering_since is None and self.client in self.transports:
            self.lingering_since = self.clock()
            self.close_connection(self.client, half_close=True)

    def close(self) -> None:
        if self.client in self.transports:
            self.close_connection(self.client)


class GateMaster:
    """Stands in for mitmproxy's ``Master``, whose import loads all of mitmproxy's addons (16 MB).
    It has options and an addon manager. Our addons need no commands."""

    def __init__(self, addons: Sequence[object]) -> None:
        self.options = layer_options()
        self.commands = self
        self.addons = AddonManager(self)
        self.hooks: frozenset[str] = frozenset()
        for addon in addons:
            self.take(addon)

    def take(self, addon: object) -> None:
        """An addon of ours, whose hooks the layers ask."""
        self.addons.add(addon)
        self.hooks |= {name for name in all_hooks if hasattr(addon, name)}

    def add(self, path: str, function: Callable[..., object]) -> None:
        """A command of an addon. Nobody can type one here, so it is not kept."""

    def collect_commands(self, addon: object) -> None:
        """Asked by the addon manager of each addon."""


def layer_options() -> Options:
    """mitmproxy's options as its layers read them."""
    options = Options()
    options.add_option("connection_strategy", str, "lazy", "")
    # Of HTTP/2; see `BoundedHttp2Server.handle_h2_event`. HTTP/1 is validated in `parse_http1`.
    options.add_option("validate_inbound_headers", bool, False, "")
    options.add_option("normalize_outbound_headers", bool, False, "")
    options.add_option("proxy_debug", bool, False, "")
    # The watchdog of mitmproxy only knows one number for all; `overdue` judges instead.
    options.update(tcp_timeout=10**7)
    return options
