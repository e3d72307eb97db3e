"""Several keys in one secret, through the running gateway."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, DefaultHttpxClient, OpenAI
from tests.support.gateway import PLACEHOLDER
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.credential.secret import Secret
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin_script import Behaviour, reply

URL = "https://api.openai.com/v1/chat/completions"
KEYS = [f"sk-one-of-several-{secrets.token_urlsafe(24)}" for _ in range(4)]
PRINTS = [Secret(key).fingerprint for key in KEYS]
LIMITED = b'{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
REFUSED = reply(401, b'{"error":{"code":"invalid_api_key"}}')
EMPTY = b'{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    limits = {f"projects.{PROJECT}": {"limits": ["10 usd/day"]}}
    with open_inside(tmp_path_factory.mktemp("several"), limits) as inside:
        own = EmbeddedVault(inside.gateway.config.state.directory, "projects/{project}/{provider}")
        own.set("openai", json.dumps(KEYS), project=PROJECT)
        inside.standin.keys.update(KEYS)
        yield inside


@pytest.fixture
def inside(shared: Inside) -> Inside:
    """With keys that are all free and of which none was refused, whatever other tests did, and nothing in the book."""
    shared.do(forget(shared))
    shared.standin.clear()
    return shared


async def forget(inside: Inside) -> None:
    inside.gateway.keys.forget()


def ask(inside: Inside, **more: Any) -> httpx2.Response:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **more}
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        return client.post(URL, json=body)


def used(inside: Inside) -> list[int]:
    """Which key came with each request."""
    return [
        KEYS.index(one.get("authorization").removeprefix("Bearer "))
        for one in inside.standin.snapshot()
    ]


def line_of(inside: Inside, answer: httpx2.Response) -> dict[str, Any]:
    return next(
        line for line in inside.lines() if line["call_id"] == answer.headers["x-tollhouse-call-id"]
    )


def test_they_take_turns(inside: Inside) -> None:
    """Eight calls are two a key, and each line says which by its fingerprint."""
    lines = [line_of(inside, ask(inside)) for _ in range(8)]
    numbers = used(inside)
    assert sorted(numbers) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [line["key_version"] for line in lines] == [f"{PRINTS[number]}@1" for number in numbers]


BUSY = reply(429, LIMITED, [("retry-after-ms", "500")])
"""The wait is longer than the SDK of the test waits, so that the gateway leaves it to the SDK."""
ILL = reply(503, b'{"error":{"message":"ill"}}', [("retry-after-ms", "500")])


@pytest.mark.parametrize(
    ("first", "then", "attempts"),
    [
        ([], BUSY, 3),
        ([], reply(429, EMPTY), 3),
        ([], reply(402, EMPTY), 3),
        ([], REFUSED, 3),
        ([BUSY], REFUSED, 3),
        ([REFUSED], BUSY, 3),
        ([ILL], BUSY, 3),
        ([ILL, ILL], REFUSED, 3),
        ([BUSY, BUSY], reply(503, b"{}", [("retry-after-ms", "1")]), 3),
    ],
    ids=[
        "429",
        "429, no money",
        "402",
        "401",
        "429, 401",
        "401, 429",
        "503, 429",
        "503, 503, 401",
        "429, 429, 503",
    ],
)
def test_an_sdk_that_retries(
    inside: Inside, first: list[Behaviour], then: Behaviour, attempts: int
) -> None:
    """Whichever keys a call is sent with, and whoever sends it again, the provider sees it at most three times."""
    inside.standin.script(*first)
    inside.standin.always(then)
    client = DefaultHttpxClient(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    with OpenAI(api_key=PLACEHOLDER, http_client=client, timeout=0.5) as sdk:
        assert sdk.max_retries == 2
        with pytest.raises(APIStatusError):
            sdk.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hello"}]
            )
    assert len(used(inside)) == len(set(used(inside))) == attempts


def test_a_key_that_is_free_serves_the_next_call(inside: Inside) -> None:
    """A call meets at most three keys, and those that are limited are met by no other."""
    inside.standin.script(*[reply(429, LIMITED, [("retry-after", "60")])] * 3)
    assert ask(inside).status_code == 429
    met = used(inside)
    assert len(set(met)) == 3
    assert ask(inside).status_code == 200
    assert used(inside)[3] not in met


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_429_moves_on(inside: Inside, stream: bool) -> None:
    """The client gets its answer from the next key, and no other call meets the limited one while it cools."""
    inside.standin.script(reply(429, LIMITED, [("retry-after", "60")]))
    answer = ask(inside, stream=stream)
    assert answer.status_code == 200
    first, second = used(inside)
    assert first != second
    line = line_of(inside, answer)
    assert [attempt["outcome"] for attempt in line["attempts"]] == ["429", "200"]
    assert (line["key_version"], line["charged_by"]) == (f"{PRINTS[second]}@1", "usage")
    with ThreadPoolExecutor(8) as pool:
        statuses = [one.status_code for one in pool.map(lambda _: ask(inside), range(16))]
    assert statuses == [200] * 16
    assert first not in used(inside)[2:]
    assert set(used(inside)[2:]) == set(range(len(KEYS))) - {first}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, EMPTY),
        (402, b""),
        (400, b'{"error":{"message":"Billing hard limit","code":"billing_hard_limit_reached"}}'),
    ],
)
def test_an_empty_account_moves_on(inside: Inside, status: int, body: bytes) -> None:
    """No money with one key is no reason to refuse the call, however that is said."""
    inside.standin.script(reply(status, body))
    assert ask(inside).status_code == 200
    first, second = used(inside)
    assert first != second
    assert {ask(inside).status_code for _ in range(6)} == {200}
    assert first not in used(inside)[1:]


def test_all_limited(inside: Inside) -> None:
    """The client gets the provider's own answer, and each key was asked once."""
    inside.standin.always(reply(429, LIMITED, [("retry-after", "60"), ("x-should-retry", "false")]))
    answer = ask(inside)
    assert (answer.status_code, answer.content) == (429, LIMITED)
    assert len(set(used(inside))) == len(used(inside)) == 3


def test_a_refused_key_moves_on(inside: Inside) -> None:
    """401 to one of them: the secret is read again, and another one is used."""
    inside.standin.script(REFUSED)
    assert ask(inside).status_code == 200
    first, second = used(inside)
    assert first != second
    assert {ask(inside).status_code for _ in range(4)} == {200}
    assert first not in used(inside)[1:]


def test_keys_refused_in_place_of_a_refused_one(inside: Inside) -> None:
    """502 after the third; each is counted for the alarm, and left alone by the next call."""
    before = inside.gateway.keys.refusals()
    inside.standin.script(REFUSED, REFUSED, REFUSED)
    assert ask(inside).headers["x-tollhouse-reason"] == "credential_refused"
    met = used(inside)
    counted = {
        key[2]: count - before.get(key, 0) for key, count in inside.gateway.keys.refusals().items()
    }
    assert [counted[PRINTS[number]] for number in met] == [1, 1, 1]
    assert ask(inside).status_code == 200
    assert used(inside)[3] not in met
