"""The books agree, for every call: one line, one settle and what the stand-in wrote down, matched by call id.

Some 200 calls of every kind at once. Each has a tag of its own, which is its text, a header that the provider sees, and its
trace id, so that the provider's book can be matched with the lines, also for clients that never saw a call id.

It is long because the table of all kinds of calls stands in it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import random
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from aiohttp import web
from tests.support.gateway import REAL_KEY, open_road
from tests.support.inproc import PROJECT, TENANT, open_inside

from tollhouse.accounts.token import mint
from tollhouse.config.load import load_config
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_answers import chat_usage, text_tokens
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import (
    Behaviour,
    Latch,
    Steps,
    reply,
    reset_before_headers,
    reset_mid_body,
)
from tollhouse.ledger import names

Json = dict[str, Any]
HOST = "api.openai.com"
LIMITS = ["10 usd/total", "100000 requests/total", "1000 concurrent"]
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "limits": {"abandoned_read_s": 0.1},
    'prices."openai/gpt-4o"': {"input": "2.50", "output": "10"},
    'prices."openai/text-embedding-3-small"': {"input": "0.02", "output": "0"},
}
# Nano-dollars a token.
RATES = {"gpt-4o": (2_500, 10_000), "text-embedding-3-small": (20, 0)}


# What the provider does with a call is said by the call itself: the order in which calls arrive is nobody's.

NO_RETRY = [("x-should-retry", "false"), ("content-type", "application/json")]
ERROR = b'{"error":{"message":"no","type":"t","param":null,"code":"c"}}'


class Played(StandIn):
    """A stand-in that takes a request's behaviour from its header ``x-play``."""

    def __init__(self) -> None:
        super().__init__(key=REAL_KEY)
        self.hanging = Latch()
        first_frames = Steps()
        first_frames.release(3)
        self._parts: dict[str, Behaviour] = {
            "no usage": Behaviour(usage=False),
            "reset": reset_before_headers(),
            "cut": reset_mid_body(0),
            "cut stream": reset_mid_body(4),
            "hang": Behaviour(wait=self.hanging),
            "hang in the stream": Behaviour(steps=first_frames),
            **{str(status): reply(status, ERROR, NO_RETRY) for status in (400, 429, 500)},
        }
        self._once: set[str] = set()

    def behaviour(self, request: web.BaseRequest) -> Behaviour:
        usual = super().behaviour(request)
        part, tag = request.headers.get("x-play", ""), request.headers.get("x-tag", "")
        if part == "reset once":
            part = "" if tag in self._once else "reset"
            self._once.add(tag)
        return self._parts.get(part, usual)


# The kinds of calls.


def chat(tag: str, **more: Any) -> bytes:
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": f"say {tag}"}],
        "max_completion_tokens": 50,
    }
    return json.dumps({**body, **more}).encode()


def embeddings(tag: str) -> bytes:
    return json.dumps({"model": "text-embedding-3-small", "input": [f"one {tag}", "two"]}).encode()


@dataclass(frozen=True)
class Kind:
    """``statuses`` is what the client may see, 0 for an answer that never came or broke off; ``lines`` are the line's
    (status, charged_by) that may go with it."""

    count: int
    body: Callable[[str], bytes] | None
    statuses: set[int]
    lines: set[tuple[int, str]]
    play: str = ""
    path: str = "/v1/chat/completions"
    known: bool = True
    """The token is one that the gateway made."""
    leaves: str = ""
    """The client goes away: in its ``request``, when the provider has it (``before``), or in the ``stream``."""


