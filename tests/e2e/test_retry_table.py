"""The retry table through the running gateway: how often the provider was asked, and what the client got.

Each row has a provider of its own, and with it a retry budget and breakers of its own.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, NamedTuple

import httpx2
import pytest
from tests.support.faulty import (
    FaultyProvider,
    Wire,
    reset_at_accept,
    tls_alert,
    tls_that_hangs,
)
from tests.support.gateway import REAL_KEY
from tests.support.inproc import Inside, open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import (
    Behaviour,
    Latch,
    Steps,
    reply,
    reset_before_headers,
    reset_mid_body,
)

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "once"}]}
ASKED: dict[str, Any] = {"model": "gpt-4o", "input": "once", "store": False}
KEPT: dict[str, Any] = {"model": "gpt-4o", "input": "once"}
"""The provider keeps the answer: a second request would make a second one."""
CUT = 0
"""In place of a status: the answer's head came, and not all of its body."""
SOON = ("retry-after-ms", "1")
CLOSED = Behaviour(cut_after=-1, cut="close")


OWN = "the provider's own words"
"""In place of the text of an error."""


def says(
    status: int,
    *headers: tuple[str, str],
    body: bytes = json.dumps({"error": {"message": OWN}}).encode(),
) -> Behaviour:
    return reply(status, body, [SOON, *headers])


class Case(NamedTuple):
    script: Sequence[Behaviour]
    """What the provider does with each request; with those behind it: a good answer."""
    asked: int
    """How often the provider was asked, a connection that was lost below HTTP among them."""
    status: int = 200
    body: dict[str, Any] = CHAT
    upload: bool = False
    """It is a form with a file."""
    spoiled: Sequence[Callable[[Wire], None]] = ()
    """What becomes of the first connections, before a request can be written to them."""
    good: Behaviour = Behaviour()
    overdue: bool = False
    """The call has lasted for `call_timeout_s` when the script is at its end."""
    headers: Sequence[tuple[str, str]] = ()
    stop: bool = False
    """The SDK is told to stop."""
    fresh: bool = True
    """The first attempt goes over a new connection, and not over one that was used before."""
    path: str = "/v1/chat/completions"
    settings: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    keys: int = 1
    """How many its secret has."""


def kept(script: Sequence[Behaviour], asked: int, status: int = 200, **more: Any) -> Case:
    return Case(script, asked, status, body=KEPT, path="/v1/responses", **more)


def stateless(script: Sequence[Behaviour], asked: int, status: int = 200, **more: Any) -> Case:
    return Case(script, asked, status, body=ASKED, path="/v1/responses", **more)


def google(delay: str, asked: int, status: int = 200) -> Case:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [info]}
    return Case(
        [reply(429, json.dumps({"error": error}).encode())],
        asked,
        status,
        body={"contents": [{"role": "user", "parts": [{"text": "once"}]}]},
        path="/v1beta/models/gemini-2.5-flash:generateContent",
        settings={"family": "gemini"},
    )


