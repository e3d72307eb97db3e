"""The running gateway and real OpenBao servers with integrated storage: sealed, in an election, a leader killed, a standby
that lags behind. No call is lost while there is an answer in the cache."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao_raft import RaftCluster, wait_for

from tollhouse.credential.secret import Secret

KEY_PATH = "infrastructure/openai"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def a_key() -> str:
    return f"sk-of-this-test-{secrets.token_urlsafe(24)}"


@contextmanager
def on(directory: Path, cluster: RaftCluster, key: str, **vault: Any) -> Iterator[Inside]:
    """A gateway whose keys are in ``cluster``; its provider takes ``key`` alone."""
    first = cluster.nodes[0]
    files = {"role_id_file": str(first.role_id_file), "secret_id_file": str(first.secret_id_file)}
    settings: dict[str, dict[str, Any]] = {
        "vault": {"address": cluster.address, "auth": {"method": "approle", **files}, **vault},
        f"projects.{PROJECT}": {"limits": ["1000 usd/day"]},
    }
    cluster.put(KEY_PATH, {"api_key": key})
    with open_inside(directory, settings) as inside:
        inside.standin.keys = {key}
        yield inside


async def calls_until(
    inside: Inside, condition: Callable[[], bool], seconds: float = 60.0
) -> list[httpx2.Response]:
    """Four callers, plain and streamed, until ``condition`` holds; all answers."""
    url = f"http://localhost:{inside.gateway.addresses['base_url'].rpartition(':')[2]}/v1/chat/completions"
    answers = []

    async def caller(client: httpx2.AsyncClient, stream: bool) -> None:
        while not condition():
            headers = {"authorization": f"Bearer {inside.token}"}
            answers.append(await client.post(url, json={**BODY, "stream": stream}, headers=headers))

    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client, asyncio.timeout(seconds):
        await asyncio.gather(*(caller(client, number % 2 == 0) for number in range(4)))
    return answers


async def beside(inside: Inside, work: Callable[[], None]) -> list[httpx2.Response]:
    """The answers to the calls that were made while ``work`` ran in a thread, and at least 20 after it."""
    left = [20]
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def over() -> bool:
        if not thread.is_alive():
            left[0] -= 1
        return left[0] < 0

    answers = await calls_until(inside, over)
    thread.join()
    assert failed == []
    return answers


def reads(inside: Inside) -> int:
    """How often the secret has been read with success."""
    [status] = [status for status in inside.gateway.keys.status() if status.path == KEY_PATH]
    return status.reads["value"]


def state(inside: Inside) -> str:
    """Of the path, as `tollhouse key list` says it; ``failed`` if one is that is looked at before it."""
    found = {status.path: status.state for status in inside.gateway.keys.status()}
    return "failed" if "failed" in found.values() else found.get(KEY_PATH, "")


def statuses(answers: list[httpx2.Response]) -> set[int]:
    return {answer.status_code for answer in answers}


async def test_leader_killed_under_load(tmp_path: Path, openbao_raft: RaftCluster) -> None:
    """Step-down, then a kill of the leader, then a rotation by its successor: not one call fails, and none waits."""
    old, new = a_key(), a_key()
    with on(tmp_path, openbao_raft, old, refresh_s=0.3, stale_for_s=60) as inside:

        def read_again() -> None:
            seen = reads(inside)
            wait_for(lambda: reads(inside) > seen, "the gateway reads")

        def trouble() -> None:
            wait_for(lambda: state(inside) == "fresh", "calls go")
            openbao_raft.leader.api("PUT", "sys/step-down")
            leader = openbao_raft.leader
            read_again()
            leader.stop()
            assert openbao_raft.leader is not leader
            read_again()
            openbao_raft.put(KEY_PATH, {"api_key": new})
            inside.standin.keys = {new}
            read_again()

        answers = await beside(inside, trouble)
        assert statuses(answers) == {200}
        lines = inside.lines()
        assert len({line["key_version"] for line in lines}) == 2
        assert max(line["overhead_ms"] for line in lines) < 3000


async def test_sealed(tmp_path: Path, openbao_raft: RaftCluster) -> None:
    """All sealed: the last key serves on, and calls go; unsealed, it is read again by the same login."""
    with on(tmp_path, openbao_raft, a_key(), refresh_s=0.3, stale_for_s=300) as inside:
        await calls_until(inside, lambda: state(inside) == "fresh")
        for node in openbao_raft.nodes:
            node.seal()
        answers = await calls_until(inside, lambda: state(inside) == "stale")
        answers += await beside(inside, lambda: None)
        assert statuses(answers) == {200}
        for node in openbao_raft.nodes:
            node.unseal()
        answers = await calls_until(inside, lambda: state(inside) == "fresh")
        assert statuses(answers) <= {200}
        assert openbao_raft.leader.logins() == 1


async def test_sealed_for_too_long(tmp_path: Path, openbao_raft: RaftCluster) -> None:
    """Past `stale_for_s`: 503 and nothing is sent; unsealed, calls go again without a restart."""
    with on(tmp_path, openbao_raft, a_key(), refresh_s=0.3, stale_for_s=0.3) as inside:
        await calls_until(inside, lambda: state(inside) == "fresh")
        for node in openbao_raft.nodes:
            node.seal()
        await calls_until(inside, lambda: state(inside) == "failed")
        inside.standin.clear()
        answers = await beside(inside, lambda: None)
        assert {answer.headers["x-tollhouse-reason"] for answer in answers} == {
            "credential_unavailable"
        }
        assert statuses(answers) == {503}
        assert inside.standin.snapshot() == []
        for node in openbao_raft.nodes:
            node.unseal()
        await calls_until(inside, lambda: state(inside) == "fresh")
        answers = await beside(inside, lambda: None)
        assert statuses(answers) == {200}


async def test_a_standby_alone(tmp_path: Path, openbao_raft: RaftCluster) -> None:
    """One server of three is left, which answers reads and can't take a login: calls go on with what is read from it."""
    with on(tmp_path, openbao_raft, a_key(), refresh_s=0.3, stale_for_s=5) as inside:
        await calls_until(inside, lambda: state(inside) == "fresh")
        openbao_raft.leader.stop()
        openbao_raft.leader.stop()
        seen = reads(inside)
        answers = await calls_until(inside, lambda: reads(inside) > seen + 5)
        assert statuses(answers) == {200}


