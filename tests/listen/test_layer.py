"""A client's connection over a real socket pair, with an owner that is played: no gateway, no TLS, no provider. Each test runs
with our own HTTP/1 and with mitmproxy's."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from tests.listen import client as played
from tests.listen.client import BOUNDS, Played, connected, until
from tests.support.clock import Clock
from tests.support.values import replace

from tollhouse.denial import Refused
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone


@pytest.fixture(autouse=True, params=[True, False], ids=["own", "mitmproxy"])
def http1(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who speaks HTTP/1."""
    monkeypatch.setattr(played, "OWN_HTTP1", request.param)


GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


async def test_a_request_becomes_an_exchange() -> None:
    """Head, body and the order of headers arrive as they were sent."""
    bodies = []

    async def read(exchange: Exchange) -> None:
        bodies.append(await exchange.read_all(100, 5))
        exchange.answer(200, [("x-a", "b")], b"answer")

    addon = Played(read)
    async with connected(addon) as client:
        head = await client.ask(
            b"POST /p?q HTTP/1.1\r\nHost: x\r\nB: 1\r\nA: 2\r\nB: 3\r\nContent-Length: 4\r\n\r\nbody"
        )
        assert head == b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 6\r\n\r\n"
        assert await client.take(6) == b"answer"
    [exchange] = addon.exchanges
    given = exchange.head
    assert (given.method, given.target, given.http_version, given.scheme) == (
        "POST",
        "/p?q",
        "1.1",
        "http",
    )
    assert given.headers == (
        ("host", "x"),
        ("b", "1"),
        ("a", "2"),
        ("b", "3"),
        ("content-length", "4"),
    )
    assert (bodies, exchange.finished) == ([b"body"], True)


async def test_one_after_the_other() -> None:
    """Requests sent at once are owned one at a time."""
    under_way: list[int] = []

    async def count(exchange: Exchange) -> None:
        under_way.append(sum(not e.finished for e in addon.exchanges))
        await asyncio.sleep(0)
        exchange.answer(200, [], b"")

    addon = Played(count)
    async with connected(addon) as client:
        client.send(GET * 5)
        for _ in range(5):
            await client.ask(b"")
    assert under_way == [1] * 5


