"""The retry table through the running gateway: how often the provider was asked, and what the client got.

Each row has a provider of its own, and with it a retry budget and breakers of its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from openai import DefaultHttpxClient, OpenAI, OpenAIError
from tests.support.gateway import PLACEHOLDER, REAL_KEY
from tests.support.inproc import Inside, open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Latch, reply, reset_before_headers

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "once"}]}
ASKED: dict[str, Any] = {"model": "gpt-4o", "input": "once", "store": False}
KEPT: dict[str, Any] = {"model": "gpt-4o", "input": "once"}
"""The provider keeps the answer: a second request would make a second one."""
SOON = ("retry-after-ms", "1")
CLOSED = Behaviour(cut_after=-1, cut="close")


def says(status: int, *headers: tuple[str, str], body: bytes = b'{"error":{}}') -> Behaviour:
    return reply(status, body, [SOON, *headers])


class Case(NamedTuple):
    script: Sequence[Behaviour]
    """What the provider does with each attempt; with those behind it: a good answer."""
    asked: int
    """How often the provider was asked."""
    status: int = 200
    body: dict[str, Any] = CHAT
    headers: Sequence[tuple[str, str]] = ()
    stop: bool = False
    """The SDK is told to stop."""
    fresh: bool = True
    """The first attempt goes over a new connection, and not over one that was used before."""
    path: str = "/v1/chat/completions"
    settings: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


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
    "no answer in time": Case([Behaviour(wait=Latch())], 2, settings={"answer_timeout_s": 0.5}),
    "no HTTP": Case([Behaviour(raw=b"SSH-2.0-OpenSSH\r\n\r\n")], 1, 502),
    # What the provider keeps is not made twice.
    **{f"kept, {status}": kept([says(status)], 1, status) for status in (408, 500, 502, 503, 504)},
    **{f"kept, {status}": kept([says(status)], 2) for status in (429, 529)},
    "kept, 503 and said to": kept([says(503, ("x-should-retry", "true"))], 2),
    "kept, lost": kept([reset_before_headers()], 1, 502, stop=True),
    "kept, stale": kept([CLOSED], 1, 502, stop=True, fresh=False),
    "not kept, 503": stateless([says(503)], 2),
    "not kept, lost": stateless([reset_before_headers()], 2),
    "not kept, stale": stateless([CLOSED], 2, fresh=False),
}
GOOGLES = "generativelanguage.googleapis.com"
"""By this ending of its host the stand-in knows that it is Google."""
HOSTS = {
    name: f"row{number}.{GOOGLES if 'contents' in case.body else 'rows.test'}"
    for number, (name, case) in enumerate(CASES.items())
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway with a provider for each row, all of them one stand-in."""
    directory = tmp_path_factory.mktemp("rows")
    with StandIn(key=REAL_KEY, hosts=("api.openai.com", "*.rows.test", f"*.{GOOGLES}")) as standin:
        entries = {
            f"providers.{host.partition('.')[0]}": {
                "family": "openai",
                "hosts": [host],
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": "provider-ca.pem",
                **CASES[name].settings,
            }
            for name, host in HOSTS.items()
        }
        settings = {**entries, "projects.proj_123": {"tenant": "acme", "limits": []}}
        settings["projects.proj_123"]["unpriced"] = "dearest"
        with open_inside(directory, settings, standin=standin) as inside:
            for host in HOSTS.values():
                EmbeddedVault(directory / "state").set(host.partition(".")[0], REAL_KEY)
            yield inside