OK = {(200, "usage")}
KINDS: Mapping[str, Kind] = {
    "plain": Kind(50, chat, {200}, OK),
    "several answers": Kind(6, lambda tag: chat(tag, n=3), {200}, OK),
    "streamed": Kind(40, lambda tag: chat(tag, stream=True), {200}, OK),
    "streamed, usage asked for": Kind(
        10, lambda tag: chat(tag, stream=True, stream_options={"include_usage": True}), {200}, OK
    ),
    "embeddings": Kind(20, embeddings, {200}, OK, path="/v1/embeddings"),
    "models": Kind(6, None, {200}, {(200, "none")}, path="/v1/models"),
    "a model that is not there": Kind(4, None, {404}, {(404, "none")}, path="/v1/models/none"),
    "no usage": Kind(6, chat, {200}, {(200, "hold")}, "no usage"),
    "no usage in the stream": Kind(
        4, lambda tag: chat(tag, stream=True), {200}, {(200, "hold")}, "no usage"
    ),
    "the provider says 400": Kind(5, chat, {400}, {(400, "none")}, "400"),
    "the provider says 429": Kind(4, chat, {429}, {(429, "none")}, "429"),
    "the provider says 500": Kind(4, chat, {500}, {(500, "none")}, "500"),
    # Of a request whose connection was lost the input's estimate is charged, once, when it is given up.
    "a reset, then an answer": Kind(
        4, chat, {200, 502}, {(200, "usage"), (502, "estimate")}, "reset once"
    ),
    "resets only": Kind(3, chat, {502}, {(502, "estimate")}, "reset"),
    # The reset can overtake the first bytes of the body: then there is a refusal.
    "cut": Kind(5, chat, {0, 502}, {(200, "estimate"), (502, "estimate")}, "cut"),
    "a stream that is cut": Kind(
        5,
        lambda tag: chat(tag, stream=True),
        {0},
        {(200, "estimate"), (502, "estimate")},
        "cut stream",
    ),
    "malformed": Kind(6, lambda tag: chat(tag)[:-1], {400}, {(400, "none")}),
    "a token of nobody's": Kind(5, chat, {401}, {(401, "none")}, known=False),
    "too dear": Kind(
        6, lambda tag: chat(tag, max_completion_tokens=2_000_000_000), {402}, {(402, "none")}
    ),
    "a path that is closed": Kind(5, chat, {403}, {(403, "none")}, path="/v1/audio/voices"),
    "a model without a price": Kind(
        4, lambda tag: chat(tag, model="nobodys-model"), {403}, {(403, "none")}
    ),
    "leaves in the request": Kind(4, chat, {0}, {(0, "none")}, leaves="request"),
    "leaves before the answer": Kind(5, chat, {0}, {(0, "disconnect")}, "hang", leaves="before"),
    "leaves in the stream": Kind(
        5,
        lambda tag: chat(tag, stream=True),
        {0},
        {(200, "disconnect")},
        "hang in the stream",
        leaves="stream",
    ),
}
NEVER_LEFT = {
    "malformed",
    "a token of nobody's",
    "too dear",
    "a path that is closed",
    "a model without a price",
    "leaves in the request",
}


@dataclass
class Planned:
    tag: str
    name: str
    status: int = 0
    """What the client saw; 0 if its answer never came or broke off."""
    call_id: str = ""

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


def plan() -> list[Planned]:
    """All calls, mixed, and each time in the same order."""
    calls = [Planned("", name) for name, kind in KINDS.items() for _ in range(kind.count)]
    random.Random(3).shuffle(calls)
    for number, call in enumerate(calls):
        call.tag = f"t{number:04d}-{secrets.token_hex(4)}"
    return calls


# One gateway, and its accounts.


