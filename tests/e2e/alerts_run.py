"""Limits of many projects are used up through two gateways of two workers, while the receiver fails and a gateway is killed; and
what was told in the end.

``uv run python -m tests.e2e.alerts_run [PROJECTS]`` prints the counts. [docs/alerts.md](../../docs/alerts.md) has those of one run.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.e2e.test_alerts import Place, call, listed, until
from tests.support.gateway import REAL_KEY
from tests.support.redis_server import RedisServer
from tests.support.webhook_receiver import Received, webhook_receiver

from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn

SHARES: Final = ("50%", "80%", "100%")
LIMIT: Final = 10
"""Requests a day of each project. One more is refused."""
FAILURES: Final = 60
"""Requests that the receiver answers 500 or 503 before it takes any."""


@dataclass
class Counts:
    """``wanted`` and ``told`` are events, each once. ``requests`` are those that the receiver has had."""

    projects: int
    calls: int
    answers: dict[str, int]
    wanted: int
    told: int
    thresholds: dict[str, int]
    told_twice: int
    """Events that the receiver has taken under two ids: never."""
    sent_again: int
    """Ids that it has taken more than once, since a gateway was killed before it had noted the first answer."""
    requests: int
    refused_by_receiver: int
    fired: int
    delivered: int
    given_up: int
    dropped: int
    waiting: int
    silent_receiver_waiting: int
    """What waits for the other receiver, which answers nobody."""
    wrong: list[str] = field(default_factory=list)


def what(one: Received) -> tuple[str, str, str]:
    """Type, project and share of an event: what it is once for, in this run."""
    payload = one.payload
    data = payload["data"]
    return payload["type"], data["project"], data.get("threshold", "")


def run(directory: Path, projects: int) -> Counts:
    (directory / "redis").mkdir()
    with (
        RedisServer(directory / "redis") as server,
        StandIn(key=REAL_KEY) as standin,
        webhook_receiver() as receiver,
        webhook_receiver() as silent,
        contextlib.ExitStack() as gateways,
    ):
        place = Place(directory, server, standin)
        receiver.answers += [500, 503] * (FAILURES // 2)
        silent.hang()
        entries = [
            place.entry(receiver, name="ops", on=["budget.refused"]),
            place.entry(silent, name="silent", on=["budget.refused"]),
        ]
        one, two = (
            gateways.enter_context(place.gateway(name, entries, workers=2)) for name in ("1", "2")
        )
        tokens = []
        for number in range(projects):
            one.make_project(f"proj-{number}", f"{LIMIT} requests/day")
            tokens.append(one.make_token(f"proj-{number}"))
        answers: Counter[str] = Counter()
        with ThreadPoolExecutor(16) as threads:

            def spend(count: int, *by: GatewayProcess) -> None:
                asked = [(by[n % len(by)], token) for n in range(count) for token in tokens]
                answers.update(map(str, threads.map(lambda each: call(*each), asked)))

            spend(LIMIT // 2, one, two)
            # The first shares are reached, and the receiver has failed at some of them.
            receiver.wait_for(lambda it: len(it.received) >= min(projects, FAILURES // 2))
            one.kill()
            spend(LIMIT // 2, two)
            one.start()
            spend(1, one, two)
        wanted = {("budget.threshold", f"proj-{n}", s) for n in range(projects) for s in SHARES}
        wanted |= {("budget.refused", f"proj-{n}", "") for n in range(projects)}
        receiver.wait_for(lambda it: wanted <= set(map(what, it.taken)), 300)
        until(lambda: listed(two)["ops"]["waiting"] == 0)
        row, other = listed(two)["ops"], listed(two)["silent"]
        for gateway in (one, two):
            gateway.kill()
    ids: dict[tuple[str, str, str], set[str]] = {}
    for taken in receiver.taken:
        ids.setdefault(what(taken), set()).add(taken.id)
    counts = Counts(
        projects=projects,
        calls=answers.total(),
        answers=dict(sorted(answers.items())),
        wanted=len(wanted),
        told=len(ids),
        thresholds=dict(sorted(Counter(share for _, _, share in ids if share).items())),
        told_twice=sum(len(each) > 1 for each in ids.values()),
        sent_again=sum(count > 1 for count in receiver.ids().values()),
        requests=len(receiver.received),
        refused_by_receiver=len(receiver.received) - len(receiver.taken),
        fired=row["fired"],
        delivered=row["delivered"],
        given_up=row["given_up"],
        dropped=row["dropped"],
        waiting=row["waiting"],
        silent_receiver_waiting=other["waiting"],
    )
    judged = {
        "an event was not told, or another one was": set(ids) != wanted,
        "an event was told under two ids": counts.told_twice != 0,
        "an event was fired twice, or not at all": counts.fired != counts.wanted,
        "an event was lost": counts.delivered != counts.wanted,
        "a call was neither served nor refused by its limit": set(answers) != {"200", "429"},
        "a limit was overspent": answers["200"] > projects * LIMIT,
    }
    counts.wrong = [why for why, so in judged.items() if so]
    return counts


def main() -> int:
    projects = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory(prefix="alerts-") as directory:
        counts = run(Path(directory), projects)
    print(json.dumps(asdict(counts), indent=2))
    return 1 if counts.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