async def test_a_request_behind_a_body_that_came_after_its_answer() -> None:
    """It is read, though it came in one piece with that body."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(403, [], b"")

    addon = Played(refuse)
    async with connected(addon) as client:
        await client.ask(POST[:-4])
        client.send(POST[-4:] + GET)
        assert b" 403 " in await client.ask(b"")
    assert [exchange.head.method for exchange in addon.exchanges] == ["POST", "GET"]


async def test_a_body_of_many_small_chunks() -> None:
    """It arrives whole."""
    bodies = []

    async def read(exchange: Exchange) -> None:
        bodies.append(await exchange.read_all(100_000, 30))
        exchange.answer(200, [], b"")

    async with connected(
        Played(read), bounds=replace(BOUNDS, max_discarded_bytes=1 << 20)
    ) as client:
        chunks = b"1\r\na\r\n" * 12_000 + b"0\r\n\r\n"
        await client.ask(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        )
    assert bodies == [b"a" * 12_000]


async def test_a_streamed_answer() -> None:
    """Without a length an answer is chunked, and each piece goes out when it is sent."""
    step = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.start(200, [])
        await exchange.send(b"one")
        await step.wait()
        await exchange.send(b"two")
        exchange.end()

    async with connected(Played(stream)) as client:
        assert b"transfer-encoding: chunked" in await client.ask(GET)
        assert await client.take(8) == b"3\r\none\r\n"
        step.set()
        assert await client.take(13) == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_a_streamed_answer_to_http_1_0() -> None:
    """It ends with the connection."""

    async def stream(exchange: Exchange) -> None:
        exchange.start(200, [])
        await exchange.send(b"one")
        exchange.end()

    async with connected(Played(stream)) as client:
        client.send(GET.replace(b"1.1", b"1.0"))
        answer = await client.rest()
    assert answer.endswith(b"\r\n\r\none")
    assert b"chunked" not in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize("how", ["raises", "returns", "aborts"])
@pytest.mark.parametrize("answered", [False, True])
async def test_an_owner_that_does_not_finish(how: str, answered: bool) -> None:
    """The connection is cut: a client never takes half an answer for a whole one, nor waits for ever."""

    async def fail(exchange: Exchange) -> None:
        if answered:
            exchange.start(200, [])
            await exchange.send(b"half")
        if how == "raises":
            raise RuntimeError("injected fault")
        if how == "aborts":
            exchange.abort()

    addon = Played(fail)
    async with connected(addon) as client:
        client.send(GET)
        answer = await client.rest()
    assert (b"half" in answer) == answered
    assert not answer.endswith(b"0\r\n\r\n")
    assert addon.exchanges[0].finished


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_client_that_goes_away(when: str) -> None:
    """The owner's scope ends at once."""
    ended = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        try:
            async with exchange.interruptible():
                if when == "before":
                    await exchange.read_all(100, 60)
                exchange.start(200, [])
                await asyncio.Event().wait()
        except ClientGone:
            ended.set()

    async with connected(Played(wait)) as client:
        if when == "before":
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
        else:
            await client.ask(GET)
        client.writer.close()
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize(
    ("sent", "answers"),
    [(GET, 1), (POST, 1), (GET + POST + GET, 3), (GET + GET[:-2], 1), (GET + POST[:-1], 1)],
)
async def test_a_client_that_ends_its_direction(sent: bytes, answers: int) -> None:
    """Each request that was sent whole is answered, then the connection ends; half a request is
    not."""

    async def answer(exchange: Exchange) -> None:
        await until(lambda: client.connection.half_closed)
        async with exchange.interruptible():
            await exchange.read_all(100, 60)
            exchange.answer(200, [], b"ok")

    async with connected(Played(answer)) as client:
        client.send(sent)
        client.writer.write_eof()
        answered = await client.rest()
        await until(lambda: client.connection.closing)
    assert answered.count(b"HTTP/1.1 200 OK\r\n") == answered.count(b"ok") == answers


async def test_half_a_request_and_an_end() -> None:
    """The owner of a body that will not come is told."""
    ended = asyncio.Event()

    async def read(exchange: Exchange) -> None:
        try:
            async with exchange.interruptible():
                await exchange.read_all(100, 60)
        except ClientGone:
            ended.set()

    async with connected(Played(read)) as client:
        client.send(POST[:-1])
        client.writer.write_eof()
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_half_closed_client_that_goes_away() -> None:
    """It is noticed when the kernel knows it: by the next look at the connection, or by what can't
    be written."""
    ended = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        try:
            async with exchange.interruptible():
                await asyncio.Event().wait()
        except ClientGone:
            ended.set()

    addon = Played(wait)
    async with connected(addon) as client:
        client.send(GET)
        client.writer.write_eof()
        await until(lambda: client.connection.half_closed)
        assert not client.connection.overdue(client.connection.clock())
        client.writer.close()
        await until(lambda: client.connection.overdue(client.connection.clock()))
        client.connection.end()
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize(
    ("body", "bound"), [(b"", 2.0), (b"Content-Length: 9000\r\n", 30.0)], ids=["linger", "body"]
)
async def test_bytes_that_drip_behind_an_answer(body: bytes, bound: float) -> None:
    """What comes behind a refusal is read on for so long in all, however often a byte of it comes."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(401, [], b"")

    clock = Clock()
    async with connected(Played(refuse), clock=clock) as client:
        await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n" + (body or b"Bad\r\n") + b"\r\n")
        for step in range(int(bound)):
            clock.now = 1000.0 + step
            client.send(b"x")
            await asyncio.sleep(0)
            assert not client.connection.overdue(clock.now), step
        assert not client.connection.overdue(1000.0 + bound)
        assert client.connection.overdue(1000.0 + bound + 0.1)


async def test_bytes_that_drip_into_an_idle_connection() -> None:
    """Empty lines between requests keep no connection: the head that they would begin is waited for
    as any other."""
    clock = Clock()
    async with connected(Played(), clock=clock) as client:
        await client.ask(GET)
        await client.take(2)
        for step in range(31):
            clock.now = 1000.0 + step
            client.send(b"\r\n")
            await asyncio.sleep(0)
        assert client.connection.overdue(1000.0 + 31)


async def test_a_handshake_that_drips() -> None:
    """A ClientHello is waited for as a whole, however often a byte of it comes."""
    clock = Clock()
    async with connected(Played(), kind="transparent", clock=clock) as client:
        for step, byte in enumerate(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)):
            clock.now = 1000.0 + step
            client.send(bytes((byte,)))
            await asyncio.sleep(0)
            assert not client.connection.overdue(clock.now)
        assert client.connection.overdue(1030.1)


async def test_a_stream_that_drips_behind_its_answer() -> None:
    """HTTP/2: the stream is reset, and the connection goes on."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(401, [], b"")

    clock = Clock()
    h2c = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
    )
    h2c.initiate_connection()
    head = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x")]
    async with connected(Played(refuse), alpn="h2", clock=clock) as client:
        h2c.send_headers(1, head)
        client.send(h2c.data_to_send())
        seen: list[h2.events.Event] = []

        async def receive(kind: type[h2.events.Event]) -> None:
            while not any(isinstance(event, kind) for event in seen):
                seen.extend(h2c.receive_data(await asyncio.wait_for(client.reader.read(65_536), 5)))
                client.send(h2c.data_to_send())

        await receive(h2.events.StreamEnded)
        h2c.send_data(1, b"x")
        client.send(h2c.data_to_send())
        assert not client.connection.overdue(1030.0)
        assert not client.connection.overdue(1030.1)
        await receive(h2.events.StreamReset)
        assert [event.error_code for event in seen if isinstance(event, h2.events.StreamReset)] == [
            0
        ]
        seen.clear()
        h2c.send_headers(3, head, end_stream=True)
        client.send(h2c.data_to_send())
        await receive(h2.events.StreamEnded)


