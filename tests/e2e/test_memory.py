"""The key lives in one object: after calls, and after a crash, nothing else in the gateway's process holds it.

The provider and whatever puts the key into the store are processes of their own, and the test reads the key only to
search for it.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.gateway import Stores
from tests.support.holders import holders
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.programs import Program

from tollhouse.credential.secret import Secret
from tollhouse.dispatch.answer import Answer

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}

PUT_EMBEDDED = """
import pathlib, sys
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
vault = EmbeddedVault(pathlib.Path(sys.argv[1]), "projects/{project}/{provider}")
vault.set("openai", sys.stdin.read().strip(), project=sys.argv[2])
"""
PUT_REAL = """
import pathlib, sys, requests
address, token_file, project = sys.argv[1:]
requests.post(
    f"{address}/v1/secret/data/projects/{project}/openai",
    json={"data": {"api_key": sys.stdin.read().strip()}},
    headers={"X-Vault-Token": pathlib.Path(token_file).read_text().strip()},
).raise_for_status()
"""


class Provider:
    """The stand-in, as far as a configuration needs to know it."""

    running = True

    def __init__(self, state: Path, address: str) -> None:
        self.key_file = state / "key"
        self.address = address
        self.ca_pem = (state / "ca.pem").read_bytes()

    def write_ca(self, path: Path) -> Path:
        path.write_bytes(self.ca_pem)
        return path


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    state = tmp_path_factory.mktemp("provider")
    # Below it no test looks for leaks in what the provider was sent.
    command = [sys.executable, "-m", "tollhouse.demo.standin", "--state", str(state)]
    with Program("stand-in") as program:
        said = program.start(command, ready="standin: ready")
        yield Provider(state, said.split()[-1])
        program.stop()
    for file in ("key", "book.jsonl"):
        (state / file).unlink(missing_ok=True)


@pytest.fixture(params=["embedded", "real"])
def inside(request: pytest.FixtureRequest, tmp_path: Path, provider: Provider) -> Iterator[Inside]:
    stores: Stores = request.param
    settings = {"providers.openai": {"attempts": 1}}
    with open_inside(tmp_path, settings, standin=provider, stores=stores) as made:  # type: ignore[arg-type]
        if stores == "embedded":
            arguments = [PUT_EMBEDDED, str(tmp_path / "state")]
        else:
            arguments = [
                PUT_REAL,
                made.gateway.config.vault.address,
                str(tmp_path / "openbao" / "root-token"),
            ]
        with provider.key_file.open() as key:
            subprocess.run([sys.executable, "-c", *arguments, PROJECT], stdin=key, check=True)
        yield made


def ask(inside: Inside, **more: Any) -> httpx2.Response:
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        return client.post(URL, json={**BODY, **more})


def has_read(key_file: Path) -> bool:
    """Whether the gateway has the key at all, so that there is something to be found."""
    key = key_file.read_text().strip()
    return any(isinstance(thing, Secret) and thing.reveal() == key for thing in gc.get_objects())


def holders_of(key_file: Path) -> list[str]:
    """What holds the key, by type, but for a `Secret`."""
    assert has_read(key_file)
    # In no variable: it would be found there.
    return holders([key_file.read_text().strip()])


def test_after_calls(inside: Inside, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """Plain, streamed, refused by the provider, refused by us; connections kept open."""
    assert ask(inside).status_code == 200
    assert ask(inside, stream=True).status_code == 200
    assert ask(inside, model=7).status_code == 400
    assert ask(inside, messages="none").status_code >= 200
    assert holders_of(provider.key_file) == []


def test_while_a_stream_is_open(inside: Inside, provider: Provider) -> None:
    """The request has left: what waits for the rest of its answer does not hold the key any more."""
    with (
        httpx2.Client(
            proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
        ) as client,
        client.stream("POST", URL, json={**BODY, "stream": True}) as answer,
    ):
        assert answer.status_code == 200
        assert holders_of(provider.key_file) == []


@pytest.mark.parametrize("inside", ["embedded"], indirect=True)
def test_what_a_call_leaves(inside: Inside) -> None:
    """Nothing that only the collector can free. In cycles a hundred objects a call waited for it, more than a processor's second
    cache holds, and a call cost a sixth more."""

    def calls() -> list[int]:
        return [
            ask(inside).status_code,
            ask(inside, stream=True).status_code,
            ask(inside, model=7).status_code,
        ]

    calls()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        assert calls() == [200, 200, 400]
        gc.collect()
        left = [
            kind
            for found in gc.garbage
            if (kind := type(found)).__module__.startswith("tollhouse.")
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


class Unreadable(list[tuple[str, str]]):
    """Headers that nobody can go through."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        raise RuntimeError("a bug of ours")


@pytest.mark.parametrize("where", ["upstream", "relay"])
def test_after_a_crash(
    inside: Inside,
    provider: Provider,
    where: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug of ours right behind the sending: the log's records, with their tracebacks, do not hold the key."""

    upstream = inside.gateway.upstream
    send = upstream.send

    def crash(*_: Any) -> Any:
        raise RuntimeError("a bug of ours")

    async def send_and_spoil(*arguments: Any, **options: Any) -> Answer:
        answer = await send(*arguments, **options)
        answer.headers = Unreadable(answer.headers)
        return answer

    if where == "upstream":
        monkeypatch.setattr(upstream, "read_head", crash)
    else:
        monkeypatch.setattr(upstream, "send", send_and_spoil)
    assert ask(inside).json()["error"]["code"] == "internal"
    assert holders_of(provider.key_file) == []
    records = [
        record for record in caplog.records if record.exc_info or record.levelname == "ERROR"
    ]
    assert records
    printed = caplog.text
    for record in records:
        if record.exc_info and record.exc_info[1] is not None:
            whole = traceback.TracebackException.from_exception(
                record.exc_info[1], capture_locals=True
            )
            printed += "".join(whole.format())
    shown = provider.key_file.read_text().strip() in printed
    assert not shown
    assert "a bug of ours" in json.dumps(printed)
