"""One client connection, and the addons that it asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import all_hooks
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.server import LiveConnectionHandler

from tollhouse.call import ListenerKind
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm.hooks import Bounds, TollhouseCallHook
from tollhouse.listen.mitm.http1 import StrictHttp1Server
from tollhouse.listen.mitm.layer import HttpSide, TopLayer

log = logging.getLogger(__name__)

_READ_AHEAD = 1024 * 1024
"""Bytes of a request's body that are kept for an owner who has not read them yet (HTTP/1: the socket is not read on)."""
_LINGER_S = 2.0
"""How long a refused client's bytes are read on after our last: a close with bytes unread is a reset, which can overtake
the answer."""
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
        tls: bool,
        master: GateMaster,
        bounds: Bounds,
    ) -> None:
        super().__init__(reader, writer, master.options, _MODE)
        self.kind: ListenerKind = kind
        self.tls = tls
        self.addons = master.addons
        self.bounds = bounds
        self.exchanges: set[Exchange] = set()
        self.http: HttpSide | None = None
        """The layer that speaks HTTP at the moment; None while a tunnel's TLS is being set up."""
        self.last_active = time.monotonic()
        self.lingering_since: float | None = None
        """`time.monotonic()` when our side was closed and the client's left open."""
        self._hooks = master.hooks
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer = writer
        self.layer = TopLayer(self.layer.context, self)

    async def handle_client(self) -> None:
        try:
            await super().handle_client()
        finally:
            for exchange in tuple(self.exchanges):
                exchange.lose("the connection ended")

    async def server_event(self, event: events.Event) -> None:
        self.process(event)

    def process(self, *given: events.Event) -> None:
        """Give events to the layers and do what they ask; what goes to the client is one write. Never awaits, so the layers
        are never entered twice."""
        self.last_active = time.monotonic()
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
                        raise RuntimeError(f"a layer asked for {type(command).__name__}, which is never done here")
        except Exception:
            log.exception("a connection's layers failed; it is closed")
            self.close()
        self._write(out)
        for hook in hooks:
            task = asyncio.get_running_loop().create_task(self.hook_task(hook))
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
            # mitmproxy logs what a hook raises and goes on: an exchange that is not finished then is cut here.
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

    def overdue(self, now: float) -> bool:
        """Whether this connection has taken too long over a request's head, a handshake, or over sending nothing at all."""
        if self.lingering_since is not None:
            return now - self.lingering_since > _LINGER_S
        if any(not e.finished for e in self.exchanges):
            return False
        http_side = self.http.http if self.http is not None else None
        since = http_side.head_since if isinstance(http_side, StrictHttp1Server) else None
        limit = self.bounds.request_timeout_s
        if since is not None:
            return now - since > limit
        handshaking = self.http is None or (self.client.tls and self.client.timestamp_tls_setup is None)
        return now - self.last_active > (limit if handshaking else 10 * limit)

    def _linger(self) -> None:
        if self.lingering_since is None and self.client in self.transports:
            self.lingering_since = self.last_active
            self.close_connection(self.client, half_close=True)

    def close(self) -> None:
        if self.client in self.transports:
            self.close_connection(self.client)


class GateMaster:
    """mitmproxy's `Master`, less what importing that brings: all of mitmproxy's addons, 16 MB. It has options and an addon
    manager, and our addons need no commands."""

    def __init__(self, addons: Sequence[object]) -> None:
        self.options = layer_options()
        self.commands = self
        self.addons = AddonManager(self)
        self.addons.add(*addons)
        self.hooks = frozenset(name for name in all_hooks if any(hasattr(addon, name) for addon in addons))

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