async def test_a_stream_is_not_read_ahead_of_its_owner() -> None:
    """HTTP/2: an owner that does not read yet keeps what the window lets through, and then has all
    of it."""
    reading = asyncio.Event()
    bodies: list[int] = []

    async def read(exchange: Exchange) -> None:
        await reading.wait()
        bodies.append(len(await exchange.read_all(4_000_000, 5)))
        exchange.answer(200, [], b"")

    h2c = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
    )
    h2c.initiate_connection()
    addon = Played(read)
    bounds = replace(BOUNDS, max_discarded_bytes=4_000_000)
    async with connected(addon, alpn="h2", bounds=bounds) as client:
        h2c.send_headers(
            1, [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x")]
        )
        client.send(h2c.data_to_send())
        left, sent, ended = 3_000_000, 0, False

        def send() -> int:
            sent = 0
            while left > sent and (
                size := min(h2c.local_flow_control_window(1), 16_384, left - sent)
            ):
                h2c.send_data(1, b"x" * size)
                sent += size
            client.send(h2c.data_to_send())
            return sent

        async def receive() -> list[h2.events.Event]:
            return h2c.receive_data(await asyncio.wait_for(client.reader.read(65_536), 5))

        while not any(
            isinstance(event, h2.events.RemoteSettingsChanged) for event in await receive()
        ):
            pass
        # What is acknowledged at first, and the window behind it.
        while sent < 1024 * 1024:
            left -= (now := send())
            sent += now
            await until(
                lambda count=sent: bool(addon.exchanges) and addon.exchanges[0].received == count
            )
        assert addon.exchanges[0].buffered == sent <= (1024 + 256 + 16) * 1024
        reading.set()
        while not ended:
            ended = any(isinstance(event, h2.events.StreamEnded) for event in await receive())
            left -= send()
            if not left:
                left = -1
                h2c.end_stream(1)
                client.send(h2c.data_to_send())
    assert bodies == [3_000_000]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ],
)
async def test_a_defect(data: bytes) -> None:
    """It is answered, the connection says that it closes, and closes; what comes behind is not read as a request."""
    addon = Played()
    async with connected(addon) as client:
        client.send(data + GET)
        answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert len(addon.exchanges) == 1


