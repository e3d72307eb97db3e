"""aiohttp's names that are not public. A failure here says that a new version of aiohttp needs `pool`, `http_connection` and
`http_client` to be read again."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import RawProvider, body_of

from tollhouse.dispatch.http_connection import Connection
from tollhouse.dispatch.pool import DialTarget, Pool, PoolBounds
from tollhouse.dispatch.resolve import GuardedResolver
from tollhouse.providers import Catalog


def test_the_key_of_a_connection() -> None:
    """`DialTarget` fills these by place. A field behind them needs a default that suits a request of ours."""
    assert ConnectionKey._fields[:7] == (
        "host",
        "port",
        "is_ssl",
        "ssl",
        "proxy",
        "proxy_auth",
        "proxy_headers_hash",
    )
    assert ConnectionKey._field_defaults in ({}, {"server_hostname": None})


def test_what_is_called() -> None:
    """Parameters that are given to aiohttp, and the methods that `Connection` and `RoundTrip` lean on."""
    assert [*inspect.signature(aiohttp.TCPConnector.connect).parameters] == [
        "self",
        "req",
        "traces",
        "timeout",
    ]
    assert {
        "skip_payload",
        "read_until_eof",
        "auto_decompress",
        "read_timeout",
        "read_bufsize",
        "max_field_size",
    } <= {*inspect.signature(ResponseHandler.set_response_params).parameters}
    assert [
        *inspect.signature(of_aiohttp(aiohttp.TCPConnector, "_create_connection")).parameters
    ] == [
        "self",
        "req",
        "traces",
        "timeout",
    ]
    start_tls = of_aiohttp(aiohttp.TCPConnector, "_start_tls_connection")
    assert [*inspect.signature(start_tls).parameters][:4] == [
        "self",
        "underlying_transport",
        "req",
        "timeout",
    ]
    assert [*inspect.signature(ResponseHandler.feed_data).parameters] == ["self", "data", "size"]
    for name in ("read", "start_timeout", "force_close", "set_exception", "_drain_helper"):
        assert callable(getattr(ResponseHandler, name)), name
    for name in ("upgraded", "writing_paused"):
        assert isinstance(getattr(ResponseHandler, name), property), name
    for name in ("on_eof", "set_exception", "exception", "readany", "_read_nowait"):
        assert callable(getattr(aiohttp.StreamReader, name)), name
    for name in ("release", "close", "protocol"):
        assert hasattr(aiohttp.connector.Connection, name), name


def of_aiohttp(thing: object, name: str) -> Any:
    """What aiohttp keeps under a name that is not public."""
    return object.__getattribute__(thing, name)


async def test_what_is_kept_in_objects() -> None:
    """Attributes that only an instance has."""
    loop = asyncio.get_running_loop()
    protocol = Connection(loop=loop)
    assert of_aiohttp(protocol, "_paused") is False
    assert not of_aiohttp(aiohttp.StreamReader(protocol, 1, loop=loop), "_buffer")
    assert of_aiohttp(protocol, "_parser") is None
    protocol.set_response_params()
    assert of_aiohttp(protocol, "_parser").feed_eof() is None
    pool = aiohttp.TCPConnector()
    assert of_aiohttp(pool, "_factory").func is ResponseHandler
    await pool.close()


async def test_the_connector_asks_a_target_for_no_more_than_it_has(
    raw: RawProvider, reach: Reach
) -> None:
    """And the protocol that it makes is ours."""
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"{}"
    pool = Pool(GuardedResolver(Catalog(()), aiohttp.ThreadedResolver()), PoolBounds())
    assert type(of_aiohttp(pool, "_factory")()) is Connection
    await pool.close()
    target = DialTarget("https://[::1]:8443", None)
    assert (target.host, target.port, target.is_ssl()) == ("::1", 8443, True)
