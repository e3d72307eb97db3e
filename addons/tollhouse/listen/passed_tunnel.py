"""A tunnel that is passed on without interception: bytes both ways, counted, and one line at its end.

Of what is inside only the client's first message is read: the name in it must be the one of the CONNECT. What is asked of the
server behind that name nobody here can see.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol, cast

from tollhouse.admit.authority import normalise_host
from tollhouse.book import Book, Concluded
from tollhouse.budget.hold import scopes_for
from tollhouse.call import Arrival, Passed
from tollhouse.companions import PassableHost
from tollhouse.denial import Denial, Refused
from tollhouse.ledger.names import Scope
from tollhouse.listen.answer_head import ESTABLISHED, raw_refusal
from tollhouse.listen.client_hello import MAX_HELLO, BadHello, read_hello
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.tunnel import connect_head
from tollhouse.parties import Project

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 5.0
_JUDGED_WITHIN_S: Final = 30.0
"""How often it is asked whether the identity is still valid."""
_HIGH_WATER: Final = 256 * 1024


class Dials(Protocol):
    async def dial(
        self, host: str, entry: PassableHost, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport: ...


class Places(Protocol):
    """`budget.place.Place`."""

    async def take(self, call_id: str, scopes: tuple[Scope, ...], project: Project) -> None: ...
    async def leave(self, call_id: str) -> None: ...


class Near(Protocol):
    """The client's connection."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def linger(self) -> None: ...
    def end(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TunnelBounds:
    """How many tunnels there may be at one time, in all and of one token, how long one may say nothing, and how long it may
    be open. ``hello_s`` is for its first message."""

    most: int = 256
    of_token: int = 64
    idle_s: float = 300.0
    longest_s: float = 3600.0
    hello_s: float = 30.0


class PassedTunnels:
    """All such tunnels of a gateway."""

    def __init__(
        self,
        judge: Callable[[Arrival, str, PassableHost], Awaitable[Passed]],
        dialler: Dials,
        places: Places,
        book: Book,
        bounds: TunnelBounds,
        *,
        clock: Callable[[], float] = time.monotonic,
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> None:
        self.judge = judge
        self.dialler = dialler
        self.places = places
        self.book = book
        self.bounds = bounds
        self.clock = clock
        self.look_again_s = look_again_s
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, near: Near, asked: ConnectRequest, rest: bytes) -> PassedTunnel:
        """Judges and dials in a task of its own; ``rest`` came behind the CONNECT."""
        tunnel = PassedTunnel(self, near, asked, rest)
        task = asyncio.get_running_loop().create_task(tunnel.live())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return tunnel

    @property
    def count(self) -> int:
        return self._open.total()

    def enter(self, token_id: str) -> None:
        """Raises `Refused` when there are too many."""
        if self.count >= self.bounds.most or self._open[token_id] >= self.bounds.of_token:
            whose = "in all" if self.count >= self.bounds.most else "of this token"
            raise Refused(
                "too_many_connections",
                f"There are too many tunnels {whose}.",
                (("retry-after", "5"),),
            )
        self._open[token_id] += 1

    def leave(self, token_id: str) -> None:
        self._open[token_id] -= 1
        if not self._open[token_id]:
            del self._open[token_id]

    async def ended(self) -> None:
        """Until the line of each tunnel whose connection has ended is written."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


class _State(Enum):
    OPENING = auto()
    HELLO = auto()
    FLOWING = auto()
    OVER = auto()


class _Far(asyncio.Protocol):
    """The connection to the host."""

    def __init__(self, tunnel: PassedTunnel) -> None:
        self._tunnel = tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).set_write_buffer_limits(_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self._tunnel.came(data)

    def eof_received(self) -> bool:
        self._tunnel.far_ended()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._tunnel.far_ended()

    def pause_writing(self) -> None:
        self._tunnel.near.pause_reading()

    def resume_writing(self) -> None:
        self._tunnel.near.resume_reading()


class PassedTunnel:
    """One tunnel: `shared.Spoken`. It changes as it lives; nobody but its own methods changes it."""

    def __init__(
        self, every: PassedTunnels, near: Near, asked: ConnectRequest, rest: bytes
    ) -> None:
        self.near = near
        self._all = every
        self._asked = asked
        self._arrival = Arrival.begin(connect_head(asked))
        self._buffer = bytearray(rest)
        self._state = _State.OPENING
        self._far: asyncio.Transport | None = None
        self._since = self._last = every.clock()
        self._sent = self._received = 0
        self._over = asyncio.get_running_loop().create_future()
        self._denial: Denial | None = None
        self._why = ""

    async def live(self) -> None:
        """From its judgement to its line. Raises nothing."""
        host, entry = self._asked.host, self._asked.passable
        assert host is not None
        assert entry is not None
        stage: Arrival | Passed = self._arrival
        self.near.pause_reading()
        entered = False
        try:
            passed = stage = await self._all.judge(self._arrival, host, entry)
            self._all.enter(passed.identity.token_id)
            entered = True
            scopes = scopes_for(passed.project, passed.identity)
            await self._all.places.take(self._arrival.id, scopes, passed.project)
            self._far = await self._all.dialler.dial(host, entry, lambda: _Far(self))
            if self._over.done():
                return
            self._state = _State.HELLO
            self._last = self._all.clock()
            self.near.write(ESTABLISHED)
            self.near.resume_reading()
            self._greet()
            await self._last_while_valid(host, entry)
        except Refused as refusal:
            self._refuse(refusal.denial)
        except Exception:
            log.exception("a tunnel failed; it is closed")
            self._refuse(Denial("internal"))
        finally:
            self._state = _State.OVER
            if self._far is not None:
                self._far.abort()
            if isinstance(stage, Passed) and entered:
                self._all.leave(stage.identity.token_id)
                await self._all.places.leave(self._arrival.id)
            self._write(stage, host)

    async def _last_while_valid(self, host: str, entry: PassableHost) -> None:
        """Raises `Refused` once the identity is not valid any more, and `TimeoutError` if judging it hangs. While a store or an
        issuer is away, the tunnel stays."""
        while True:
            done, _ = await asyncio.wait({self._over}, timeout=self._all.look_again_s)
            if done:
                return
            try:
                async with asyncio.timeout(_JUDGED_WITHIN_S):
                    await self._all.judge(self._arrival, host, entry)
            except Refused as refusal:
                if refusal.denial.code not in ("ledger_unavailable", "identity_unavailable"):
                    raise

    def _refuse(self, denial: Denial) -> None:
        if self._denial is not None:
            return
        self._denial = denial
        if self._state is _State.OPENING:
            self.near.write(raw_refusal(denial, self._arrival.id))
            self.near.linger()
        else:
            self.near.close()

    def _write(self, stage: Arrival | Passed, host: str) -> None:
        denial = self._denial
        opened = self._far is not None
        self._all.book.write(
            self._all.book.record(
                Concluded(
                    stage,
                    200 if denial is None and opened else denial.status if denial else 0,
                    denial,
                    "tunnel" if denial is not None else "",
                    ended=self._why,
                    host=host,
                    tunnelled=(self._sent, self._received) if opened else None,
                )
            ),
            settled=False,
        )

    # From the client: `shared.Spoken`.

    def receive(self, data: bytes) -> None:
        if self._state is _State.FLOWING and self._far is not None:
            self._last = self._all.clock()
            self._sent += len(data)
            self._far.write(data)
        elif self._state in (_State.OPENING, _State.HELLO):
            self._buffer += data
            if len(self._buffer) > 4 * MAX_HELLO:
                self._end("")
            elif self._state is _State.HELLO:
                self._greet()

    def _greet(self) -> None:
        """The client's first message goes on once it is whole, if it names the host of the CONNECT."""
        try:
            hello = read_hello(self._buffer)
            if hello is None:
                return
            if hello.encrypted:
                raise BadHello("it hides whom it names (ECH)")
            if normalise_host(hello.name) != self._asked.host:
                raise BadHello("it names another host than the CONNECT")
        except BadHello as error:
            self._refuse(Denial("tls_refused", f"Of the client's first message: {error}."))
            self._end("")
            return
        self._state = _State.FLOWING
        data = bytes(self._buffer)
        self._buffer.clear()
        self.receive(data)

    def receive_end(self) -> None:
        if self._far is not None and self._state is _State.FLOWING:
            # One that is closed already may raise: uvloop's does.
            if not self._far.is_closing():
                self._far.write_eof()
        else:
            self._end("client_gone")
            self.near.close()

    def lose(self, why: str) -> None:
        self._end(self._why)

    def overdue(self, now: float) -> bool:
        bounds = self._all.bounds
        if self._state is _State.OVER:
            return False
        if self._state is not _State.FLOWING:
            if now - self._since <= bounds.hello_s:
                return False
            self._why = "timeout"
        elif now - self._last > bounds.idle_s:
            self._why = "tunnel_idle"
        elif now - self._since > bounds.longest_s:
            self._why = "tunnel_too_long"
        return bool(self._why)

    def pause_writing(self) -> None:
        if self._far is not None and not self._far.is_closing():
            self._far.pause_reading()

    def resume_writing(self) -> None:
        if self._far is not None and not self._far.is_closing():
            self._far.resume_reading()

    def retire(self) -> None:
        """It lasts until it ends, or the worker does."""

    # From the host.

    def came(self, data: bytes) -> None:
        self._last = self._all.clock()
        self._received += len(data)
        self.near.write(data)

    def far_ended(self) -> None:
        if self._state in (_State.HELLO, _State.FLOWING):
            self.near.close()
            self._end(self._why)

    def _end(self, why: str) -> None:
        self._why = why
        if not self._over.done():
            self._over.set_result(None)