async def test_a_head_byte_by_byte() -> None:
    """However it is cut, it is the same head."""
    addon = Played()
    async with connected(addon) as client:
        for byte in GET:
            client.send(bytes((byte,)))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert b" 200 " in await client.ask(b"")
    assert addon.exchanges[0].head.target == "/a?b"


@pytest.mark.parametrize("size", [1900, 2004, 2005, 5000])
async def test_a_large_head(size: int) -> None:
    """Up to the bound (which leaves out the empty line) it is a request, past it a 431, complete or not."""
    addon = Played()
    data = b"GET / HTTP/1.1\r\nHost: x\r\nA: "
    data += b"y" * (size - len(data) - 4) + b"\r\n\r\n"
    async with connected(addon) as client:
        head = await client.ask(data)
    assert head.split()[1] == (b"200" if size <= 2004 else b"431")


async def test_a_body_that_nobody_reads() -> None:
    """It is read on for a while behind the answer, then the connection ends."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(403, [], b"")

    addon = Played(refuse)
    async with connected(addon) as client:
        assert b" 403 " in await client.ask(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        )
        for _ in range(20):
            client.send(b"x" * 1000)
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"5;" + b"x" * 3000, b"0\r\nX: " + b"x" * 3000, b"3\r\nabcd"]
)
async def test_a_body_that_is_malformed(chunk: bytes) -> None:
    """The reader is refused; behind its answer the connection ends."""
    codes = []

    async def read(exchange: Exchange) -> None:
        try:
            await exchange.read_all(100, 5)
        except Refused as refused:
            codes.append(refused.denial.code)
            exchange.answer(400, [], b"")

    async with connected(Played(read)) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        answer = await client.rest()
    assert (codes, answer.split()[1]) == (["bad_request"], b"400")
    assert b"connection: close" in answer


@pytest.mark.parametrize("head", [b"bad\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 2_500])
async def test_bytes_behind_a_head_that_is_refused(head: bytes) -> None:
    """They are dropped, also before the refusal is out: the client sees the refusal, and not a reset."""
    sent = asyncio.Event()

    class Slow(Played):
        async def tollhouse_call(self, exchange: Exchange) -> None:
            sent.set()
            for _ in range(50):
                await asyncio.sleep(0)
            await super().tollhouse_call(exchange)

    async with connected(Slow()) as client:
        client.send(head)
        await sent.wait()
        client.send(b"x" * 3_000)
        assert (await client.rest()).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("first", [b"keep-alive", b"close"])
async def test_a_client_that_wants_both(first: bytes) -> None:
    """RFC 9112 9.3: `close` counts, in whichever line it stands."""
    other = b"close" if first == b"keep-alive" else b"keep-alive"
    async with connected(Played()) as client:
        client.send(GET[:-2] + b"Connection: " + first + b"\r\nConnection: " + other + b"\r\n\r\n")
        assert (await client.rest()).endswith(b"ok")


async def test_a_client_that_does_not_take_its_answer() -> None:
    """`send` waits for it; memory does not grow with the answer."""
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        try:
            async with exchange.interruptible():
                exchange.start(200, [])
                for _ in range(10_000):
                    await exchange.send(b"x" * 65_536)
                    sent += 1
        except ClientGone:
            pass

    async with connected(Played(flood)) as client:
        await client.ask(GET)
        client.pause()
        before = -1
        while before != sent:
            before = sent
            for _ in range(50):
                await asyncio.sleep(0)
        assert sent < 200
        assert client.connection.unsent() < 2 * 256 * 1024
        client.writer.transport.abort()


async def test_a_client_that_asks_on_and_takes_no_answer() -> None:
    """It is not read on; when it takes its answers, it gets all of them, also if it has ended its direction."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(403, [], b"x" * 4_000)

    addon = Played(refuse)
    asked = 0
    async with connected(addon) as client:
        client.pause()
        while asked == len(addon.exchanges) and asked < 1_000:
            client.send(GET * 5)
            asked += 5
            for _ in range(20):
                await asyncio.sleep(0)
        assert asked < 1_000
        assert client.connection.unsent() < 2 * 256 * 1024
        client.writer.write_eof()
        client.resume()
        assert (await client.rest()).count(b"HTTP/1.1 403 ") == asked


