"""What is proven: by Redis's answer alone, for five minutes, and no longer than Redis or this gateway lets it be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.calls import admitted
from tests.support.clock import Clock
from tests.support.values import replace

from tollhouse.accounts.remembered import PROVEN_S, SIZE, Remembered
from tollhouse.call import Admitted
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.parties import Identity, Project

PROJECT = Project("proj", "acme")
NOW = 1_000_000.0


@dataclass(frozen=True)
class Record:
    id: str = "tok_1"
    tenant: str = "acme"
    projects: tuple[str, ...] = ("proj",)
    label: str = ""
    expires_at: float | None = None
    revoked_at: float | None = None
    charged_as: str = ""
    limits: tuple[str, ...] = ()


async def an_outage(_: LedgerUnavailable) -> bool:
    return True


@pytest.fixture
def time() -> Clock:
    return Clock(100.0)


@pytest.fixture
def remembered(time: Clock) -> Remembered:
    """One token and one project, proven now."""
    made = Remembered(an_outage, clock=time, now=lambda: NOW + time.now - 100.0)
    made.note_token("d1", time.now, Record())
    made.note_project("proj", time.now, PROJECT)
    return made


def a_call(**changed: Any) -> Admitted:
    return admitted(
        **{"identity": Identity("tok_1", "acme", ("proj",)), "project": PROJECT, **changed}
    )


async def is_known(remembered: Remembered, digest: str = "d1") -> bool:
    """By the directory's way and by the purse's, which must agree."""
    try:
        await remembered.find(digest)
    except LedgerUnavailable:
        assert not remembered.vouches(a_call())
        return False
    assert remembered.vouches(a_call())
    return True


async def test_a_proof_lasts_five_minutes(remembered: Remembered, time: Clock) -> None:
    """From when Redis was asked, not from when it answered."""
    assert await remembered.find("d1") == Record()
    assert await remembered.get_project("proj") == PROJECT
    time.now += PROVEN_S - 0.1
    assert await is_known(remembered)
    time.now += 0.1
    assert not await is_known(remembered)
    with pytest.raises(LedgerUnavailable, match="not read in the last 5 minutes"):
        await remembered.get_project("proj")


@pytest.mark.parametrize("digest", ["d2", ""])
async def test_a_token_that_was_never_seen(remembered: Remembered, digest: str) -> None:
    """It is not that there is none: nobody knows."""
    with pytest.raises(LedgerUnavailable, match="not proven in the last 5 minutes"):
        await remembered.find(digest)
    with pytest.raises(LedgerUnavailable):
        await remembered.get_project("other")


@pytest.mark.parametrize(
    "proves", [True, False], ids=["asked for a call", "asked in the background"]
)
@pytest.mark.parametrize(
    "answer",
    [None, Record(revoked_at=1.0), Record(expires_at=NOW), Record(expires_at=NOW - 1)],
    ids=str,
)
async def test_an_answer_of_redis_ends_it(
    remembered: Remembered, answer: Record | None, proves: bool
) -> None:
    """No such token, revoked, expired: at once."""
    remembered.note_token("d1", 100.0, answer, proves=proves)
    assert not await is_known(remembered)


async def test_it_expires_by_its_own_clock(remembered: Remembered, time: Clock) -> None:
    """It was valid when Redis was asked, and has ended since."""
    remembered.note_token("d1", time.now, Record(expires_at=NOW + 60))
    time.now += 59
    assert await is_known(remembered)
    time.now += 1
    assert not await is_known(remembered)


async def test_what_is_asked_in_the_background_lengthens_nothing(
    remembered: Remembered, time: Clock
) -> None:
    """It brings up to date, and makes no proof of a token that nobody has shown."""
    time.now += 200
    remembered.note_token("d1", time.now, Record(projects=("proj", "more")), proves=False)
    remembered.note_project("proj", time.now, replace(PROJECT, models=("gpt-4o",)), proves=False)
    remembered.note_token("d2", time.now, Record(id="tok_2"), proves=False)
    remembered.note_project("other", time.now, Project("other", "acme"), proves=False)
    assert (await remembered.find("d1")).projects == ("proj", "more")
    assert (await remembered.get_project("proj")).models == ("gpt-4o",)
    assert remembered.known() == (["d1"], ["proj"])
    time.now += 100
    assert not await is_known(remembered)
    assert remembered.known() == ([], [])


async def test_what_this_gateway_changes_is_forgotten(remembered: Remembered, time: Clock) -> None:
    """And an answer to a question from before the change proves nothing, however late it comes."""
    asked = time.now
    time.now += 1
    remembered.forget_token("tok_1")
    remembered.note_token("d1", asked, Record())
    assert not await is_known(remembered)
    time.now += 1
    remembered.note_token("d1", time.now, Record())
    assert await is_known(remembered)
    remembered.forget_project("proj")
    assert not remembered.vouches(a_call())
    remembered.note_project("proj", asked, PROJECT)
    assert not remembered.vouches(a_call())


@pytest.mark.parametrize(
    "change",
    [
        {"identity": Identity("tok_2", "acme", ("proj",))},
        {"identity": Identity("tok_1", "other", ("proj",))},
        {"project": Project("other", "acme")},
        {"project": Project("proj", "other")},
    ],
    ids=str,
)
def test_whom_it_does_not_vouch_for(remembered: Remembered, change: dict[str, Any]) -> None:
    """Both must be proven, and belong together."""
    assert remembered.vouches(a_call())
    assert not remembered.vouches(a_call(**change))


async def test_a_subject_of_the_platform(remembered: Remembered, time: Clock) -> None:
    """It proves itself, and its project has to be known. One that Redis called revoked is not vouched for."""
    name = "jwt_" + "0b" * 12
    subject = Identity(name, "acme", ("proj",), kind="jwt", subject="s")
    assert remembered.vouches(a_call(identity=subject))
    assert not remembered.vouches(a_call(identity=subject, project=Project("other", "acme")))
    assert not remembered.vouches(a_call(identity=replace(subject, tenant="other")))
    remembered.note_token(name, time.now, Record(id=name, revoked_at=1.0))
    assert not remembered.vouches(a_call(identity=subject))
    with pytest.raises(LedgerUnavailable):
        await remembered.find_subject(name)
    remembered.note_token(name, time.now, None)
    assert remembered.vouches(a_call(identity=subject))


async def test_a_subject_that_is_revoked_here_as_redis_goes_away(remembered: Remembered) -> None:
    """Whether or not Redis could be told: it is not vouched for until Redis says that it is not revoked."""
    name = "jwt_" + "0a" * 12
    subject = Identity(name, "acme", ("proj",), kind="jwt", subject="s")
    remembered.note_project("proj", 100.0, PROJECT)
    assert remembered.vouches(a_call(identity=subject))
    remembered.forget_token(name)
    assert not remembered.vouches(a_call(identity=subject))
    with pytest.raises(LedgerUnavailable):
        await remembered.find_subject(name)


def test_an_answer_from_before_the_revocation(remembered: Remembered, time: Clock) -> None:
    """It was asked before the subject was revoked here, and comes behind it: the subject stays revoked."""
    name = "jwt_0123456789abcdef01234567"
    subject = Identity(name, "acme", ("proj",), kind="jwt", subject="s")
    asked = time.now
    time.now += 1
    remembered.forget_token(name)
    remembered.note_token(name, asked, None)
    assert not remembered.vouches(a_call(identity=subject))
    time.now += 1
    remembered.note_token(name, time.now, None)
    assert remembered.vouches(a_call(identity=subject))


async def test_more_revoked_subjects_than_are_remembered(
    remembered: Remembered, time: Clock
) -> None:
    """None of them is let in, and of all others those alone of which Redis has said lately that they are not revoked."""
    revoked = [f"jwt_{number:024x}" for number in range(SIZE + 1)]
    known, unknown = "jwt_" + "0c" * 12, "jwt_" + "0d" * 12

    def vouched(name: str) -> bool:
        subject = Identity(name, "acme", ("proj",), kind="jwt", subject="s")
        return remembered.vouches(a_call(identity=subject))

    remembered.note_token(known, time.now, None)
    for name in revoked[:-1]:
        remembered.note_token(name, time.now, Record(id=name, revoked_at=1.0))
    assert vouched(known)
    assert vouched(unknown)
    remembered.note_token(revoked[-1], time.now, Record(id=revoked[-1], revoked_at=1.0))
    assert not any(vouched(name) for name in (revoked[0], revoked[-1], unknown))
    assert vouched(known)
    await remembered.find_subject(known)
    with pytest.raises(LedgerUnavailable):
        await remembered.find_subject(unknown)
    time.now += 300
    remembered.note_project("proj", time.now, PROJECT)
    assert not vouched(known)


def test_a_project_that_was_taken_from_the_token(remembered: Remembered) -> None:
    """Between the call's admission and its hold."""
    remembered.note_token("d1", 100.0, Record(projects=("more",)), proves=False)
    assert not remembered.vouches(a_call())


async def test_it_is_bounded(remembered: Remembered, time: Clock) -> None:
    """The longest known go first; one that is shown again is young again."""
    for number in range(SIZE - 1):
        remembered.note_token(f"more-{number}", time.now, Record(id=f"tok_more_{number}"))
        remembered.note_project(f"more-{number}", time.now, Project(f"more-{number}", "acme"))
    remembered.note_token("d1", time.now, Record())
    remembered.note_project("proj", time.now, PROJECT)
    remembered.note_token("last", time.now, Record(id="tok_last"))
    remembered.note_project("last", time.now, Project("last", "acme"))
    digests, projects = remembered.known()
    assert (len(digests), len(projects)) == (SIZE, SIZE)
    assert "more-0" not in digests
    assert await is_known(remembered)


def test_all_can_be_forgotten(remembered: Remembered) -> None:
    """When it is not known what is proven, nothing is."""
    remembered.clear()
    assert remembered.known() == ([], [])
    assert not remembered.vouches(a_call())
