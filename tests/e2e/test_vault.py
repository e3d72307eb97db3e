"""Keys that rotate under load, and a Vault that is slow, stopped, or gone for longer than that, through the running gateway."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao import OpenBao

from tollhouse.check.vault import check_vault
from tollhouse.credential.entry import KeyStatus

KEY_PATH = "infrastructure/openai"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def a_key() -> str:
    return f"sk-of-this-test-{secrets.token_urlsafe(24)}"


@contextmanager
def on(directory: Path, openbao: OpenBao, key: str, **vault: Any) -> Iterator[Inside]:
    """A gateway whose keys are in ``openbao``; its provider takes ``key`` alone."""
    files = {
        "role_id_file": str(openbao.role_id_file),
        "secret_id_file": str(openbao.secret_id_file),
    }
    settings: dict[str, dict[str, Any]] = {
        "vault": {"address": openbao.address, "auth": {"method": "approle", **files}, **vault},
        f"projects.{PROJECT}": {"limits": ["1000 usd/day"]},
    }
    openbao.put(KEY_PATH, {"api_key": key})
    with open_inside(directory, settings) as inside:
        inside.standin.keys = {key}
        yield inside


async def ask(inside: Inside, client: httpx2.AsyncClient, stream: bool = False) -> httpx2.Response:
    url = f"http://localhost:{inside.gateway.addresses['base_url'].rpartition(':')[2]}/v1/chat/completions"
    body = {**BODY, "stream": True} if stream else BODY
    return await client.post(url, json=body, headers={"authorization": f"Bearer {inside.token}"})


def a_client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        trust_env=False, timeout=30, limits=httpx2.Limits(max_connections=300)
    )


async def until(
    inside: Inside, condition: Callable[[], bool], seconds: float = 20.0
) -> list[httpx2.Response]:
    """Calls one after the other until ``condition`` holds; their answers."""
    answers = []
    async with a_client() as client, asyncio.timeout(seconds):
        while not condition():
            answers.append(await ask(inside, client))
    return answers


def age_s(inside: Inside) -> float:
    [status] = [status for status in inside.gateway.keys.status() if status.path == KEY_PATH]
    return status.age_s or 0.0


async def test_rotation_under_load(tmp_path: Path, openbao: OpenBao) -> None:
    """300 calls at once, plain and streamed, the old key refused from one moment on: not one fails."""
    old, new = a_key(), a_key()
    with on(tmp_path, openbao, old) as inside:

        def rotate() -> None:
            assert inside.standin.wait_for(lambda book: len(book) >= 100, 30)
            openbao.put(KEY_PATH, {"api_key": new})
            inside.standin.keys = {new}

        rotating = threading.Thread(target=rotate)
        rotating.start()
        async with a_client() as client:
            answers = await asyncio.gather(
                *(ask(inside, client, stream=number % 2 == 0) for number in range(300))
            )
        rotating.join()
        assert [answer.status_code for answer in answers] == [200] * 300
        assert all(b"[DONE]" in answer.content for answer in answers[::2])
        lines = inside.lines()
        assert len({line["key_version"] for line in lines}) == 2
        assert {len(line["attempts"]) for line in lines} == {1, 2}


async def test_vault_gone_for_a_while(tmp_path: Path, openbao: OpenBao) -> None:
    """Stopped for longer than the TTL: no call fails."""
    with on(tmp_path, openbao, a_key(), refresh_s=0.3, stale_for_s=60) as inside:
        await until(inside, lambda: bool(inside.lines()))
        openbao.stop()
        answers = await until(inside, lambda: age_s(inside) > 1.5)
        assert {answer.status_code for answer in answers} == {200}


async def test_vault_gone_for_too_long(tmp_path: Path, openbao: OpenBao) -> None:
    """Past `stale_for_s`: 503 and nothing sent; back, with another key meanwhile, calls go again without a restart."""
    old, new = a_key(), a_key()
    with on(tmp_path, openbao, old, refresh_s=0.3, stale_for_s=0.3) as inside:
        await until(inside, lambda: bool(inside.lines()))
        openbao.seal()
        await until(inside, lambda: inside.lines()[-1]["status"] == 503)
        inside.standin.clear()
        async with a_client() as client:
            answer = await ask(inside, client)
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            503,
            "credential_unavailable",
        )
        assert openbao.address not in answer.text
        assert inside.standin.snapshot() == []
        openbao.unseal()
        openbao.put(KEY_PATH, {"api_key": new})
        inside.standin.keys = {new}
        await until(inside, lambda: inside.lines()[-1]["status"] == 200)


async def test_a_vault_that_hangs(tmp_path: Path, openbao: OpenBao) -> None:
    """It takes a read and says nothing: calls whose key is cached don't wait the 5 s that a read may take."""
    with on(tmp_path, openbao, a_key(), refresh_s=0.3, stale_for_s=60) as inside:
        await until(inside, lambda: bool(inside.lines()))
        openbao.pause()
        before = len(inside.lines())
        try:
            answers = await until(
                inside, lambda: age_s(inside) > 1.5 and len(inside.lines()) - before >= 20, 60.0
            )
        finally:
            openbao.resume()
        assert {answer.status_code for answer in answers} == {200}