@pytest.mark.parametrize("name", CASES)
def test_a_row(rows: Inside, name: str) -> None:
    """The provider is asked so often, and the answer says how often it was, and whether the SDK may ask again."""
    case, host, standin = CASES[name], HOSTS[name], rows.standin
    standin.clear()
    last = [("connection", "close")] if case.fresh else []
    standin.script(Behaviour(headers=last), *case.script)
    with httpx2.Client(
        proxy=rows.proxy_url, verify=rows.context, trust_env=False, timeout=30
    ) as client:
        url = f"https://{host}{case.path}"
        assert client.post(url, json=case.body).status_code == 200
        answer = client.post(url, json=case.body, headers=dict(case.headers))
    asked = standin.snapshot()[1:]
    assert (answer.status_code, len(asked)) == (case.status, case.asked)
    assert answer.headers["x-tollhouse-attempts"] == str(case.asked)
    assert (answer.headers.get("x-should-retry") == "false") is case.stop
    assert len({one.body for one in asked}) == 1
    line = rows.lines()[-1]
    assert len(line["attempts"]) == case.asked
    if not case.fresh:
        assert asked[0].connection == standin.snapshot()[0].connection
    assert rows.held() == []


# With the retries of the SDK itself.


@contextlib.contextmanager
def an_sdk(inside: Inside) -> Iterator[OpenAI]:
    client = DefaultHttpxClient(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    with OpenAI(api_key=PLACEHOLDER, http_client=client) as sdk:
        assert sdk.max_retries == 2
        yield sdk


def far(wait_ms: int) -> Behaviour:
    return reply(503, b'{"error":{"message":"no"}}', [("retry-after-ms", str(wait_ms))])


@pytest.mark.parametrize(
    "behaviours",
    [
        [far(1)] * 9,
        [far(400)] * 9,
        [far(1), *[far(400)] * 8],
        [far(400), *[far(1)] * 8],
        [says(429)] * 9,
        [reset_before_headers()] * 9,
        [far(1), *[reset_before_headers()] * 8],
        [says(500, ("x-should-retry", "true"))] * 9,
        [far(1), *[says(409)] * 8],
        [far(1), *[says(501)] * 8],
        [far(1), *[Behaviour(raw=b"SSH-2.0-OpenSSH\r\n\r\n")] * 8],
    ],
    ids=[
        "near",
        "far",
        "near, far",
        "far, near",
        "429",
        "lost",
        "503, lost",
        "said to",
        "503, 409",
        "503, 501",
        "503, no HTTP",
    ],
)
def test_an_sdk_that_retries(tmp_path: Path, behaviours: list[Behaviour]) -> None:
    """Whatever the provider says, it sees at most three requests for one call of the user."""
    settings = {"providers.openai": {"deadline_s": 0.35}}
    with open_inside(tmp_path, settings) as inside, an_sdk(inside) as sdk:
        inside.standin.script(*behaviours)
        with pytest.raises(OpenAIError):
            sdk.chat.completions.create(**CHAT)
        # A slow machine comes to the deadline earlier.
        seen = len(inside.standin.snapshot())
        assert 2 <= seen <= 3
        if behaviours == [far(400)] * 9:
            assert seen == 3, "each request of the SDK is one attempt"


def test_an_answer_that_is_no_http(tmp_path: Path) -> None:
    """What the provider keeps may have been made: neither the gateway nor the SDK sends it again."""
    with open_inside(tmp_path) as inside, an_sdk(inside) as sdk:
        inside.standin.always(Behaviour(raw=b"SSH-2.0-OpenSSH\r\n\r\n"))
        with pytest.raises(OpenAIError, match="see whether it has"):
            sdk.responses.create(**KEPT)
        assert len(inside.standin.snapshot()) == 1


def test_an_sdk_whose_time_is_over(tmp_path: Path) -> None:
    """A second attempt that hangs is given up before the SDK goes by itself, which would try it all again."""
    gate = Latch()
    with open_inside(tmp_path) as inside, an_sdk(inside) as sdk:
        inside.standin.script(far(1))
        inside.standin.always(Behaviour(wait=gate))
        with pytest.raises(OpenAIError) as caught:
            sdk.with_options(timeout=5.0).chat.completions.create(**CHAT)
        gate.open()
        assert "while the client still waits" in str(caught.value)
        assert len(inside.standin.snapshot()) == 2
