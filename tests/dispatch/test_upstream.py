"""One attempt, over a real socket: what leaves, what comes back, and what each failure is called. Past 400 lines: one class, and
each way to fail has its test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
import warnings
from pathlib import Path

import pytest
from tests.dispatch.conftest import KEY, LEASE, Reach
from tests.dispatch.provider import HOST, Authority, Line, RawProvider, answer, body_of, says

from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.upstream import AnswerCut, Upstream, UpstreamError
from tollhouse.families.openai import OPENAI
from tollhouse.providers import Catalog, CredentialSlot, Provider

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def fails(attempt: object) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await attempt  # type: ignore[misc]
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert KEY not in "".join(traceback.format_exception(error))
    return error


# What leaves.


async def test_the_bytes_of_a_request(raw: RawProvider, reach: Reach) -> None:
    """The request is what was given, the key, Host, Content-Length and identity; nothing of aiohttp's own."""
    async with reach(raw.port) as to:
        given = [
            ("content-type", "application/json"),
            ("user-agent", "OpenAI/Python"),
            ("x-a", "é"),
        ]
        got = await to.send(headers=given)
        assert (got.status, await body_of(got)) == (200, b"{}")
    (request,) = raw.received
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.body == b'{"model":"m"}'
    assert sorted(request.headers) == [
        ("accept-encoding", "identity"),
        ("authorization", f"Bearer {KEY}"),
        ("content-length", "13"),
        ("content-type", "application/json"),
        ("host", f"{HOST}:{raw.port}"),
        ("user-agent", "OpenAI/Python"),
        ("x-a", "é"),
    ]
    assert raw.sni == [HOST]


async def test_a_request_without_headers_gets_none(raw: RawProvider, reach: Reach) -> None:
    """No Accept, User-Agent or Content-Type is made up, and a GET has no body and no length."""
    async with reach(raw.port) as to:
        await body_of(await to.send("GET", "/v1/models", body=b""))
        await body_of(await to.send("DELETE", "/v1/models/x", body=None))
        await body_of(await to.send("POST", body=b""))
    get, delete, post = raw.received
    assert [name for name, _ in get.headers] == ["host", "accept-encoding", "authorization"]
    assert delete.get("content-length") == post.get("content-length") == ["0"]
    assert post.get("content-type") == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models?a=b%20c&d=%2f&e",
        "/v1/%7Emodels",
        "/v1/a b",
        "/v1/x?q=ä%E4",
        "/a%00b",
        "/v1/models?x=/../y",
        "/v1/a+b;c=1",
    ],
)
async def test_the_path_goes_out_byte_for_byte(raw: RawProvider, reach: Reach, path: str) -> None:
    """Nothing is quoted, unquoted or normalised."""
    async with reach(raw.port) as to:
        await body_of(await to.send("GET", path, body=None))
    assert raw.received[0].line == f"GET {path} HTTP/1.1"


@pytest.mark.parametrize(
    "path",
    ["", "v1", "@evil.example/", ":1@evil.example/", "/v1#fragment", "/v1?", "/a\r\nx: y", "*"],
)
async def test_a_path_that_cannot_be_sent_as_it_is(
    raw: RawProvider, reach: Reach, path: str
) -> None:
    """It is an error of ours; nothing leaves."""
    async with reach(raw.port) as to:
        with pytest.raises(ValueError, match="cannot be sent"):
            await to.send("GET", path, body=None)
    assert raw.received == []


