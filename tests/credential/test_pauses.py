"""Which of several keys is next, and which are left alone for how long."""

from __future__ import annotations

import pytest
from tests.support.calls import lease
from tests.support.clock import Clock

from tollhouse.credential.lease import Lease
from tollhouse.credential.pauses import Pauses
from tollhouse.credential.secret import Secret

A, B, C = lease("sk-a"), lease("sk-b"), lease("sk-c")
ALL = (A, B, C)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses(clock: Clock) -> Pauses:
    return Pauses(clock)


def firsts(pauses: Pauses) -> list[Lease]:
    return [pauses.first(ALL, turn) for turn in range(3)]


def test_each_in_turn(pauses: Pauses) -> None:
    """With no pause the turn decides; one key alone is always the one."""
    assert firsts(pauses) == [A, B, C]
    assert pauses.first(ALL, 5) is C
    assert pauses.first((B,), 2) is B
    pauses.add(B.secret.digest, "rate")
    assert pauses.first((B,), 0) is B


def test_paused_keys_are_passed_over(pauses: Pauses, clock: Clock) -> None:
    """A paused key's turn is the next one's, until its pause is over."""
    pauses.add(A.secret.digest, "rate", 10)
    assert firsts(pauses) == [B, B, C]
    assert pauses.free(ALL) == [B, C]
    pauses.add(B.secret.digest, "rate", 20)
    assert firsts(pauses) == [C, C, C]
    clock.now += 10
    assert firsts(pauses) == [A, C, C]
    clock.now += 10
    assert firsts(pauses) == [A, B, C]


def test_all_paused(pauses: Pauses, clock: Clock) -> None:
    """The one that is free first, whoever's turn it is."""
    pauses.add(A.secret.digest, "money")
    pauses.add(B.secret.digest, "rate", 20)
    pauses.add(C.secret.digest, "rate", 10)
    assert firsts(pauses) == [C, C, C]
    assert pauses.free(ALL) == []
    pauses.add(C.secret.digest, "rate", 30)
    assert firsts(pauses) == [B, B, B]


def test_how_long(pauses: Pauses, clock: Clock) -> None:
    """As long as is said, at most an hour; a usual time if nothing is; a longer pause is not ended by a shorter one."""

    def left() -> float:
        pause = pauses.of(A.secret.digest)
        return pause.until - clock.now if pause else 0.0

    assert left() == 0
    pauses.add(A.secret.digest, "rate")
    assert left() == 5
    pauses.add(A.secret.digest, "rate", 0.0)
    assert left() == 5
    pauses.add(A.secret.digest, "rate", 90_000)
    assert left() == 3600
    pauses.add(A.secret.digest, "money")
    found = pauses.of(A.secret.digest)
    assert found is not None
    assert (found.why, left()) == ("rate", 3600)
    clock.now += 3600
    assert left() == 0


def test_old_pauses_are_forgotten(pauses: Pauses, clock: Clock) -> None:
    """Keys come and go; their pauses do not pile up."""
    for number in range(5000):
        pauses.add(f"{number:08x}", "rate", 1)
        clock.now += 0.5
    assert len(pauses) <= 1000


def test_a_key_made_to_look_like_another(pauses: Pauses) -> None:
    """Somebody puts a key of his own into his own place, chosen for its fingerprint: the other's key is not paused."""
    theirs, other = Secret("sk-100476"), Secret("sk-140808")
    assert theirs.fingerprint == other.fingerprint
    pauses.add(theirs.digest, "refused")
    assert pauses.of(other.digest) is None
    assert pauses.of(theirs.digest) is not None
