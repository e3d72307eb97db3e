"""After calls that were signed, or went with a minted token, only `Secret`s hold what they were made with."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.dispatch.provider import RawProvider
from tests.support import token_endpoint

SCRIPT = """
import asyncio, json, pathlib, sys
from tests.support.values import replace
from tests.dispatch.provider import FakeResolver
from tests.support.holders import holders
from tests.support.token_endpoint import Leads
from tollhouse.credential.fields import contents
from tollhouse.credential.cloud.google import AccessTokens
from tollhouse.credential.cloud.google_endpoint import TokenEndpoint
from tollhouse.credential.lease import Lease, RawSecret
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.upstream import Upstream
from tollhouse.providers import Catalog
from tollhouse.providers.bedrock import BEDROCK
from tollhouse.providers.vertex import VERTEX

provider_port, token_port, keep = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]
directory = pathlib.Path(sys.argv[3])

def lease(name):
    found = contents(RawSecret(json.loads((directory / name).read_text()), "1"), "api_key", name)
    return Lease(found.secrets[0], "1", found.secrets[0].fingerprint, name, found.kind)

async def main():
    plain = {"port": provider_port, "allow_private": True, "unsafe_plaintext": True}
    aws, google = (replace(provider, **plain) for provider in (BEDROCK, VERTEX))
    resolver = lambda: Leads(token_port)
    tokens = AccessTokens(TokenEndpoint(ca_file=directory / "ca.pem", resolver_factory=resolver))
    names = {host: [["127.0.0.1"]] for host in (*aws.hosts, *google.hosts)}
    upstream = Upstream(Catalog((aws, google)), resolver_factory=lambda: FakeResolver(names), tokens=tokens)
    await upstream.start()
    minted, kept = [], []
    for _ in range(2):
        for provider, name in ((aws, "aws.json"), (google, "google.json")):
            outgoing = Outgoing(provider, provider.hosts[0], "GET", "/foundation-models", [], None, lease(name))
            answer = await upstream.send(outgoing, budget_s=10, minted=minted.append)
            while await answer.read():
                pass
    wanted = [token.reveal() for token in minted]
    key = json.loads((directory / "aws.json").read_text())
    wanted += [key["secret_access_key"], key["session_token"]]
    wanted.append(json.loads((directory / "google.json").read_text())["private_key"].splitlines()[5])
    del key
    if keep:
        kept.append(minted[0].reveal())
    print(json.dumps([len(minted), holders(wanted)]))
    await upstream.close()
    await tokens.close()

asyncio.run(main())
"""


async def run(tmp_path: Path, *keep: str) -> list[object]:
    key = {
        "access_key_id": "AKIAX",
        "secret_access_key": "s/" + "k+" * 19,
        "session_token": "t/" * 200,
    }
    (tmp_path / "aws.json").write_text(json.dumps(key))
    (tmp_path / "google.json").write_text(json.dumps(token_endpoint.account()))
    with token_endpoint.token_server() as tokens:
        tokens.write_ca(tmp_path / "ca.pem")
        async with RawProvider().running(None) as raw:
            done = await asyncio.to_thread(
                subprocess.run,
                [
                    sys.executable,
                    "-c",
                    SCRIPT,
                    str(raw.port),
                    str(tokens.port),
                    str(tmp_path),
                    *keep,
                ],
                capture_output=True,
                text=True,
                check=False,
                cwd=Path(__file__).parents[2],
            )
    assert done.returncode == 0, done.stderr
    assert len(raw.received) == 4
    found: list[object] = json.loads(done.stdout)
    return found


async def test_memory(tmp_path: Path) -> None:
    """Connections and tokens are kept; the AWS keys, the account's key and the tokens are nowhere else."""
    assert await run(tmp_path) == [2, []]


async def test_the_search_finds(tmp_path: Path) -> None:
    """A copy of a token that is left somewhere is found."""
    count, found = await run(tmp_path, "keep")
    assert count == 2
    assert len(found) == 1  # type: ignore[arg-type]