async def test_headers_that_are_left_out(raw: RawProvider, reach: Reach) -> None:
    """The key is there once; no other credential, cookie or hop-by-hop header leaves, nor one that Connection names."""
    given = [
        ("authorization", "Bearer gate_x"),
        ("Authorization", "Bearer sk-other"),
        ("x-api-key", "gate_x"),
        ("api-key", "gate_x"),
        ("x-goog-api-key", "gate_x"),
        ("cookie", "a=b"),
        ("host", "evil.example"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("connection", "close, X-Secret"),
        ("x-secret", "1"),
        ("keep-alive", "3"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("accept-encoding", "gzip, br"),
        ("x-kept", "1"),
    ]
    async with reach(raw.port) as to:
        await body_of(await to.send(headers=given))
    (request,) = raw.received
    names = sorted(name for name, _ in request.headers)
    assert names == ["accept-encoding", "authorization", "content-length", "host", "x-kept"]
    assert request.get("authorization") == [f"Bearer {KEY}"]
    assert request.get("host") == [f"{HOST}:{raw.port}"]


@pytest.mark.parametrize("value", ["a\r\nx-injected: 1", "a\nb", "a\0b", "\ud800"])
async def test_a_header_that_cannot_be_sent(raw: RawProvider, reach: Reach, value: str) -> None:
    """No header is injected, and the error does not carry the key."""
    async with reach(raw.port) as to:
        with pytest.raises(ValueError, match="cannot be sent") as caught:
            await to.send(headers=[("x-a", value)])
    assert caught.value.__context__ is None
    assert raw.received == []


@pytest.mark.parametrize("size", [65_536, 65_537, 5_000_000])
async def test_a_large_body(raw: RawProvider, reach: Reach, size: int) -> None:
    """It arrives whole, with its length, and aiohttp has nothing to warn of."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with reach(raw.port) as to:
            await body_of(await to.send(body=body))
    assert raw.received[0].body == body
    assert raw.received[0].get("content-type") == []


# Connections.


async def test_connections_are_reused(raw: RawProvider, reach: Reach) -> None:
    """A body read to its end leaves the connection to the next call, whatever the status; the name is not asked
    again."""
    raw.behaviours = [says(answer()), says(answer(503, b"no")), says(answer(204, b""))]
    async with reach(raw.port) as to:
        for _ in range(4):
            await body_of(await to.send())
    assert [request.connection for request in raw.received] == [1, 1, 1, 1]
    assert to.resolver.asked == [HOST]


async def test_an_answer_closed_early_drops_its_connection(raw: RawProvider, reach: Reach) -> None:
    """What is left of its body cannot reach the next call."""
    raw.behaviours = [says(CHUNKED, chunk(b"one"))]
    async with reach(raw.port) as to:
        got = await to.send()
        assert await got.read() == b"one"
        await got.close()
        await got.close()
        await body_of(await to.send())
    assert [request.connection for request in raw.received] == [1, 2]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stale_connection_is_one_attempt(
    raw: RawProvider, reach: Reach, method: str
) -> None:
    """A kept connection that the server closes when the next request comes is an error, not a silent second request."""

    async def close(line: Line) -> None:
        line.hang_up()

    raw.behaviours = [says(answer()), close]
    async with reach(raw.port) as to:
        await body_of(await to.send(method))
        error = await fails(to.send(method))
        assert (error.code, error.sent) == ("upstream_unreachable", "stale")
        assert len(raw.received) == 2
        assert raw.connections == 1


async def test_behind_a_stale_connection(raw: RawProvider, reach: Reach) -> None:
    """The next attempt goes over a new connection, though another one is kept: it may be as stale."""

    async def close(line: Line) -> None:
        line.hang_up()

    raw.behaviours = [says(answer()), says(answer()), close]
    async with reach(raw.port) as to:
        for got in await asyncio.gather(to.send(), to.send()):
            await body_of(got)
        assert (await fails(to.send())).sent == "stale"
        await body_of(await to.send(fresh=True))
        assert [request.connection for request in raw.received][3] == 3
        await body_of(await to.send())
    assert raw.connections == 3, "the new one is kept"


@pytest.mark.parametrize("said", [b"HTTP/1.1 2", b"HTTP/1.1 102 Processing\r\n\r\n"])
async def test_a_reused_connection_that_is_lost_within_an_answer(
    raw: RawProvider, reach: Reach, said: bytes
) -> None:
    """The request was read, so the connection was not stale; nor is one that has served nothing yet."""

    async def begin(line: Line) -> None:
        await line.say(said)
        line.hang_up()

    async def close(line: Line) -> None:
        line.hang_up()

    raw.behaviours = [says(answer()), begin, close]
    async with reach(raw.port) as to:
        await body_of(await to.send())
        for connections in (1, 2):
            error = await fails(to.send())
            assert (error.code, error.sent) == ("upstream_unreachable", "maybe")
            assert raw.connections == connections


async def test_an_answer_that_nobody_asked_for(raw: RawProvider, reach: Reach) -> None:
    """A second answer on an idle connection is dropped with it; the next call, maybe another tenant's, gets its own."""
    sent = asyncio.Event()

    async def twice(line: Line) -> None:
        await line.say(answer(200, b"mine"))
        await sent.wait()
        await line.say(answer(200, b"not yours"))

    raw.behaviours = [twice, says(answer(200, b"yours"))]
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"mine"
        sent.set()
        await raw.closed.wait()
        assert await body_of(await to.send()) == b"yours"
    assert [request.connection for request in raw.received] == [1, 2]


async def test_two_answers_in_one_segment(raw: RawProvider, reach: Reach) -> None:
    """The same when the second answer comes together with the first."""
    raw.behaviours = [
        says(answer(200, b"mine") + answer(200, b"not yours")),
        says(answer(200, b"yours")),
    ]
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"mine"
        assert await body_of(await to.send()) == b"yours"
    assert [request.connection for request in raw.received] == [1, 2]


async def test_cookies_are_not_kept(raw: RawProvider, reach: Reach) -> None:
    """A cookie of one answer is in no later request."""
    raw.behaviours = [says(answer(200, b"{}", set_cookie="session=1; Path=/"))]
    async with reach(raw.port) as to:
        got = await to.send()
        assert got.get("set-cookie") == "session=1; Path=/"
        await body_of(got)
        await body_of(await to.send())
    assert raw.received[1].get("cookie") == []


async def test_redirects_are_passed_on(raw: RawProvider, reach: Reach) -> None:
    """A 3xx is an answer like any other."""
    raw.behaviours = [says(answer(307, b"", location="https://evil.example/"))]
    async with reach(raw.port) as to:
        got = await to.send()
        assert (got.status, got.get("location")) == (307, "https://evil.example/")
        await body_of(got)
    assert len(raw.received) == 1
    assert to.resolver.asked == [HOST]


async def test_proxies_of_the_environment_are_ignored(
    raw: RawProvider, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's own HTTPS_PROXY would be a loop, or a leak."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with reach(raw.port) as to:
        assert (await to.send()).status == 200


# What comes back.


async def test_the_headers_of_an_answer(raw: RawProvider, reach: Reach) -> None:
    """Names lower case, order and duplicates kept, hop-by-hop ones gone."""
    head = (
        b"HTTP/1.1 200 OK\r\nX-Request-Id: r\r\nconnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Encoding: identity\r\nX-Raw: \xff\xc3\xa9\r\nContent-Length: 4\r\n\r\n"
    )
    raw.behaviours = [says(head + b"\x1f\x8bxx")]
    async with reach(raw.port) as to:
        got = await to.send()
        assert got.headers == [
            ("x-request-id", "r"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("content-encoding", "identity"),
            ("x-raw", "\udcffé"),
            ("content-length", "4"),
        ]
        assert await body_of(got) == b"\x1f\x8bxx"


async def test_a_chunk_is_there_before_the_next_is_sent(raw: RawProvider, reach: Reach) -> None:
    """The provider sends the next chunk only when the caller has the one before."""
    go = asyncio.Event()

    async def step_by_step(line: Line) -> None:
        await line.say(CHUNKED)
        for number in range(5):
            await line.say(chunk(b"data: %d\n\n" % number))
            await go.wait()
            go.clear()
        await line.say(b"0\r\n\r\n")

    raw.behaviours = [step_by_step]
    async with reach(raw.port) as to:
        got = await to.send()
        seen = []
        async for piece in got.chunks():
            seen.append(piece)
            go.set()
        assert seen == [b"data: %d\n\n" % number for number in range(5)]


async def test_peek_takes_nothing_away(raw: RawProvider, reach: Reach) -> None:
    """What was looked at is read all the same, also when the rest is not there yet."""
    raw.behaviours = [says(answer(429, b"error")), says(CHUNKED, chunk(b"part"))]
    async with reach(raw.port) as to:
        got = await to.send()
        assert await got.peek(1000, 5.0) == b"error"
        assert await body_of(got) == b"error"
        got = await to.send()
        assert await got.peek(4, 5.0) == b"part"
        assert await got.peek(4, 5.0) == b"part"
        assert await got.peek(1000, 0.01) == b"part"
        assert await got.read() == b"part"
        await got.close()


@pytest.mark.parametrize("reset", [True, False])
async def test_a_body_that_is_cut(raw: RawProvider, reach: Reach, reset: bool) -> None:
    """What came before the cut is given, then AnswerCut; the connection is not used again."""

    async def cut(line: Line) -> None:
        await line.say(CHUNKED + chunk(b"one"))
        await go.wait()
        if reset:
            line.reset()
        else:
            line.hang_up()

    go = asyncio.Event()
    raw.behaviours = [cut]
    async with reach(raw.port) as to:
        got = await to.send()
        assert await got.read() == b"one"
        go.set()
        with pytest.raises(AnswerCut) as caught:
            await got.read()
        assert caught.value.code == "upstream_bad_answer"
        assert caught.value.__context__ is None
        with pytest.raises(AnswerCut):
            await got.read()
        await got.close()
        assert await body_of(await to.send()) == b"{}"


async def test_bytes_before_a_cut_are_not_lost_to_a_slow_reader(
    raw: RawProvider, reach: Reach
) -> None:
    """They may hold the count of tokens: a reader that comes late gets them first, the cut after."""

    async def cut(line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nusage")
        line.hang_up()

    raw.behaviours = [cut]
    async with reach(raw.port) as to:
        got = await to.send()
        await raw.closed.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert await got.read() == b"usage"
        with pytest.raises(AnswerCut):
            await got.read()


async def test_silence_in_the_middle(raw: RawProvider, reach: Reach) -> None:
    """answer_timeout_s holds between two chunks as well."""
    raw.behaviours = [says(CHUNKED, chunk(b"one"))]
    async with reach(raw.port, answer_timeout_s=0.1) as to:
        got = await to.send()
        assert await got.read() == b"one"
        with pytest.raises(AnswerCut) as caught:
            await got.read()
        assert caught.value.code == "upstream_timeout"


async def test_an_answer_without_a_length(raw: RawProvider, reach: Reach) -> None:
    """It ends when the connection does."""

    async def until_close(line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nall")
        line.hang_up()

    raw.behaviours = [until_close]
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"all"


# Failures.


async def test_nobody_listens(reach: Reach, unused_tcp_port: int) -> None:
    """A refused connection: nothing was sent."""
    async with reach(unused_tcp_port) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_unreachable", "no")
    assert f"{HOST}:{unused_tcp_port}" in error.why


async def test_a_name_that_does_not_resolve(reach: Reach) -> None:
    """A failed look-up: nothing was sent."""
    async with reach(443, names={}) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_unreachable", "no")
    assert "resolved" in error.why


async def test_no_time_to_connect(reach: Reach) -> None:
    """A TLS handshake that never comes to an end is bounded by connect_timeout_s, and by what is left for the call."""

    async def say_nothing(line: Line) -> None:
        await asyncio.Event().wait()

    async with RawProvider(on_connect=say_nothing).running(None) as silent:
        async with reach(silent.port, connect_timeout_s=0.1) as to:
            error = await fails(to.send())
            assert (error.code, error.sent) == ("upstream_timeout", "no")
        async with reach(silent.port) as to:
            error = await fails(to.send(budget_s=0.1))
            assert (error.code, error.sent) == ("upstream_timeout", "no")


async def test_no_answer_in_time(raw: RawProvider, reach: Reach) -> None:
    """The request has left, and may be worked on."""
    raw.behaviours = [says()]
    async with reach(raw.port, answer_timeout_s=0.1) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_timeout", "maybe")


async def test_a_body_that_the_provider_does_not_take(reach: Reach) -> None:
    """The time for the answer's head includes the request's body."""

    async def deaf(line: Line) -> None:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with (
        RawProvider(on_connect=deaf).running(None) as raw,
        reach(raw.port, unsafe_plaintext=True, answer_timeout_s=0.1, connect_timeout_s=0.2) as to,
    ):
        error = await fails(to.send(body=bytes(32_000_000)))
    assert (error.code, error.sent) == ("upstream_timeout", "maybe")


@pytest.mark.parametrize("reset", [True, False])
async def test_lost_before_the_head(raw: RawProvider, reach: Reach, reset: bool) -> None:
    """Closed or reset after the request has come."""

    async def leave(line: Line) -> None:
        if reset:
            line.reset()
        else:
            line.hang_up()

    raw.behaviours = [leave]
    async with reach(raw.port) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_unreachable", "maybe")


BAD = {
    "not http": says(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "unasked 101": says(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    ),
    "interim without end": says(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 10] * 3),
    "interim, processing": says(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 1000),
    "1 MB in one header": says(
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000 + b"\r\ncontent-length: 0\r\n\r\n"
    ),
    "1 MB in many": says(
        b"HTTP/1.1 200 OK\r\n" + b"x: aaaaaaaaaa\r\n" * 70_000 + b"content-length: 0\r\n\r\n"
    ),
    "80 KB in five": says(
        b"HTTP/1.1 200 OK\r\n"
        + (b"x: " + b"a" * 16_000 + b"\r\n") * 5
        + b"content-length: 0\r\n\r\n"
    ),
    "status 999": says(b"HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n"),
    "control character": says(b"HTTP/1.1 200 OK\r\nx: a\x01b\r\ncontent-length: 0\r\n\r\n"),
    "bare CR": says(b"HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n"),
    "length and chunks": says(
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": says(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_no_answer(raw: RawProvider, reach: Reach, bad: str) -> None:
    """It is refused as a bad answer, and the next call gets an answer of its own."""
    raw.behaviours = [BAD[bad]]
    async with reach(raw.port) as to:
        error = await fails(to.send())
        assert (error.code, error.sent) == ("upstream_bad_answer", "maybe")
        assert await body_of(await to.send()) == b"{}"
    assert len(raw.received) == 2


async def test_a_few_interim_answers_are_heeded(raw: RawProvider, reach: Reach) -> None:
    """RFC 9110 lets a server send them; the real answer counts."""
    raw.behaviours = [says(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3, answer())] * 10
    async with reach(raw.port) as to:
        for _ in range(10):
            got = await to.send()
            assert got.status == 200
            assert got.get("link") is None
            await body_of(got)
    assert raw.connections == 1


# TLS.


@pytest.mark.parametrize(
    ("host", "common_name", "days"),
    [("other.test", HOST, 1), (None, HOST, 1), (HOST, HOST, -1)],
    ids=["wrong name", "common name only", "expired"],
)
async def test_a_certificate_that_does_not_do(
    authority: Authority, reach: Reach, host: str | None, common_name: str, days: int
) -> None:
    """The key is never sent: the request did not leave."""
    tls = authority.server(host, common_name=common_name, days=days)
    async with RawProvider().running(tls) as raw, reach(raw.port) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_tls", "no")
    assert raw.received == []


async def test_an_unknown_authority(other_authority: Authority, reach: Reach) -> None:
    """Self-made roots are not trusted, and the words say what is wrong."""
    async with RawProvider().running(other_authority.server()) as raw, reach(raw.port) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_tls", "no")
    assert "issuer" in error.why
    assert raw.received == []


async def test_ca_file_replaces_the_public_roots(
    raw: RawProvider, reach: Reach, authority: Authority
) -> None:
    """Without ca_file only public roots count, and SSL_CERT_FILE of the gateway's environment adds none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        async with reach(raw.port, ca_file=None) as to:
            assert (await fails(to.send())).code == "upstream_tls"
    assert raw.received == []


async def test_no_keys_are_logged_for_the_environment(
    raw: RawProvider, reach: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE would let a reader of the wire read the key."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    async with reach(raw.port) as to:
        await body_of(await to.send())
    assert not (tmp_path / "keys").exists()


async def test_a_server_that_speaks_no_tls(reach: Reach) -> None:
    """Plain HTTP on the provider's port gets nothing."""
    async with RawProvider(on_connect=says(answer())).running(None) as raw, reach(raw.port) as to:
        error = await fails(to.send())
    assert (error.code, error.sent) == ("upstream_tls", "no")
    assert raw.received == []


async def test_plaintext_where_the_entry_says_so(reach: Reach) -> None:
    """unsafe_plaintext speaks http to the provider."""
    async with RawProvider().running(None) as raw, reach(raw.port, unsafe_plaintext=True) as to:
        assert (await to.send()).status == 200
    assert raw.received[0].get("authorization") == [f"Bearer {KEY}"]


async def test_connect_to_keeps_the_name_in_tls_and_host(raw: RawProvider, reach: Reach) -> None:
    """SNI, the certificate's name and Host stay the provider's, its default port is not written."""
    async with reach(443, names={}, connect_to=("127.0.0.1", raw.port)) as to:
        await body_of(await to.send())
    assert raw.sni == [HOST]
    assert raw.received[0].get("host") == [HOST]


async def test_a_ca_file_that_cannot_be_used(reach: Reach, tmp_path: Path) -> None:
    """`start` says which provider's, and what is wrong with it."""
    (tmp_path / "empty.pem").write_text("")
    for file in ("empty.pem", "missing.pem"):
        with pytest.raises(ValueError, match=r"providers\.provider: ca_file .*" + file):
            async with reach(443, ca_file=str(tmp_path / file)):
                pass


# Addresses.


async def test_a_refused_address_is_not_dialled(raw: RawProvider, reach: Reach) -> None:
    """Nothing connects, and the refusal names the rule."""
    async with reach(raw.port, allow_private=False) as to:
        error = await fails(to.send())
        assert (error.code, error.sent) == ("upstream_address_refused", "no")
        assert "127.0.0.1, a loopback address" in error.why
    async with reach(443, connect_to=("127.0.0.1", raw.port), allow_private=False) as to:
        assert (await fails(to.send())).code == "upstream_address_refused"
    assert raw.connections == 0


async def test_the_address_that_was_checked_is_the_one_dialled(
    raw: RawProvider, reach: Reach
) -> None:
    """Rebinding: the first answer passes and is dialled, the name is not asked a second time between check and dial."""
    names = {HOST: [["127.0.0.1"], ["169.254.169.254"]]}
    async with reach(raw.port, names=names) as to:
        assert (await to.send()).status == 200
        assert to.resolver.asked == [HOST]


async def test_all_addresses_are_tried(raw: RawProvider, reach: Reach) -> None:
    """An address that does not answer costs no attempt when another does."""
    async with reach(raw.port, names={HOST: [["127.0.0.9", "127.0.0.1"]]}) as to:
        assert (await to.send()).status == 200
    assert len(raw.received) == 1


@pytest.mark.parametrize(
    ("host", "rule"),
    [("127.0.0.1", "loopback"), ("127.1", "not an IP"), ("2130706433", "not an IP")],
)
async def test_a_host_that_is_an_address(
    raw: RawProvider, reach: Reach, host: str, rule: str
) -> None:
    """aiohttp would dial it without asking the resolver: it is judged before."""
    async with reach(raw.port, hosts=(host,), allow_private=False) as to:
        error = await fails(to.send(host=host))
    assert (error.code, error.sent) == ("upstream_address_refused", "no")
    assert rule in error.why
    assert raw.connections == 0


async def test_a_host_of_another_provider(reach: Reach) -> None:
    """A provider's rules hold for its own hosts only."""
    async with reach(443) as to:
        with pytest.raises(ValueError, match="not this provider's"):
            await to.send(host="evil.example")


# Life.


async def test_a_cancelled_attempt_drops_its_connection(raw: RawProvider, reach: Reach) -> None:
    """The client has left: the provider sees it at once."""
    came = asyncio.Event()

    async def wait(line: Line) -> None:
        came.set()
        await line.writer.wait_closed()

    raw.behaviours = [wait]
    async with reach(raw.port) as to:
        task = asyncio.create_task(to.send())
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await raw.closed.wait()
        assert (await to.send()).status == 200


async def test_it_says_when_a_request_leaves(raw: RawProvider, reach: Reach) -> None:
    """Once an attempt, on a new connection and on one that was kept, before the provider has a byte."""
    told: list[int] = []
    async with reach(raw.port) as to:
        for count in (1, 2):
            answer = await to.send(on_leaving=lambda: told.append(len(raw.received)))
            assert len(told) == count
            assert [piece async for piece in answer.chunks()]
        assert told == [0, 1]
        await to.send()
        assert len(told) == 2, "of its own attempt only"


async def test_a_request_that_never_leaves(reach: Reach) -> None:
    """TLS is not up when the attempt is cancelled: nothing was said to have left."""
    told: list[str] = []
    accepted = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(silent, "127.0.0.1", 0) as server,
        reach(server.sockets[0].getsockname()[1]) as to,
    ):
        task = asyncio.create_task(to.send(on_leaving=lambda: told.append("left")))
        await accepted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert told == []


async def test_after_close_nothing_leaves() -> None:
    """Before `start` and after `close` an attempt is refused, and closing twice is no error."""
    provider = Provider(name="p", family=OPENAI, hosts=(HOST,), slot=CredentialSlot("api-key"))
    upstream = Upstream(Catalog((provider,)))
    for _ in range(2):
        error = await fails(
            upstream.send(Outgoing(provider, HOST, "GET", "/", [], None, LEASE), budget_s=1.0)
        )
        assert (error.code, error.sent) == ("upstream_unreachable", "no")
        await upstream.start()
        await upstream.close()
        await upstream.close()


@pytest.mark.parametrize("first", ["refuses", "is silent"])
async def test_a_name_with_two_addresses(raw: RawProvider, reach: Reach, first: str) -> None:
    """The second is dialled while the first says nothing: RFC 8305, happy eyeballs."""
    with contextlib.ExitStack() as stack:
        if first == "is silent":
            # Its queue is full, so SYNs are dropped (listen(2)).
            full = stack.enter_context(
                socket.create_server(("127.0.0.2", raw.port), backlog=0, reuse_port=False)
            )
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
        names = {HOST: [["127.0.0.2", "127.0.0.1"]]}
        async with reach(raw.port, names=names, connect_timeout_s=15.0) as to:
            assert (await to.send()).status == 200