@dataclass
class Accounts:
    """A gateway of its own, seen from all sides. ``lines`` waits for so many; ``used`` and ``held`` are by limit."""

    standin: Played
    proxy: tuple[str, int]
    token: str
    ca_file: Path
    lines: Callable[[int], list[Json]]
    records: Callable[[], list[dict[str, str]]]
    budget: Callable[[], dict[str, Json]]
    _local: threading.local = field(default_factory=threading.local)
    _clients: list[httpx2.Client] = field(default_factory=list)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    def client(self, *, http2: bool, known: bool) -> httpx2.Client:
        """One of this thread's."""
        made = self._local.__dict__.setdefault("clients", {})
        if (http2, known) not in made:
            token = self.token if known else mint(secrets.token_bytes(32))
            proxy = f"http://{PROJECT}:{token}@{self.proxy[0]}:{self.proxy[1]}"
            # Each its own: a client sets its protocols on the context.
            client = httpx2.Client(
                proxy=proxy, verify=self.context(), http2=http2, trust_env=False, timeout=60
            )
            made[http2, known] = client
            self._clients.append(client)
        found: httpx2.Client = made[http2, known]
        return found

    def make(self, call: Planned) -> None:
        """Make the call, and note what its client saw of it."""
        kind = call.kind
        if kind.leaves:
            self._leave(call)
            return
        client = self.client(http2=int(call.tag[1:5]) % 3 == 0, known=kind.known)
        headers = {"x-tag": call.tag, "x-play": kind.play, "x-coreason-trace-id": call.tag}
        body = kind.body(call.tag) if kind.body else None
        if body is not None:
            headers["content-type"] = "application/json"
        url = f"https://{HOST}{kind.path}"
        try:
            with client.stream(
                "GET" if body is None else "POST", url, content=body, headers=headers
            ) as answer:
                call.call_id = answer.headers["x-tollhouse-call-id"]
                answer.read()
                call.status = answer.status_code
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            pass  # It broke off.

    def _leave(self, call: Planned) -> None:
        kind = call.kind
        assert kind.body is not None
        body = kind.body(call.tag)
        credentials = base64.b64encode(f"{PROJECT}:{self.token}".encode()).decode()
        with socket.create_connection(self.proxy, timeout=30) as raw:
            raw.sendall(
                f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode()
            )
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")
            with self.context().wrap_socket(raw, server_hostname=HOST) as tls:
                head = (
                    f"POST {kind.path} HTTP/1.1\r\nHost: {HOST}\r\nX-Tag: {call.tag}\r\nX-Play: {kind.play}\r\n"
                    f"X-Coreason-Trace-ID: {call.tag}\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                tls.sendall(head.encode() + (body[:10] if kind.leaves == "request" else body))
                if kind.leaves == "request":
                    # A reset could overtake the request's head.
                    tls.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(OSError):
                        while tls.recv(65536):
                            pass
                    return
                if kind.leaves == "before":
                    assert self.standin.wait_for(
                        lambda book: any(one.get("x-tag") == call.tag for one in book), 30
                    )
                elif kind.leaves == "stream":
                    seen = b""
                    while b'"content":"The"' not in seen:
                        piece = tls.recv(65536)
                        assert piece, seen
                        seen += piece
                    call.call_id = (
                        seen.partition(b"x-tollhouse-call-id: ")[2].partition(b"\r\n")[0].decode()
                    )
                # Gone without a word: RST.
                tls.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def on_embedded(directory: Path) -> Iterator[Accounts]:
    settings = {**SETTINGS, f"projects.{PROJECT}": {"tenant": TENANT, "limits": LIMITS}}
    standin = Played()
    with open_inside(directory, settings, standin=standin) as inside:

        def lines(count: int) -> list[Json]:
            inside.until(
                lambda gateway: len(inside.lines()) >= count and not gateway.journey.under_way, 60
            )
            return inside.lines()

        def records() -> list[dict[str, str]]:
            found = inside.do(inside.gateway.redis.xrange(names.calls_key(TENANT)))
            return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in found]

        accounts = Accounts(
            standin,
            inside.proxy,
            inside.token,
            inside.ca_file,
            lines,
            records,
            lambda: dict(inside.budget()),
        )
        with contextlib.closing(accounts):
            yield accounts
        standin.hanging.open()


@contextlib.contextmanager
def on_real_stores(directory: Path) -> Iterator[Accounts]:
    standin = Played()
    with open_road(
        directory, SETTINGS, stores="real", standin=standin, project=PROJECT, limits=LIMITS
    ) as road:
        store = redis.Redis.from_url(
            load_config(road.gateway.config).redis.url, decode_responses=True
        )
        host, _, port = road.gateway.proxy.rpartition(":")
        accounts = Accounts(
            standin,
            (host, int(port)),
            road.token,
            road.ca_file,
            lambda count: road.wait_lines(count, 60),
            lambda: [fields for _, fields in store.xrange(names.calls_key(TENANT))],
            road.budget,
        )
        with contextlib.closing(store), contextlib.closing(accounts):
            yield accounts
        standin.hanging.open()


STORES = {"embedded": on_embedded, "real": on_real_stores}


@pytest.mark.parametrize("stores", STORES)
def test_the_books_agree(tmp_path: Path, stores: str) -> None:
    """Whatever became of a call: lines, settles, the ledger and the provider's book say the same of it."""
    calls = plan()
    with STORES[stores](tmp_path) as accounts:
        with ThreadPoolExecutor(12) as pool:
            for made in [pool.submit(accounts.make, call) for call in calls]:
                made.result(120)
        lines = accounts.lines(len(calls))
        book = accounts.standin.snapshot()
        one_line_a_call(calls, lines)
        what_the_provider_saw(calls, lines, book)
        one_settle_a_call(calls, lines, accounts.records())
        the_ledger(lines, accounts.records(), accounts.budget())