BEGUN = Steps()
"""The beginning of an answer comes, and no more."""
BEGUN.release(2)
COUNT = "x-stainless-retry-count"
CASES: dict[str, Case] = {
    **{f"{status}, then well": Case([says(status)], 2) for status in (408, 429, 500, 502, 503)},
    **{f"{status}, then well ": Case([says(status)], 2) for status in (504, 529)},
    **{f"{status}": Case([says(status)], 1, status) for status in (400, 403, 404, 409, 422, 501)},
    "always 503": Case([says(503)] * 3, 3, 503, stop=True),
    "said not to": Case([says(503, ("x-should-retry", "false"))], 1, 503, stop=True),
    "said to": Case([says(409, ("x-should-retry", "true"))], 2),
    "retry-after": Case([reply(429, b"{}", [("retry-after", "0.001")])], 2),
    "retry-after, a date": Case(
        [reply(429, b"{}", [("retry-after", formatdate(0, usegmt=True))])], 2
    ),
    "RetryInfo": google("0.001s", 2),
    "RetryInfo, beyond the deadline": google("60s", 1, 429),
    "a wait beyond the deadline": Case([reply(429, b"{}", [("retry-after", "60")])], 1, 429),
    "a wait beyond the client's patience": Case(
        [reply(429, b"{}", [("retry-after", "4")])],
        1,
        429,
        headers=[("x-stainless-read-timeout", "3.0")],
    ),
    "no money": Case(
        [says(429, body=b'{"error":{"code":"insufficient_quota"}}')], 1, 429, stop=True
    ),
    "the SDK retries": Case([says(503)], 1, 503, headers=[(COUNT, "1")]),
    "the SDK retries for the last time": Case(
        [says(503)], 1, 503, headers=[(COUNT, "2")], stop=True
    ),
    # A key that is refused costs an attempt, and what follows has another one.
    "refused, and no other key": Case([says(401)], 1, 502, stop=True),
    "refused, then well": Case([says(401)], 2, keys=2),
    "refused, and one attempt is allowed": Case([says(401)], 2, keys=2, settings={"attempts": 1}),
    "refused, and the SDK retries": Case([says(401)], 2, keys=2, headers=[(COUNT, "1")]),
    "refused, and the SDK has retried twice": Case(
        [says(401)], 1, 502, keys=2, headers=[(COUNT, "2")], stop=True
    ),
    "refused, 503": Case([says(401), says(503)], 3, keys=2),
    "refused, 503, 503": Case([says(401), says(503), says(503)], 3, 503, keys=2, stop=True),
    "503, refused": Case([says(503), says(401)], 3, keys=2),
    "503, 503, refused": Case([says(503), says(503), says(401)], 3, 502, keys=2, stop=True),
    "two are refused": Case([says(401)] * 2, 3, keys=3),
    "two are refused, and there is no third": Case([says(401)] * 2, 2, 502, keys=2, stop=True),
    "three are refused": Case([says(401)] * 3, 3, 502, keys=4, stop=True),
    "429, refused": Case([says(429), says(401)], 3, keys=3),
    "lost": Case([reset_before_headers()], 2),
    "lost, and the SDK retries": Case([reset_before_headers()], 1, 502, headers=[(COUNT, "1")]),
    "lost always": Case([reset_before_headers()] * 3, 3, 502, stop=True),
    "stale": Case([CLOSED], 2, fresh=False),
    "stale, by a reset": Case([reset_before_headers()], 2, fresh=False),
    "stale, and one attempt is allowed": Case([CLOSED], 2, fresh=False, settings={"attempts": 1}),
    "stale, and the SDK retries": Case([CLOSED], 2, fresh=False, headers=[(COUNT, "1")]),
    "stale, and the SDK has retried twice": Case(
        [CLOSED], 1, 502, fresh=False, headers=[(COUNT, "2")], stop=True
    ),
    # Nothing was written.
    "a TLS failure, then well": Case([], 2, spoiled=[tls_alert]),
    "TLS failures": Case([], 3, 502, spoiled=[tls_alert] * 3, stop=True),
    "a TLS failure, and the SDK retries": Case(
        [], 1, 502, headers=[(COUNT, "1")], spoiled=[tls_alert], stop=True
    ),
    "lost before the request was written": Case([], 2, spoiled=[reset_at_accept]),
    "lost always before the request was written": Case(
        [], 3, 502, spoiled=[reset_at_accept] * 3, stop=True
    ),
    "no connection in time": Case(
        [],
        2,
        504,
        spoiled=[tls_that_hangs] * 2,
        stop=True,
        settings={"connect_timeout_s": 0.3, "attempts": 2},
    ),
    # Time-outs once it was.
    "no first byte in time": Case(
        [Behaviour(wait=Latch())] * 2,
        2,
        504,
        stop=True,
        settings={"answer_timeout_s": 0.3, "attempts": 2},
    ),
    "silence behind the head": Case(
        [Behaviour(steps=Steps())], 1, 504, settings={"silence_timeout_s": 0.3}
    ),
    "silence in a stream": Case(
        [Behaviour(steps=BEGUN)],
        1,
        CUT,
        body={**CHAT, "stream": True},
        settings={"silence_timeout_s": 0.3},
    ),
    "lost in the body": Case([reset_mid_body(0)], 1, CUT),
    "the whole call's time is over": Case(
        [says(503), Behaviour(wait=Latch())], 2, 504, overdue=True
    ),
    "no HTTP": Case([Behaviour(raw=b"SSH-2.0-OpenSSH\r\n\r\n")], 1, 502),
    # What the provider keeps is not made twice.
    **{f"kept, {status}": kept([says(status)], 1, status) for status in (408, 500, 502, 503, 504)},
    **{f"kept, {status}": kept([says(status)], 2) for status in (429, 529)},
    "kept, refused": kept([says(401)], 2, keys=2),
    "kept, 503 and said to": kept([says(503, ("x-should-retry", "true"))], 2),
    "kept, lost": kept([reset_before_headers()], 1, 502, stop=True),
    "kept, stale": kept([CLOSED], 1, 502, stop=True, fresh=False),
    "kept, TLS failure": kept([], 2, spoiled=[tls_alert]),
    "kept, no connection in time": kept(
        [],
        2,
        504,
        spoiled=[tls_that_hangs] * 2,
        stop=True,
        settings={"connect_timeout_s": 0.3, "attempts": 2},
    ),
    "kept, no first byte in time": kept(
        [Behaviour(wait=Latch())], 1, 504, stop=True, settings={"answer_timeout_s": 0.3}
    ),
    "not kept, 503": stateless([says(503)], 2),
    "not kept, lost": stateless([reset_before_headers()], 2),
    "not kept, stale": stateless([CLOSED], 2, fresh=False),
}
JOB = b'{"id":"job-1","object":"job","status":"queued"}'
BATCHES = "/v1/batches"
OPENED: dict[str, Any] = {
    "share_objects": True,
    "allow": ["POST /v1/batches", "POST /v1/fine_tuning/jobs", "POST /v1/threads/runs"],
    "job_hold_usd": 1,
}
CREATING: dict[str, dict[str, Any]] = {
    "upload": {"path": "/v1/files", "upload": True},
    "batch": {
        "path": BATCHES,
        "body": {
            "input_file_id": "file-1",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
    },
    "fine-tune": {
        "path": "/v1/fine_tuning/jobs",
        "body": {"model": "gpt-4o-mini", "training_file": "file-1"},
    },
    "thread": {"path": "/v1/threads", "body": {"messages": [{"role": "user", "content": "x"}]}},
    "run": {"path": "/v1/threads/runs", "body": {"assistant_id": "asst_1", "thread": {}}},
}
"""What a second request would make a second time, beside a response that is kept."""
for what, request in CREATING.items():
    more = {**request, "settings": OPENED, "good": reply(200, JOB)}
    CASES |= {
        f"{what}, 503": Case([says(503)], 1, 503, **more),
        f"{what}, lost": Case([reset_before_headers()], 1, 502, stop=True, **more),
        f"{what}, stale": Case([CLOSED], 1, 502, stop=True, fresh=False, **more),
        f"{what}, 429": Case([says(429)], 2, **more),
        f"{what}, lost before the request was written": Case(
            [], 2, spoiled=[reset_at_accept], **more
        ),
    }
GOOGLES = "generativelanguage.googleapis.com"
"""By this ending of its host the stand-in knows that it is Google."""
HOSTS = {
    name: f"row{number}.{GOOGLES if 'contents' in case.body else 'rows.test'}"
    for number, (name, case) in enumerate(CASES.items())
}


class Door:
    """Before the stand-in: it spoils the next connections as it was told, and lets the others through."""

    def __init__(self, standin: StandIn) -> None:
        self.spoil: list[Callable[[Wire], None]] = []
        self.spoiled = 0
        self._standin = standin

    def __call__(self, wire: Wire) -> None:
        if self.spoil:
            self.spoiled += 1
            self.spoil.pop(0)(wire)
        else:
            wire.through(self._standin.address)


class Rows(NamedTuple):
    inside: Inside
    door: Door

    def post(self, host: str, case: Case, headers: Sequence[tuple[str, str]]) -> Answered:
        with (
            httpx2.Client(
                proxy=self.inside.proxy_url,
                verify=self.inside.context,
                trust_env=False,
                timeout=30,
            ) as client,
            client.stream(
                "POST",
                f"https://{host}{case.path}",
                headers=dict(headers),
                **(
                    {"files": {"file": ("a.jsonl", b"{}")}, "data": {"purpose": "batch"}}
                    if case.upload
                    else {"json": case.body}
                ),
            ) as answer,
        ):
            try:
                answer.read()
            except (httpx2.RemoteProtocolError, httpx2.ReadError):
                return Answered(CUT, answer.headers, "")
            return Answered(answer.status_code, answer.headers, answer.text)


class Answered(NamedTuple):
    status: int
    headers: httpx2.Headers
    text: str


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    """A gateway with a provider for each row, all of them one stand-in."""
    directory = tmp_path_factory.mktemp("rows")
    with (
        StandIn(key=REAL_KEY, hosts=("api.openai.com", "*.rows.test", f"*.{GOOGLES}")) as standin,
        FaultyProvider(door := Door(standin), ssl.create_default_context()).running() as faulty,
    ):
        entries = {
            f"providers.{host.partition('.')[0]}": {
                "family": "openai",
                "hosts": [host],
                "connect_to": f"127.0.0.1:{faulty.port}"
                if CASES[name].spoiled
                else standin.address,
                "allow_private": True,
                "ca_file": "provider-ca.pem",
                **CASES[name].settings,
            }
            for name, host in HOSTS.items()
        }
        settings = {**entries, "projects.proj_123": {"tenant": "acme", "limits": []}}
        settings["projects.proj_123"]["unpriced"] = "dearest"
        with open_inside(directory, settings, standin=standin) as inside:
            for name, host in HOSTS.items():
                row, count, secret = host.partition(".")[0], CASES[name].keys, REAL_KEY
                if count > 1:
                    # What is found of a key holds for all providers.
                    keys = [f"{REAL_KEY}-{row}-{number}" for number in range(count)]
                    standin.keys.update(keys)
                    secret = json.dumps(keys)
                EmbeddedVault(directory / "state").set(row, secret)
            yield Rows(inside, door)


@pytest.mark.parametrize("name", CASES)
def test_a_row(rows: Rows, name: str) -> None:
    """The provider is asked so often, and the answer says how often it was, and whether the SDK may ask again."""
    case, host, inside, door = CASES[name], HOSTS[name], rows.inside, rows.door
    standin = inside.standin
    standin.clear()
    standin.always(case.good)
    if not case.fresh:
        assert rows.post(host, case, ()).status == 200
    before = standin.snapshot()
    standin.script(*case.script)
    door.spoil, door.spoiled = list(case.spoiled), 0
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(rows.post, host, case, case.headers)
        if case.overdue:
            standin.wait_count(len(case.script))
            inside.do(_end_overdue(inside))
        answer = asking.result()
    asked = standin.snapshot()[len(before) :]
    assert (answer.status, len(asked) + door.spoiled) == (case.status, case.asked)
    if case.status != CUT:
        assert answer.headers["x-tollhouse-attempts"] == str(case.asked)
        assert (answer.headers.get("x-should-retry") == "false") is case.stop
    assert len({one.body for one in asked}) <= 1
    inside.until(lambda gateway: not gateway.journey.under_way)
    line = inside.lines()[-1]
    assert len(line["attempts"]) == case.asked
    # No attempt follows with a key that was refused.
    met = [one.get("authorization") for one in asked]
    for number, attempt in enumerate(line["attempts"]):
        assert attempt["outcome"] != "401" or met[number] not in met[number + 1 :]
    # The client is not told that a key is wrong: it is none of the client's. Every other last answer is the provider's own.
    last = line["attempts"][-1]["outcome"]
    assert (answer.headers.get("x-tollhouse-reason") == "credential_refused") is (last == "401")
    said = case.script[-1].reply if case.script else None
    passed_on = said is not None and said.status == case.status and OWN.encode() in said.body
    assert (OWN in answer.text) is passed_on
    if not case.fresh:
        assert asked[0].connection == before[0].connection
    # What a batch holds is held until it is over.
    assert (line["call_id"] in inside.held()) is (case.path == BATCHES and case.status == 200)


async def _end_overdue(inside: Inside) -> None:
    inside.gateway.journey.end_overdue(0.0)
