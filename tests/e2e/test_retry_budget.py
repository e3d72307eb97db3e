"""The retries of the calls to a provider: at most a tenth of its calls of the last 10 s, and at least 1 a second; through the
running gateway, whose clock stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
from tests.support.clock import Clock
from tests.support.gateway import REAL_KEY
from tests.support.inproc import open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, reply

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "again"}]}
BUSY = reply(429, b'{"error":{"message":"busy"}}', [("retry-after-ms", "1")])
"""It is no failure to a breaker."""


def test_the_retry_budget(tmp_path: Path) -> None:
    """A tenant alone has all of it. Of several each has its tenth and its share, and all together are bounded."""
    clock = Clock()
    hosts = ("api.openai.com", "second.test")
    tenants = [f"tenant-{number}" for number in range(5)]
    with StandIn(key=REAL_KEY, hosts=hosts) as standin:
        settings = {
            "providers.openai": {"attempts": 2},
            "providers.second": {
                "family": "openai",
                "hosts": ["second.test"],
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": "provider-ca.pem",
            },
            **{f"projects.proj_{one}": {"tenant": one, "limits": []} for one in tenants},
        }
        with open_inside(tmp_path, settings, standin=standin, clock=clock) as inside:
            EmbeddedVault(tmp_path / "state").set("second", REAL_KEY)
            perform = inside.gateway.operations.perform
            proxies = {}
            for tenant in tenants:
                made = inside.do(perform("token_create", {"projects": [f"proj_{tenant}"]}))
                user = f"proj_{tenant}:{made['token']}"
                proxies[tenant] = f"http://{user}@{inside.gateway.addresses['proxy']}"

            def asked(tenant: str, times: int, host: str = hosts[0]) -> list[int]:
                """How often the provider was asked for each call."""
                with httpx2.Client(
                    proxy=proxies[tenant], verify=inside.context, trust_env=False, timeout=30
                ) as client:
                    url = f"https://{host}/v1/chat/completions"
                    answers = [client.post(url, json=CHAT) for _ in range(times)]
                # The SDK would go on where the gateway may not.
                assert all(
                    (one.headers.get("x-should-retry") == "false") is (one.status_code == 429)
                    for one in answers
                )
                return [int(answer.headers["x-tollhouse-attempts"]) for answer in answers]

            storm, *others = tenants
            standin.always(BUSY)
            assert asked(storm, 12) == [2] * 10 + [1] * 2
            assert asked(storm, 1, "second.test") == [3], "it has a budget of its own"
            clock.advance(11.0)
            standin.always(Behaviour())
            assert {count for tenant in tenants for count in asked(tenant, 1)} == {1}
            standin.always(BUSY)
            # Its tenth, and its part of the 10 that all five share. It is the first to ask for what is over.
            assert asked(storm, 30) == [
                *([2] * 2 + [1] * 6),
                *([2] + [1] * 9) * 2,
                *(2, 1),
            ]
            assert asked(others[0], 5) == [2] * 2 + [1] * 3
            for other in others[1:]:
                assert asked(other, 5) == [2] + [1] * 4
            # All 10 are used. The tenth of its own calls is left.
            assert asked(others[3], 14) == [1] * 13 + [2]
            assert len(standin.snapshot()) == 22 + 3 + 5 + 35 + 7 + 3 * 6 + 15
