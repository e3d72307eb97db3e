"""What one process sees: each condition is noted once a window, and those that pass within seconds are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from tests.support.calls import admitted, requested
from tests.support.clock import Clock

from tollhouse.alerts.conditions import MOST_NOTED, Conditions
from tollhouse.alerts.event import AlertEvent
from tollhouse.credential.entry import KeyStatus
from tollhouse.dispatch.breaker import Breakers
from tollhouse.ledger.hold_reply import Short
from tollhouse.ledger.names import Scope
from tollhouse.parties import Project

NOON = 1_788_091_200.0
"""2026-08-30T12:00:00Z."""
KEY = KeyStatus(
    "infrastructure/openai",
    "fresh",
    version="3",
    provider="openai",
    created="2026-06-01T00:00:00.123456789",
)
SHORT = Short(
    "10 usd/day", Scope("project", "acme", "p1"), "usd", NOON + 43_200, 43_200.0, 20_000_000
)
P1 = Project("p1", "acme")


@dataclass
class Seen:
    """Keys, breakers and charges, as the gateway has them."""

    now: float = NOON
    keys: list[KeyStatus] = field(default_factory=list)
    refused: dict[tuple[str, str, str], int] = field(default_factory=dict)
    waiting: int = 0
    breakers: Breakers = field(default_factory=lambda: Breakers(Clock()))

    def notable(self, most: int) -> list[KeyStatus]:
        return self.keys[:most]

    def refusals(self) -> dict[tuple[str, str, str], int]:
        return dict(self.refused)

    def paused(self) -> Iterator[tuple[str, str]]:
        return self.breakers.paused()

    def conditions(self, *ages: int) -> Conditions:
        return Conditions(
            self, self, lambda: self.waiting, ages, wall_clock=lambda: self.now, gateway="pod-1"
        )


@pytest.fixture
def seen() -> Seen:
    return Seen()


def noted(conditions: Conditions) -> list[AlertEvent]:
    """What is new, and is in the outbox from then on."""
    found = list(conditions.noted.values())
    for event in found:
        conditions.known(event)
    return found


def test_nothing_is_wrong(seen: Seen) -> None:
    seen.keys = [replace(KEY, created="")]
    seen.refused = {("openai", KEY.path, "01234567"): 0}
    seen.breakers.of("api.openai.com", "digest", tenant="acme").success()
    conditions = seen.conditions(90)
    conditions.look()
    assert noted(conditions) == []


def test_the_age_of_a_key(seen: Seen) -> None:
    """By each bound that somebody has, once a day; a new version is a young one."""
    seen.keys = [KEY]
    conditions = seen.conditions(90, 30, 365)
    conditions.look()
    found = noted(conditions)
    assert [one.data["bound_days"] for one in found] == [30, 90]
    assert found[0].data["age_days"] == 90
    conditions.look()
    assert noted(conditions) == []
    seen.now += 86_400
    conditions.look()
    assert len(noted(conditions)) == 2
    seen.keys = [replace(KEY, version="4", created="2026-08-30T11:00:00")]
    conditions.look()
    assert noted(conditions) == []


@pytest.mark.parametrize("created", ["", "yesterday", "2026-13-01T00:00:00.1"])
def test_a_store_that_tells_no_time(seen: Seen, created: str) -> None:
    seen.keys = [replace(KEY, created=created)]
    conditions = seen.conditions(1)
    conditions.look()
    assert noted(conditions) == []


def test_a_key_that_is_refused(seen: Seen) -> None:
    """When it is refused once more, and not for what was before."""
    name = ("openai", KEY.path, "01234567")
    seen.refused = {name: 1}
    conditions = seen.conditions()
    conditions.look()
    [event] = noted(conditions)
    assert (event.type, event.data["fingerprint"]) == ("key.refused", "01234567")
    seen.now += 86_400
    conditions.look()
    assert noted(conditions) == []
    seen.refused = {name: 2}
    conditions.look()
    assert len(noted(conditions)) == 1


@pytest.mark.parametrize("state", ["stale", "failed"])
def test_a_key_that_cannot_be_read(seen: Seen, state: str) -> None:
    seen.keys = [replace(KEY, state=state, created="")]
    conditions = seen.conditions()
    conditions.look()
    [event] = noted(conditions)
    assert (event.type, event.data["state"]) == ("key.stale", state)


def test_a_breaker_that_opens(seen: Seen) -> None:
    """That of a tenant, and the one that all share; once an hour."""
    for tenant in ("acme", "other"):
        for _ in range(10):
            seen.breakers.of("api.openai.com", "digest", tenant=tenant).failure()
    conditions = seen.conditions()
    conditions.look()
    found = noted(conditions)
    assert [one.data["tenant"] for one in found] == ["", "acme", "other"]
    assert [one.tenant for one in found] == ["", "acme", "other"]
    conditions.look()
    assert noted(conditions) == []
    seen.now += 3600
    conditions.look()
    assert len(noted(conditions)) == 3


def test_charges_that_wait(seen: Seen) -> None:
    """Those that are told within seconds are no alert."""
    conditions = seen.conditions()
    for waiting in (3, 0, 3):
        seen.waiting = waiting
        conditions.look()
        assert noted(conditions) == []
    conditions.look()
    [event] = noted(conditions)
    assert event.data == {"charges": 3, "gateway": "pod-1"}


def test_a_limit_without_room(seen: Seen) -> None:
    """Once a window of the limit; and nothing of limits that nobody could wait for."""
    conditions = seen.conditions()
    for _ in range(3):
        conditions.short(SHORT, P1)
    [event] = noted(conditions)
    assert event.type == "budget.refused"
    assert (event.data["left"], event.data["resets_at"]) == ("0.02", "2026-08-31T00:00:00Z")
    conditions.short(SHORT, P1)
    for other in (
        replace(SHORT, never_fits=True),
        replace(SHORT, scope=Scope("token", "acme", "t1")),
        replace(SHORT, limit_text="60 requests/minute", unit="requests"),
        replace(SHORT, limit_text="8 concurrent", unit="concurrent"),
    ):
        conditions.short(other, P1)
    assert noted(conditions) == []
    conditions.short(replace(SHORT, resets_at=NOON + 129_600), P1)
    conditions.short(replace(SHORT, scope=Scope("tenant", "acme", "acme")), P1)
    assert [one.project for one in noted(conditions)] == ["p1", ""]


def test_a_model_without_a_price(seen: Seen) -> None:
    """A workload may name as many as it likes: the first of a day is told, clipped, and no token in it."""
    conditions = seen.conditions()
    for number in range(3):
        model = f"{number}-{'x' * 200}"
        conditions.unpriced(requested(None, admitted(), model=model))
    [event] = noted(conditions)
    assert event.type == "call.unpriced"
    assert event.data["model"] == f"0-{'x' * 78}"
    assert event.data["provider"] == "openai"


def test_what_is_noted_has_a_bound(seen: Seen) -> None:
    """While Redis is away it waits in memory."""
    conditions = seen.conditions()
    for number in range(MOST_NOTED + 5):
        conditions.short(SHORT, Project(f"p{number}", f"t{number}"))
    assert len(conditions.noted) == MOST_NOTED