def by_tag(lines: Sequence[Json]) -> dict[str, Json]:
    return {line["trace_id"]: line for line in lines}


def one_line_a_call(calls: Sequence[Planned], lines: Sequence[Json]) -> None:
    """Each with an id of its own, which is the one that its client saw, and with an ending that its kind can have."""
    assert len(lines) == len(calls)
    assert len({line["call_id"] for line in lines}) == len(calls)
    tagged = by_tag(lines)
    assert tagged.keys() == {call.tag for call in calls}
    for call in calls:
        line = tagged[call.tag]
        assert call.call_id in ("", line["call_id"]), call
        assert call.status in call.kind.statuses, (call, line)
        assert (line["status"], line["charged_by"]) in call.kind.lines, (call, line)
        if call.status:
            assert (call.status, call.call_id) == (line["status"], line["call_id"])


def what_the_provider_saw(
    calls: Sequence[Planned], lines: Sequence[Json], book: Sequence[Received]
) -> None:
    """It has each attempt of each call that left, nothing else, and counted what the lines say."""
    received = {
        tag: list(group) for tag, group in itertools.groupby(sorted(book, key=tag_of), tag_of)
    }
    tagged = by_tag(lines)
    assert received.keys() == {call.tag for call in calls if call.name not in NEVER_LEFT}
    for tag, group in received.items():
        line = tagged[tag]
        assert len(group) == len(line["attempts"]), line
        assert len({one.body for one in group}) == 1
        if group[0].method == "POST":
            assert tag in str(group[0].document())
        if line["charged_by"] == "usage":
            assert (line["tokens"]["input"], line["tokens"]["output"]) == counted(group[-1])


def tag_of(received: Received) -> str:
    return received.get("x-tag")


def counted(received: Received) -> tuple[int, int]:
    """Input and output tokens by the stand-in's own rule."""
    document = received.document()
    if received.target == "/v1/embeddings":
        return sum(map(text_tokens, document["input"])), 0
    usage = chat_usage(document)
    return usage["prompt_tokens"], usage["completion_tokens"]


def one_settle_a_call(
    calls: Sequence[Planned], lines: Sequence[Json], records: Sequence[Mapping[str, str]]
) -> None:
    """The tenant's stream has each call that left once, as its line has it; what never left was given back."""
    tagged = by_tag(lines)
    left = {
        tagged[call.tag]["call_id"]: tagged[call.tag]
        for call in calls
        if call.name not in NEVER_LEFT
    }
    assert len(records) == len(left)
    assert {record["call_id"] for record in records} == left.keys()
    for record in records:
        line = left[record["call_id"]]
        assert record["settled_by"] == "hold"
        assert {key: record[key] for key, value in line.items() if isinstance(value, str)} == {
            key: value for key, value in line.items() if isinstance(value, str)
        }
        assert json.loads(record["tokens"]) == line["tokens"]
        assert json.loads(record["attempts"]) == line["attempts"]
    for line in lines:
        if line["call_id"] not in left:
            assert (line["cost_usd"], line["attempts"]) == ("0", [])


def the_ledger(
    lines: Sequence[Json],
    records: Sequence[Mapping[str, str]],
    budget: Mapping[str, Mapping[str, Any]],
) -> None:
    """It was charged what the lines say, to the nano-dollar, by the price of what was counted; nothing is held."""
    for line in lines:
        if line["charged_by"] == "usage":
            into, out = RATES[line["model"]]
            nano_usd = line["tokens"]["input"] * into + line["tokens"]["output"] * out
            assert Decimal(line["cost_usd"]) == Decimal(nano_usd) / 10**9
        elif line["charged_by"] == "none":
            assert line["cost_usd"] == "0"
        else:
            assert 0 < Decimal(line["cost_usd"]) <= Decimal(line["held_usd"])
    assert Decimal(budget["10 usd/total"]["used"]) == sum(
        Decimal(line["cost_usd"]) for line in lines
    )
    assert Decimal(budget["100000 requests/total"]["used"]) == len(records)
    assert {limit["held"] for limit in budget.values()} == {"0"}
