"""The TLS versions of a provider. Certificates have their tests in `test_upstream` and `tests/e2e/test_client_certificates`."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import HOST, Authority, RawProvider

from tollhouse.dispatch.upstream import UpstreamError


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_that_are_spoken(
    authority: Authority, reach: Reach, version: ssl.TLSVersion
) -> None:
    tls = authority.server(HOST)
    tls.minimum_version = tls.maximum_version = version
    async with RawProvider().running(tls) as raw, reach(raw.port) as to:
        assert (await to.send()).status == 200


HELLO = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x2f" + b"\x00"
"""Version 3.2 is TLS 1.1; a random number, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression."""


@pytest.mark.parametrize(
    "said",
    [
        b"\x15\x03\x02\x00\x02\x02\x46",
        b"\x16\x03\x02\x00\x2a\x02" + len(HELLO).to_bytes(3) + HELLO,
    ],
    ids=["the alert protocol_version", "a hello of its own version"],
)
async def test_a_provider_of_old_versions_alone(reach: Reach, said: bytes) -> None:
    """However it says so (RFC 5246, E.1), it is refused in plain words, and nothing was sent."""

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(said)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(old, "127.0.0.1", 0)
    async with server, reach(server.sockets[0].getsockname()[1]) as to:
        with pytest.raises(UpstreamError) as caught:
            await to.send()
    error = caught.value
    assert (error.code, error.sent) == ("upstream_tls", "no")
    assert "it offers no TLS 1.2 or newer" in error.why
