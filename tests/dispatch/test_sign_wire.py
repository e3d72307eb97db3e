"""AWS signatures over the bytes that a provider of raw sockets received."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.dispatch.provider import FakeResolver, RawProvider, Request, answer, says
from tests.support import sigv4
from tests.support.calls import lease

from tollhouse.denial import Refused
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.upstream import Upstream
from tollhouse.families.bedrock import BEDROCK
from tollhouse.providers import Catalog, CredentialSlot, Provider

HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
KEYS = {
    "access_key_id": "AKIAOFTHETESTS",
    "secret_access_key": "secret/of+the=tests",
    "session_token": "token//of==",
}
LEASE = lease(json.dumps(KEYS), path="infrastructure/bedrock", kind="aws")
NOW = datetime(2026, 11, 23, 19, 30, tzinfo=UTC)


class Wire:
    """An `Upstream` and its provider on a loop of their own, for examples that are not coroutines."""

    def __init__(
        self, runner: asyncio.Runner, raw: RawProvider, upstream: Upstream, provider: Provider
    ) -> None:
        self._runner = runner
        self.raw = raw
        self._upstream = upstream
        self._provider = provider

    def send(self, target: str, headers: list[tuple[str, str]], body: bytes) -> Request:
        async def send() -> None:
            outgoing = Outgoing(self._provider, HOST, "POST", target, headers, body, LEASE)
            got = await self._upstream.send(outgoing, budget_s=10)
            while await got.read():
                pass
            await got.close()

        self._runner.run(send())
        return self.raw.received.pop()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def begin() -> Wire:
            raw = await stack.enter_async_context(RawProvider().running(None))
            provider = Provider(
                name="bedrock",
                family=BEDROCK,
                hosts=(HOST,),
                slot=CredentialSlot("authorization", "Bearer "),
                accepts=frozenset({"aws"}),
                port=raw.port,
                allow_private=True,
                unsafe_plaintext=True,
            )
            upstream = Upstream(
                Catalog((provider,)),
                resolver_factory=lambda: FakeResolver({HOST: [["127.0.0.1"]]}),
                wall_clock=NOW.timestamp,
            )
            await upstream.start()
            stack.push_async_callback(upstream.close)
            return Wire(runner, raw, upstream, provider)

        yield runner.run(begin())
        runner.run(stack.aclose())


def refusal(request: Request) -> str:
    method, target, _ = request.line.encode("latin-1").split(b" ")
    return sigv4.problem(
        method.decode(),
        target,
        request.headers,
        request.body,
        access_key=KEYS["access_key_id"],
        secret_key=KEYS["secret_access_key"],
        session_token=KEYS["session_token"],
        region="eu-west-1",
        now=NOW,
    )


CHARACTERS = st.text("azAZ09-._~!$&'()*,;=:@/", max_size=20)
ESCAPES = st.sampled_from(["%20", "%2F", "%3A", "%3a", "%25", "%C3%A9", "%41", ""])
PIECES = st.lists(st.tuples(CHARACTERS, ESCAPES).map("".join), max_size=4)
# What is refused instead: see `test_what_cannot_be_signed` of the signer.
QUERIES = st.lists(
    st.tuples(
        CHARACTERS.map(lambda text: "n" + text.replace(";", "").replace("&", "&n")), ESCAPES
    ).map("".join),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.filter_too_much], max_examples=150)
@given(
    path=PIECES.map("".join),
    query=QUERIES.map("&".join),
    value=st.text(
        st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=20
    ).filter(lambda text: "  " not in text),
    body=st.binary(max_size=300),
)
def test_any_url(wire: Wire, path: str, query: str, value: str, body: bytes) -> None:
    """What arrives, byte for byte, has the signature that AWS would compute of it."""
    assume("//" not in "/" + path and not {".", ".."} & set(path.split("/")))
    target = f"/{path}?{query}" if query else f"/{path}"
    request = wire.send(target, [("content-type", "application/json"), ("x-amz-note", value)], body)
    assert request.line == f"POST {target} HTTP/1.1"
    assert refusal(request) == ""


@pytest.mark.parametrize("size", [0, 262_144, 262_145, 1_000_000])
def test_any_body(wire: Wire, size: int) -> None:
    """Small and large ones, which are hashed in a thread."""
    request = wire.send(
        "/model/anthropic.claude-3-5-sonnet-20240620-v1:0/converse", [], b"x" * size
    )
    assert refusal(request) == ""


def test_of_each_header_one(wire: Wire) -> None:
    """The signature's headers stand once, and no other credential beside them."""
    request = wire.send("/model/m/converse", [("authorization", "x"), ("x-api-key", "x")], b"{}")
    assert refusal(request) == ""
    names = [name for name, _ in request.headers]
    assert len(names) == len(set(names))
    assert "x-api-key" not in names
    assert KEYS["secret_access_key"].encode() not in request.head


@pytest.mark.parametrize("target", ["/a?b=c+d", "/a?b=%FF", "/a?b=c;d=e", "/a?b&&c"])
def test_what_cannot_be_signed_is_not_sent(wire: Wire, target: str) -> None:
    """The workload is told what to write instead."""
    before = wire.raw.connections, len(wire.raw.received)
    with pytest.raises(Refused) as caught:
        wire.send(target, [], b"{}")
    assert (caught.value.denial.code, caught.value.denial.status) == ("bad_request", 400)
    assert (wire.raw.connections, len(wire.raw.received)) == before


@pytest.mark.parametrize(
    ("error", "date", "told"),
    [
        ("InvalidSignatureException", "Mon, 23 Nov 2026 19:40:00 GMT", "600 s behind"),
        ("InvalidSignatureException", "Mon, 23 Nov 2026 19:30:00 GMT", ""),
        ("AccessDeniedException", "Mon, 23 Nov 2026 19:40:00 GMT", ""),
    ],
)
def test_a_clock_that_is_off(
    wire: Wire, caplog: pytest.LogCaptureFixture, error: str, date: str, told: str
) -> None:
    """Of a refused signature the log says when the clocks differ."""
    wire.raw.behaviours.append(
        says(answer(403, b'{"message":"x"}', x_amzn_errortype=error, date=date))
    )
    with caplog.at_level(logging.ERROR):
        wire.send("/model/m/converse", [], b"{}")
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert told in said if told else not said
