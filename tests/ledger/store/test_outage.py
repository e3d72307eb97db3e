"""Whether Redis is away: by a real server that is killed, hung or unwilling, and by each error that can be met on the way."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer, free_port

from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import LedgerUnavailable, connect, unavailable
from tollhouse.ledger.store.outage import BELIEVED_S, Outage, means_away, pinger, unanswered


def caused(error: BaseException, by: BaseException | None = None) -> BaseException:
    """As redis-py raises it: while the socket's error is handled."""
    error.__context__ = by
    return error


def a_connection_error(number: int) -> BaseException:
    return caused(RedisConnectionError(f"Error {number} connecting"), OSError(number, "text"))


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (a_connection_error(errno.ECONNREFUSED), True),
        (a_connection_error(errno.EHOSTUNREACH), True),
        (a_connection_error(errno.ENETUNREACH), True),
        (a_connection_error(errno.ETIMEDOUT), True),
        (a_connection_error(errno.ENOENT), True),
        (
            caused(RedisConnectionError("reset"), ConnectionResetError(errno.ECONNRESET, "reset")),
            True,
        ),
        (
            caused(
                RedisConnectionError("no such name"), socket.gaierror(socket.EAI_NONAME, "unknown")
            ),
            True,
        ),
        (RedisConnectionError("Connection closed by server."), True),
        (RedisTimeoutError("Timeout reading from socket"), True),
        (
            caused(RedisTimeoutError("Timeout connecting to server"), TimeoutError("timed out")),
            True,
        ),
        (TimeoutError(), True),
        (BusyLoadingError("Redis is loading the dataset in memory"), True),
        # Of this process.
        (a_connection_error(errno.EMFILE), False),
        (a_connection_error(errno.ENFILE), False),
        (a_connection_error(errno.EADDRNOTAVAIL), False),
        (a_connection_error(errno.ENOBUFS), False),
        (a_connection_error(errno.ENOMEM), False),
        (a_connection_error(errno.EPERM), False),
        (a_connection_error(errno.EACCES), False),
        (MaxConnectionsError("Too many connections"), False),
        (
            caused(
                RedisConnectionError("certificate"),
                __import__("ssl").SSLCertVerificationError(1, "self-signed"),
            ),
            False,
        ),
        # Answers.
        (RedisConnectionError("max number of clients reached"), False),
        (AuthenticationError("WRONGPASS"), False),
        (AuthorizationError("no"), False),
        (NoPermissionError("NOPERM"), False),
        (OutOfMemoryError("OOM command not allowed"), False),
        (ReadOnlyError("READONLY"), False),
        (ResponseError("BUSY Redis is busy running a script"), False),
        (RedisError("something else"), False),
    ],
    ids=repr,
)
def test_what_an_error_says(error: BaseException, away: bool) -> None:
    """Silence, and what the other side or the way to it does, are an outage; answers and lacks of our own are none."""
    assert means_away(error) is away


@pytest.mark.parametrize(
    ("error", "without_answer"),
    [
        (unavailable(RedisConnectionError("refused")), True),
        (unavailable(RedisTimeoutError("")), True),
        (unavailable(TimeoutError()), True),
        (unavailable(ResponseError("OOM")), False),
        (unavailable(AuthenticationError("WRONGPASS")), False),
        (unavailable(ReadOnlyError("READONLY")), False),
        (LedgerUnavailable("Redis holds no limits record of project:x: was it emptied?"), False),
    ],
    ids=str,
)
def test_questions_without_an_answer(error: LedgerUnavailable, without_answer: bool) -> None:
    """An answer that can't be believed is one."""
    assert unanswered(error) is without_answer


class Ping:
    """Raises what it is told to, and counts."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.asked = 0
        self.gate: threading.Event | None = None

    def __call__(self) -> None:
        self.asked += 1
        if self.gate is not None:
            self.gate.wait(30)
        if self.error is not None:
            raise self.error


REFUSED = a_connection_error(errno.ECONNREFUSED)


async def test_an_outage_is_believed_for_a_second() -> None:
    """Then Redis is asked again; that it is there is not kept at all."""
    clock, ping = Clock(), Ping(REFUSED)
    outage = Outage(ping, clock)
    assert [await outage.confirmed() for _ in range(3)] == [True] * 3
    assert ping.asked == 1
    clock.now += BELIEVED_S
    ping.error = None
    assert [await outage.confirmed() for _ in range(3)] == [False] * 3
    assert ping.asked == 4


async def test_many_ask_at_once_and_redis_is_asked_once() -> None:
    """One that gives up waiting does not take the answer from the others."""
    ping = Ping(REFUSED)
    ping.gate = threading.Event()
    outage = Outage(ping, Clock())
    waiting = [asyncio.ensure_future(outage.confirmed()) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    ping.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert (answers[1:], ping.asked) == ([True] * 49, 1)


async def test_an_error_that_is_no_outage_is_not_asked_about() -> None:
    """Redis has answered."""
    ping = Ping(REFUSED)
    outage = Outage(ping, Clock())
    assert not await outage.explains(unavailable(ResponseError("OOM")))
    assert ping.asked == 0
    assert await outage.explains(unavailable(RedisTimeoutError("")))


async def test_a_fault_of_ours_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing leaves, and it is said."""
    outage = Outage(Ping(RuntimeError("injected")), Clock())
    assert not await outage.confirmed()
    assert "nothing leaves" in caplog.text