async def test_a_standby_that_lags(tmp_path: Path, openbao_raft: RaftCluster) -> None:
    """The key is rotated, and then a standby answers that has the old one: calls stay with the new, and not one fails."""
    old, new = a_key(), a_key()
    with on(tmp_path, openbao_raft, old, refresh_s=0.3, stale_for_s=60) as inside:
        leader, standby = openbao_raft.leader, openbao_raft.standbys[0]
        openbao_raft.balancer.lead_to(leader.port)
        await calls_until(inside, lambda: state(inside) == "fresh")
        openbao_raft.put("ready", {"a": "the login is everywhere"})
        standby.inbound.pause()

        def rotate() -> None:
            openbao_raft.put(KEY_PATH, {"api_key": new}, everywhere=False)
            inside.standin.keys = {new}
            wait_for(lambda: Secret(new).fingerprint in prints(inside), "the new key is used")
            openbao_raft.balancer.lead_to(standby.port)
            wait_for(
                lambda: "a standby that lags behind" in errors(inside), "the standby has answered"
            )
            standby.inbound.resume()
            wait_for(lambda: errors(inside) == "", "it has caught up")

        answers = await beside(inside, rotate)
        assert statuses(answers) == {200}
        assert len({line["key_version"] for line in inside.lines()}) == 2


def prints(inside: Inside) -> list[str]:
    return [key.fingerprint for status in inside.gateway.keys.status() for key in status.keys]


def errors(inside: Inside) -> str:
    return "".join(status.error for status in inside.gateway.keys.status())