MALFORMED = {
    "html": {"api_key": "<html><body>Sign in</body></html>"},
    "control characters": {"api_key": "sk-of-this-test\u0000\u001b[2J"},
    "empty": {"api_key": ""},
    "JSON": {"api_key": '{"key": "sk-of-this-test"}'},
    "a list in an object": {"api_key": {"keys": ["sk-of-this-test"]}},
    "another field": {"key": "sk-of-this-test"},
    "another kind of key": {
        "access_key_id": "AKIAOFTHETESTS",
        "secret_access_key": "s/" + "k" * 38,
    },
}


def status_of(inside: Inside) -> KeyStatus:
    [status] = [status for status in inside.gateway.keys.status() if status.path == KEY_PATH]
    return status


@pytest.mark.parametrize("written", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_key(tmp_path: Path, openbao: OpenBao, written: dict[str, Any]) -> None:
    """Row 46: that version is refused, once for the alarm, and no call fails; a good one is taken without a restart."""
    old, new = a_key(), a_key()
    with on(tmp_path, openbao, old, refresh_s=0.3, stale_for_s=60) as inside:
        await until(inside, lambda: bool(inside.lines()))
        openbao.put(KEY_PATH, written)
        answers = await until(inside, lambda: age_s(inside) > 1.5)
        assert {answer.status_code for answer in answers} == {200}
        status = status_of(inside)
        assert (status.state, status.versions_refused) == ("stale", 1)
        assert status.error
        assert "sk-of-this-test" not in status.error
        openbao.put(KEY_PATH, {"api_key": new})
        inside.standin.keys = {new}
        answers = await until(inside, lambda: status_of(inside).state == "fresh")
        assert {answer.status_code for answer in answers} == {200}


async def test_a_malformed_key_for_too_long(tmp_path: Path, openbao: OpenBao) -> None:
    """Past `stale_for_s`: 503 and nothing sent, until a good one is there."""
    with on(tmp_path, openbao, a_key(), refresh_s=0.3, stale_for_s=0.3) as inside:
        await until(inside, lambda: bool(inside.lines()))
        openbao.put(KEY_PATH, MALFORMED["html"])
        await until(inside, lambda: inside.lines()[-1]["status"] == 503)
        inside.standin.clear()
        async with a_client() as client:
            answer = await ask(inside, client)
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            503,
            "credential_unavailable",
        )
        assert inside.standin.snapshot() == []
        new = a_key()
        openbao.put(KEY_PATH, {"api_key": new})
        inside.standin.keys = {new}
        await until(inside, lambda: inside.lines()[-1]["status"] == 200)


async def test_a_malformed_key_from_the_start(tmp_path: Path, openbao: OpenBao) -> None:
    """No good one was there before: calls are refused, and `tollhouse check` and `key test` say what is wrong with it."""
    with on(tmp_path, openbao, "two words") as inside:
        async with a_client() as client:
            answer = await ask(inside, client)
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            503,
            "credential_unavailable",
        )
        assert inside.standin.snapshot() == []
        why = f"Field 'api_key' of the secret at secret/{KEY_PATH} holds a space"
        [row] = inside.do(inside.gateway.operations.perform("key_test", {"provider": "openai"}))
        assert row["result"] == "unread"
        assert row["why"].startswith(why)
        found = await check_vault(inside.gateway.config)
        [problem] = [finding for finding in found if finding.level == "error"]
        assert problem.what == f"The key of openai at {KEY_PATH} can't be used."
        assert problem.why.startswith(why)
