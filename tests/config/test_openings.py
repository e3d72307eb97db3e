"""What an entry may open of a family that knows jobs, and endpoints that are never opened."""

from __future__ import annotations

import pytest
from tests.families.tiny import TINY

from tollhouse.config.openings import Openings, known_as, opening_rules
from tollhouse.families.opened import parse_opening


def found(
    *allow: str, unmetered: tuple[str, ...] = (), job_hold: int | None = None
) -> dict[str, str]:
    openings = Openings(
        TINY, list(map(parse_opening, allow)), list(map(parse_opening, unmetered)), job_hold
    )
    return dict(opening_rules("birds", openings))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("POST /feathers", "makes a credential with which calls would go around the gateway"),
        ("POST /FEATHERS", "makes a credential with which calls would go around the gateway"),
        ("GET /keepers/ada", "administrates the provider's account"),
    ],
)
def test_what_is_never_opened(entry: str, why: str) -> None:
    """In either list, however it is spelled."""
    message = f"{entry} {why}, which is never opened; remove it"
    assert found(entry) == {"providers.birds.allow[0]": message}
    assert found(unmetered=(entry,)) == {"providers.birds.unmetered[0]": message}


@pytest.mark.parametrize("entry", ["POST /new", "POST /talk", "GET /feathers", "GET /new/*"])
def test_what_may_be_opened(entry: str) -> None:
    """What the family has already is no mistake: `check` speaks of it."""
    assert found(entry) == {}


@pytest.mark.parametrize("entry", ["POST /races", "POST /Races", "POST /*"])
def test_a_job_needs_its_price(entry: str) -> None:
    """It has none by itself."""
    assert found(entry) == {
        "providers.birds.job_hold_usd": f"is missing: allow opens {entry}, and what a job costs no answer tells; say how "
        "many USD each is charged"
    }
    assert found(entry, job_hold=0) == {}


def test_a_job_is_not_free() -> None:
    """Nor does it become so by its place."""
    assert found(unmetered=("POST /races",), job_hold=1) == {
        "providers.birds.unmetered[0]": "POST /races is of a job, and jobs cost money; move it into allow"
    }


def test_what_a_family_knows() -> None:
    """Each operation once."""
    kinds = [one.kind for one in known_as(TINY, parse_opening("GET /*/*"))]
    assert kinds == ["models", "nest", "keepers"]
    assert known_as(TINY, parse_opening("POST /new")) == []
