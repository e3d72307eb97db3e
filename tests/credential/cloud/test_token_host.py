"""POSTs to one URL over real TLS: what leaves, where it goes, and how much of an answer is taken."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.support.token_endpoint import HOST, TokenServer, says, token_server

from tollhouse.credential.cloud.token_host import HostAnswer, TokenHost
from tollhouse.credential.lease import StoreAway

URL = f"https://{HOST}/token"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as running:
        yield running


@pytest.fixture
async def host(server: TokenServer, tmp_path: Path) -> AsyncIterator[TokenHost]:
    made = TokenHost(
        URL, ca_file=server.write_ca(tmp_path / "ca.pem"), resolver_factory=server.resolver
    )
    yield made
    await made.close()


@pytest.mark.parametrize("url", [f"http://{HOST}/token", HOST, "", "https:///token"])
def test_a_url_that_is_none(url: str) -> None:
    """Nothing secret goes over plain http."""
    with pytest.raises(ValueError, match="not an https URL"):
        TokenHost(url)


async def test_what_is_sent(server: TokenServer, host: TokenHost) -> None:
    """The body, its type and its length; a cookie that was set does not come back."""
    server.act = says(200, b"{}", ("Set-Cookie", f"a=b; Domain={HOST}"), ("X-Other", "c"))
    for _ in range(2):
        answer = await host.post(b"assertion=x", FORM)
        assert (answer.status, answer.data, answer.headers["x-other"]) == (200, b"{}", "c")
    head = (
        f"POST /token\nHost: {HOST}\nAccept-Encoding: identity\nContent-Type: application/x-www-form-urlencoded\n"
        "Content-Length: 11\nConnection: close\n\nassertion=x"
    )
    assert [received.decode() for received in server.received] == [head, head]


@pytest.mark.parametrize(("size", "taken"), [(65_536, True), (65_537, False)])
async def test_the_bound_of_an_answer(
    server: TokenServer, host: TokenHost, size: int, taken: bool
) -> None:
    """64 KiB are more than any token takes."""
    server.act = says(200, b"x" * size)
    if taken:
        assert (await host.post(b"", FORM)).data == b"x" * size
        return
    with pytest.raises(StoreAway) as caught:
        await host.post(b"", FORM)
    assert caught.value.why == f"What {HOST} answers is too long."


@pytest.mark.parametrize(("informational", "taken"), [(7, True), (50_000, False)])
async def test_informational_answers(
    server: TokenServer, host: TokenHost, informational: int, taken: bool
) -> None:
    """A few may come before the answer. The connection of a host that sends far more is ended at once."""

    def act(request: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            request.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * informational)
            says(200, b"{}")(request)

    server.act = act
    if taken:
        assert (await host.post(b"", FORM)).data == b"{}"
        return
    with pytest.raises(StoreAway, match="broke off"):
        await host.post(b"", FORM)


async def test_a_redirect_is_an_answer(server: TokenServer, host: TokenHost) -> None:
    """What was posted goes nowhere else."""
    server.act = says(307, b"", ("Location", f"https://{HOST}/elsewhere"))
    assert (await host.post(b"assertion=x", FORM)).status == 307
    assert len(server.received) == 1


def test_an_answer_shows_nothing() -> None:
    """Its text form has neither headers nor body."""
    assert repr(HostAnswer(200, {"x": "ya29"}, b"ya29")) == "HostAnswer(status=200)"
