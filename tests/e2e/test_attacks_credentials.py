"""A workload with a good gate token against the keys that it shares with others: whom it can make them speak for, and whether
it can spoil them; and what it gets of an answer that it does not pay.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, ScriptedReply, Steps, reply

OPENAI, GEMINI = "api.openai.com", "generativelanguage.googleapis.com"
CHAT = f"https://{OPENAI}/v1/chat/completions"
KEYS = [f"sk-one-of-several-{secrets.token_urlsafe(24)}" for _ in range(3)]
GEMINI_KEY = f"AIza{secrets.token_urlsafe(26)}"
ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
OF_JSON = [("content-type", "application/json")]
SSE = [("content-type", "text/event-stream")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with StandIn(hosts=(OPENAI, GEMINI)) as standin:
        entry = {"connect_to": standin.address, "allow_private": True, "ca_file": "provider-ca.pem"}
        settings: dict[str, dict[str, Any]] = {
            "providers.gemini": entry,
            f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
            "projects.poor": {"tenant": "poor", "limits": ["3000 tokens/day"]},
        }
        with open_inside(tmp_path_factory.mktemp("attacked"), settings, standin=standin) as inside:
            vault = EmbeddedVault(inside.gateway.config.state.directory)
            vault.set("openai", json.dumps(KEYS))
            vault.set("gemini", GEMINI_KEY)
            standin.keys.update(KEYS)
            yield inside


@pytest.fixture
def inside(shared: Inside) -> Inside:
    shared.do(forget(shared))
    shared.standin.clear()
    return shared


async def forget(inside: Inside) -> None:
    inside.gateway.keys.forget()


def client(inside: Inside, proxy: str = "") -> httpx2.Client:
    return httpx2.Client(
        proxy=proxy or inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    )


def ask(inside: Inside, **more: Any) -> httpx2.Response:
    with client(inside) as http:
        return http.post(CHAT, json={**ASKED, **more})


def used(inside: Inside) -> list[int]:
    """Which key came with each request."""
    return [
        KEYS.index(one.get("authorization").removeprefix("Bearer "))
        for one in inside.standin.snapshot()
    ]


@pytest.mark.parametrize(
    "query",
    [
        "$httpHeaders=Authorization:Bearer%20ya29.theirs%0D%0AX-Goog-User-Project:victim%0D%0A",
        "%24httpHeaders=X-Goog-Api-Key:AIzaTheirs",
        "%24HTTPHEADERS=Accept-Encoding:gzip%0D%0A",
        "+$httpHeaders=x-goog-api-key:AIzaTheirs",
        "$httpMethod=POST&$req=%7B%7D&$ct=application/json",
        "$key=AIzaTheirs&$userProject=victim&%24quotaUser=victim",
    ],
)
def test_a_second_head_in_the_query(inside: Inside, query: str) -> None:
    """Google's servers would take headers, method and body from it: a second key, another payer, another method."""
    inside.standin.always(reply(200, b"{}", OF_JSON))
    with client(inside) as http:
        answer = http.get(f"https://{GEMINI}/v1beta/models?pageSize=5&{query}&pageToken=x")
    assert answer.status_code == 200
    [received] = inside.standin.snapshot()
    assert received.target == "/v1beta/models?pageSize=5&pageToken=x"
    assert received.get_all("x-goog-api-key") == [GEMINI_KEY]


SCOPES = reply(
    401,
    b'{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read. Check",'
    b'"type":"invalid_request_error","param":null,"code":null}}',
    OF_JSON,
)
TOO_LARGE = reply(
    429,
    b'{"error":{"message":"Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, '
    b'Requested 61337.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}',
    [*OF_JSON, ("x-should-retry", "false"), ("retry-after", "60")],
)


def test_a_right_that_the_key_lacks(inside: Inside) -> None:
    """A restricted key's 401 goes to who asked for too much; for the others the key is as good as before."""
    inside.standin.always(SCOPES)
    with client(inside) as http:
        for _ in range(3):
            answer = http.get(f"https://{OPENAI}/v1/models")
            assert (answer.status_code, b"Missing scopes" in answer.content) == (401, True)
    assert sorted(used(inside)) == [0, 1, 2]
    assert set(inside.gateway.keys.refusals().values()) == {0}
    inside.standin.always(Behaviour())
    assert [ask(inside).status_code for _ in range(3)] == [200] * 3
    assert sorted(used(inside)[3:]) == [0, 1, 2]


def test_a_request_that_no_key_can_serve(inside: Inside) -> None:
    """One request that is larger than a minute's limit is tried with one key, and rests none: the others still move on."""
    inside.standin.script(TOO_LARGE)
    assert ask(inside).status_code == 429
    assert len(used(inside)) == 1
    inside.standin.script(
        reply(429, b'{"error":{"code":"rate_limit_exceeded"}}', [*OF_JSON, ("retry-after", "60")])
    )
    assert ask(inside).status_code == 200
    assert [ask(inside).status_code for _ in range(4)] == [200] * 4
    assert len(set(used(inside)[2:])) == 2


def event(text: str) -> bytes:
    return f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}],"model":"gpt-4o"}}\n\n'.encode()


def test_pieces_that_never_end_with_an_event(inside: Inside) -> None:
    """A client that reads slowly decides where pieces are cut: the stream ends at its limit all the same, with the reason."""
    whole = event("word " * 80) * 400 + b"data: [DONE]\n\n"
    size = len(event("word " * 80)) * 3 + 1
    steps = Steps()
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    inside.standin.script(Behaviour(reply=ScriptedReply(200, SSE, pieces), steps=steps))
    token = inside.do(inside.gateway.operations.perform("token_create", {"projects": ["poor"]}))[
        "token"
    ]
    body = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    seen = b""
    proxy = f"http://poor:{token}@{inside.gateway.addresses['proxy']}"
    steps.release()
    with client(inside, proxy) as http, http.stream("POST", CHAT, json=body) as answer:
        for piece in answer.iter_raw():
            seen += piece
            steps.release()
    steps.release_all()
    assert seen.rindex(b'\n\ndata: {"error": {"message": "') < seen.rindex(
        b'"code": "rate_limited"'
    )
    assert seen.count(b"word") < 2 * 3000
    line = inside.lines()[-1]
    assert (line["reason"], line["charged_by"]) == ("rate_limited", "estimate")
