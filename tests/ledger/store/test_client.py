from pathlib import Path

import pytest
from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tests.support.redis_server import RedisServer

from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import LedgerUnavailable, connect, load_script, translated


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("gone"),
        RedisTimeoutError("slow"),
        BusyLoadingError("LOADING"),
        ReadOnlyError("READONLY"),
        NoScriptError("NOSCRIPT"),
        ResponseError("MISCONF"),
        ConnectionRefusedError("no"),
        TimeoutError("no"),
    ],
)
def test_every_error_of_redis_is_one_of_ours(error: Exception) -> None:
    """Nothing outside of the budget folder has to know redis's exceptions."""
    with pytest.raises(LedgerUnavailable) as raised, translated():
        raise error
    assert type(error).__name__ in raised.value.why


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1", "redis+other://h", "127.0.0.1:6379", "", "redis"]
)
def test_another_url_is_refused(tmp_path: Path, url: str) -> None:
    """What it can't speak it says at once, naming what it can."""
    with pytest.raises(ValueError, match=r"redis\.url must begin with"):
        connect(url, tmp_path)


def test_a_refused_url_does_not_show_its_password(tmp_path: Path) -> None:
    """Errors reach logs."""
    for url in (
        "redis+other://user:hunter2@host:1",
        "redis+cluster://user:hunter2@host",
        "redis+sentinel://:hunter2@h:1",
    ):
        with pytest.raises(ValueError, match=r"redis\.url") as error:
            connect(url, tmp_path)
        assert "hunter2" not in str(error.value)


async def test_a_unix_socket_works(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """A redis-server on the same machine may be reached without TCP."""
    assert redis_url
    ledger = Ledger(connect(redis_server.unix_url, tmp_path))
    await ledger.ping()
    await ledger.close()


async def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    """A refused connection ends at once, and not with redis's own error."""
    ledger = Ledger(connect("redis://127.0.0.1:1/0", tmp_path))
    with pytest.raises(LedgerUnavailable):
        await ledger.ping()
    with pytest.raises(LedgerUnavailable):
        await ledger.sweep("acme")
    await ledger.close()


@pytest.mark.parametrize(
    "name", ["hold", "extend", "renew", "settle", "overdue", "sweep", "limits", "show"]
)
def test_scripts_use_the_servers_clock(name: str) -> None:
    """Only TIME tells the time, unless a test says otherwise."""
    assert "redis.call('TIME')" in load_script(name).text
    assert "os.time" not in load_script(name).text
    assert "redis.call('TIME')" not in load_script(name, "{'1', '0'}").text


@pytest.mark.parametrize("scheme", ["rediss://h:1/0?", "redis+cluster://h:1?ssl=true&"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, scheme: str) -> None:
    """The client itself says only that a file is missing."""
    with pytest.raises(ValueError, match=r"ssl_ca_certs, and \S*/ca\.pem is no file; correct"):
        connect(f"{scheme}ssl_ca_certs={tmp_path}/ca.pem", tmp_path)
