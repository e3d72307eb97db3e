"""Credentials that are exchanged for a projected file's token, with a stand-in that verifies it over real TLS."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from tests.support.exchange_server import ExchangeServer, exchange_server
from tests.support.signed_token import ISSUER, jwks, signed
from tests.support.token_endpoint import Leads, says_json
from tests.support.workload_api import SPIFFE_ID, workload_api

from tollhouse.credential.cloud.token_host import TokenHost
from tollhouse.credential.federation.federated_keys import Federated
from tollhouse.credential.federation.subject import REQUEST_TOKEN, REQUEST_URL, SubjectTokens
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.providers import BUILT_IN, Federation

[TERMS] = [one.exchange for one in BUILT_IN if one.exchange is not None and one.exchange.single_use]
AUDIENCE = "https://tollhouse.test"


@pytest.fixture(scope="module")
def server() -> Iterator[ExchangeServer]:
    with exchange_server() as running:
        running.keys, running.issuer = jwks, ISSUER
        yield running


@pytest.fixture
def file(tmp_path: Path, server: ExchangeServer) -> Path:
    server.clear()
    (tmp_path / "ca.pem").write_bytes(server.ca_pem)
    return tmp_path / "token"


def federated(
    file: Path, server: ExchangeServer, source: Any = "file", **environ: str
) -> Federated:
    parameters = dict.fromkeys(TERMS.parameters, "x")
    place = ("127.0.0.1", server.port)
    ca_file = str(file.parent / "ca.pem")
    entry = Federation(TERMS, source, str(file), AUDIENCE, parameters, place, ca_file)
    return Federated({"one": entry}, SubjectTokens(None, 5.0, environ=environ))


def put(file: Path, text: str) -> None:
    file.write_text(text)


async def test_a_token_that_is_taken_once_is_sent_once(file: Path, server: ExchangeServer) -> None:
    """However many ask, one exchange is made. The same file is not sent again, and its successor is."""
    made = federated(file, server)
    try:
        put(file, signed(jti="1") + "\n")
        leases = await asyncio.gather(*(made.get("one") for _ in range(20)))
        assert len({lease.fingerprint for lease in leases}) == len(server.received) == 1
        assert await made.refused(leases[0]) is None
        assert len(server.received) == 1
        [status] = made.status()
        assert status.error.startswith("subject: ")
        assert "takes a token once" in status.error
        made.forget()
        put(file, signed(jti="2"))
        assert (await made.get("one")).secret != leases[0].secret
        assert server.problems == []
    finally:
        await made.close()


async def test_a_lost_answer_uses_its_token_up(file: Path, server: ExchangeServer) -> None:
    made = federated(file, server)
    try:
        put(file, signed(jti="3"))
        server.act = says_json(503, {})
        with pytest.raises(StoreAway, match="network: "):
            await made.get("one")
        server.act = None
        made.forget()
        with pytest.raises(StoreAway, match="takes a token once"):
            await made.get("one")
        assert len(server.received) == 1
    finally:
        await made.close()


async def test_an_exchange_that_hangs_holds_nobody_for_ever(
    file: Path, server: ExchangeServer
) -> None:
    """Whoever waits is let go when the gateway stops; no frame of the error holds the token."""
    made = federated(file, server)
    over = threading.Event()
    token = signed()
    put(file, token)
    server.act = lambda handler: over.wait(20) and None
    waiting = asyncio.ensure_future(made.get("one"))
    await asyncio.to_thread(server.arrived.acquire)
    await made.close()
    with pytest.raises(CredentialUnavailable) as raised:
        await waiting
    over.set()
    frames = []
    trace = raised.value.__traceback__
    assert trace is not None
    # The first frame is this one.
    trace = trace.tb_next
    while trace is not None:
        frames.append(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next
    assert token not in "".join(frames)


async def test_github_signs_for_the_audience(file: Path, server: ExchangeServer) -> None:
    """The job's own token goes to GitHub alone."""
    environ = {
        REQUEST_URL: "https://pipelines.actions.githubusercontent.com/x?api-version=2",
        REQUEST_TOKEN: "the-jobs-own",
    }

    def host(url: str) -> TokenHost:
        return TokenHost(
            url, ca_file=file.parent / "ca.pem", resolver_factory=lambda: Leads(server.port)
        )

    entry = Federation(TERMS, "github", "", AUDIENCE, {})
    subjects = SubjectTokens(None, 5.0, environ=environ, github_host=host)
    assert (await subjects.token(entry)).jti == "github"
    [(name, path, _, headers)] = server.received
    assert (name, headers["authorization"]) == (
        "pipelines.actions.githubusercontent.com",
        "bearer the-jobs-own",
    )
    assert unquote(path) == f"/x?api-version=2&audience={AUDIENCE}"


async def test_the_workload_api_says_no(file: Path, server: ExchangeServer) -> None:
    """Without an identity for us there is nothing to try again; an agent that is away is asked again. Its words are not shown."""
    socket = file.parent / "agent.sock"
    entry = Federation(
        TERMS, "workload_api", str(socket), AUDIENCE, dict.fromkeys(TERMS.parameters, "x")
    )
    subjects = SubjectTokens(None, 5.0)

    async def refusal() -> CredentialUnavailable:
        with pytest.raises(CredentialUnavailable) as raised:
            await subjects.token(entry)
        assert raised.value.why.startswith("subject: ")
        assert "own" not in raised.value.why
        return raised.value

    away = await refusal()
    assert isinstance(away, StoreAway)
    assert "no socket of a Workload API" in away.why
    with workload_api(socket) as api:
        assert (await subjects.token(entry)).subject == SPIFFE_ID
        api.refuses = grpc.StatusCode.PERMISSION_DENIED
        refused = await refusal()
        assert not isinstance(refused, StoreAway)
        assert "has no identity for the gateway" in refused.why
        api.refuses = None
        api.gives = lambda audience: signed(sub=SPIFFE_ID, aud=["https://other.test"])
        assert "gives is no JWT-SVID" in (await refusal()).why
        api.refuses = grpc.StatusCode.UNAVAILABLE
        away = await refusal()
        assert isinstance(away, StoreAway)
        assert "does not answer (UNAVAILABLE)" in away.why


_SIGNED = "signed"
"""In the place of a token that is made when the test runs: one that is made when tests are collected may have ended by then."""


@pytest.mark.parametrize(
    ("source", "text", "environ", "why"),
    [
        ("file", None, {}, "can't be used: No such file"),
        ("file", "", {}, "it is empty"),
        ("file", "junk", {}, "gives no JWT"),
        ("spiffe", _SIGNED, {}, "is no JWT-SVID"),
        ("vault", "", {}, "no Vault that could sign"),
        ("github", "", {}, "is not set"),
        (
            "github",
            "",
            {REQUEST_URL: "https://evil.example/actions.githubusercontent.com", REQUEST_TOKEN: "x"},
            "goes nowhere else",
        ),
        (
            "github",
            "",
            {
                REQUEST_URL: "http://pipelines.actions.githubusercontent.com/?a=b",
                REQUEST_TOKEN: "x",
            },
            "goes nowhere else",
        ),
    ],
)
async def test_a_subject_that_is_not_there_is_said(
    file: Path,
    server: ExchangeServer,
    source: str,
    text: str | None,
    environ: dict[str, str],
    why: str,
) -> None:
    if text is not None:
        put(file, signed() if text == _SIGNED else text)
    made = federated(file, server, source, **environ)
    try:
        with pytest.raises(CredentialUnavailable, match=why) as raised:
            await made.get("one")
    finally:
        await made.close()
    assert raised.value.why.startswith("subject: ")
    assert server.received == []