async def test_a_client_that_never_takes_its_answer() -> None:
    """It is given up after ten times the request's time: what it holds is let go of."""
    why: list[str] = []
    ended = asyncio.Event()

    async def flood(exchange: Exchange) -> None:
        try:
            async with exchange.interruptible():
                exchange.start(200, [])
                while True:
                    await exchange.send(b"x" * 65_536)
        except ClientGone as gone:
            why.append(str(gone))
            ended.set()

    async with connected(Played(flood), bounds=replace(BOUNDS, stalled_timeout_s=0.05)) as client:
        await client.ask(GET)
        client.pause()
        await asyncio.wait_for(ended.wait(), 5)
    assert why == ["the client takes nothing"]


async def test_an_http2_client_that_never_opens_its_window() -> None:
    """Only its stream is given up, with a reset; the others go on."""
    ended = asyncio.Event()

    async def owner(exchange: Exchange) -> None:
        if exchange.head.target == "/small":
            exchange.answer(204, [], b"")
            return
        try:
            async with exchange.interruptible():
                exchange.start(200, [])
                while True:
                    await exchange.send(b"x" * 1000)
        except ClientGone:
            ended.set()

    async with connected(
        Played(owner), bounds=replace(BOUNDS, stalled_timeout_s=0.05), alpn="h2"
    ) as client:
        h2_side = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        h2_side.initiate_connection()
        h2_side.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        for stream, path in ((1, "/large"), (3, "/small")):
            pseudo = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", path),
                (":authority", "x"),
            ]
            h2_side.send_headers(stream, pseudo, end_stream=True)
        client.send(h2_side.data_to_send())
        seen: list[h2.events.Event] = []
        async with asyncio.timeout(5):
            while not any(isinstance(event, h2.events.StreamReset) for event in seen):
                seen += h2_side.receive_data(await client.reader.read(65_536))
            await ended.wait()
    [reset] = [event for event in seen if isinstance(event, h2.events.StreamReset)]
    assert reset.stream_id == 1
    assert [event.stream_id for event in seen if isinstance(event, h2.events.StreamEnded)] == [3]


async def test_a_tunnel_that_is_refused() -> None:
    """The answer is whole, and the connection ends."""
    addon = Played()
    async with connected(addon, "proxy") as client:
        client.send(
            b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\nX-A: b\r\n\r\n"
            + b"early bytes"
        )
        answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"x-tollhouse-reason: host_not_allowed" in answer
    [connect] = addon.connects
    assert (connect.target, connect.headers) == (
        "evil.test:443",
        (("host", "evil.test:443"), ("x-a", "b")),
    )
    assert addon.exchanges == []


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\0" * 20_000]
)
async def test_a_tunnel_without_tls(first: bytes) -> None:
    """What is no handshake, or one without end, ends the tunnel; nothing in it is read."""
    addon = Played(host="x.test")
    async with connected(addon, "proxy") as client:
        assert b" 200 " in await client.ask(b"CONNECT x.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.send(first)
        assert await client.rest() == b""
    assert addon.exchanges == []


async def test_a_connection_that_lingers_is_closed() -> None:
    """A refused client that never closes its side is not waited for."""
    addon = Played()
    async with connected(addon) as client:
        client.send(b"bad\r\n\r\n")
        assert b" 400 " in await client.rest()
        since = client.connection.lingering_since
        assert since is not None
        assert not client.connection.overdue(since + 1.0)
        assert client.connection.overdue(since + 3.0)


async def test_when_a_connection_is_overdue() -> None:
    """A head under way has its time, an exchange under way has all of it, an idle connection ten times as much."""
    release = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await release.wait()
        exchange.answer(200, [], b"")

    addon = Played(wait)
    clock = Clock()
    async with connected(addon, clock=clock) as client:
        connection, began = client.connection, clock.now
        assert not connection.overdue(began + 299)
        assert connection.overdue(began + 301)
        client.send(GET[:10])
        await until(lambda: connection.overdue(began + 31))
        assert not connection.overdue(began + 29)
        client.send(GET[10:])
        await until(lambda: bool(addon.exchanges))
        assert not connection.overdue(began + 10_000)
        release.set()
        await client.ask(b"")