async def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """When it begins and when it ends, with how many calls went out."""
    clock = Clock()
    outage = Outage(Ping(REFUSED), clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert await outage.confirmed()
            clock.now += BELIEVED_S
            outage.let_through += 1
        assert len(caplog.records) == 1
        outage.over()
        outage.over()
        assert len(caplog.records) == 2
        assert "5 calls were let through" in caplog.text
        assert await outage.confirmed()
        assert (len(caplog.records), outage.let_through) == (3, 0)


# A real server.


async def test_a_server_that_runs(redis_url: str) -> None:
    """It answers."""
    assert not await Outage(pinger(redis_url)).confirmed()


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """Refused; no such socket; no such name."""
    for url in (
        f"redis://127.0.0.1:{free_port()}/0",
        f"unix://{tmp_path}/redis.sock",
        "redis://nobody.invalid:6379/0",
    ):
        assert await Outage(pinger(url)).confirmed(), url


async def test_a_server_that_hangs(redis_server: RedisServer, redis_url: str) -> None:
    """Its kernel takes the connection and nobody answers."""
    outage = Outage(pinger(redis_url))
    redis_server.pause()
    try:
        assert await outage.confirmed()
    finally:
        redis_server.resume()


async def test_a_password_that_is_wrong_is_no_outage(redis_url: str) -> None:
    """Redis is there."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", "another")
        try:
            assert not await Outage(pinger(redis_url)).confirmed()
        finally:
            redis.Redis.from_url(redis_url.replace("redis://", "redis://:another@")).config_set(
                "requirepass", ""
            )


async def test_a_script_that_runs_for_too_long_is_no_outage(redis_url: str) -> None:
    """BUSY is an answer."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("busy-reply-threshold", "10")
        looping = threading.Thread(
            target=lambda: _quiet(lambda: client.eval("while true do end", 0))
        )
        looping.start()
        try:
            with redis.Redis.from_url(redis_url) as other:
                while not _busy(other):
                    pass
                assert not await Outage(pinger(redis_url)).confirmed()
                other.script_kill()
        finally:
            looping.join(10)
            client.config_set("busy-reply-threshold", "5000")


def _quiet(work: Callable[[], object]) -> None:
    try:
        work()
    except RedisError:
        pass


def _busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except ResponseError:
        return True
    return False


async def test_sentinels_that_know_no_master(redis_server: RedisServer, redis_url: str) -> None:
    """None of them answers; or what answers is none, which is an answer."""
    nobody = f"redis+sentinel://127.0.0.1:{free_port()}/main/0"
    assert await Outage(pinger(nobody)).confirmed()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[socket.socket] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        while True:
            try:
                taken.append(socket.socket())
            except OSError:
                break
        yield
    finally:
        for one in taken:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", ["127.0.0.1", "redis.invalid"])
async def test_no_descriptor_is_no_outage(name: str) -> None:
    """A crowd of connections that used them all up has not switched the limits off; not even if a name can't be resolved."""
    outage = Outage(pinger(f"redis://{name}:{free_port()}/0"))
    assert await outage.confirmed()
    crowded = Outage(pinger(f"redis://{name}:{free_port()}/0"))
    with no_descriptors_left():
        assert not await crowded.confirmed()


async def test_a_loop_that_stood_still_is_no_outage(redis_url: str, tmp_path: Path) -> None:
    """A question of the ledger ran out of time because this process was busy: Redis is asked by a thread, and is there."""
    client = connect(redis_url, tmp_path)
    client.connection_pool.connection_kwargs["socket_timeout"] = 0.05
    ledger = Ledger(client)
    asking = asyncio.ensure_future(ledger.sweep("acme"))
    while not asking.done():
        # As large requests do that are parsed.
        time.sleep(0.1)  # noqa: ASYNC251
        await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable) as caught:
        await asking
    assert unanswered(caught.value)
    assert not await Outage(pinger(redis_url)).explains(caught.value)
    await ledger.close()


async def test_a_pool_that_is_used_up_is_no_outage(redis_url: str, tmp_path: Path) -> None:
    """So many questions at once that no connection was left for this one."""
    client = connect(redis_url, tmp_path)
    client.connection_pool.max_connections = 0
    with pytest.raises(LedgerUnavailable) as caught:
        await Ledger(client).ping()
    assert not await Outage(pinger(redis_url)).explains(caught.value)
    await client.aclose()


async def test_a_listener_that_is_no_redis() -> None:
    """What it says is an answer."""

    def talk(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while connection.recv(1024):
                connection.sendall(b"-ERR this is something else\r\n")

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=talk, args=(server,))
        thread.start()
        assert not await Outage(
            pinger(f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        ).confirmed()
        thread.join(10)
