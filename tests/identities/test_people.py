"""Who a person is: a table of claims."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.identities.people import Person, View, person_of

ISSUER = "https://login.example"
ADMINS = {"groups": ("ops",), "/org/level": ("high",)}
VIEWS = (
    View({"groups": ("acme-devs", "acme-qa")}, tenant="acme"),
    View({"department": ("finance",)}),
    View({"groups": ("guests",)}, projects=("p",)),
)


def seen(**claims: Any) -> tuple[bool, str, tuple[str, ...] | None] | None:
    found = person_of(ISSUER, {"sub": "s", **claims}, ADMINS, VIEWS)
    return None if found is None else (found.admin, found.tenant, found.projects)


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({"groups": ["x", "ops"], "org": {"level": "high"}}, (True, "", None)),
        ({"groups": "ops", "org": {"level": "high"}}, (True, "", None)),
        # Each claim that is asked for has to be there.
        ({"groups": ["ops"]}, None),
        ({"groups": ["ops"], "org": "high"}, None),
        ({"groups": ["acme-qa"]}, (False, "acme", None)),
        ({"department": "finance"}, (False, "", None)),
        ({"groups": ["guests"]}, (False, "", ("p",))),
        # The first that fits decides.
        ({"groups": ["guests", "acme-devs"]}, (False, "acme", None)),
        ({"groups": ["Guests"]}, None),
        ({"groups": "guests,acme-devs"}, None),
        ({"groups": {"guests": True}}, None),
        ({"groups": [["guests"]]}, None),
        ({}, None),
    ],
)
def test_what_claims_give(claims: dict[str, Any], wanted: Any) -> None:
    assert seen(**claims) == wanted


@pytest.mark.parametrize("path", ["email", "/email"])
@pytest.mark.parametrize(
    ("verified", "let_in"), [(True, True), (False, False), (None, False), ("true", False)]
)
def test_an_address_that_nobody_has_verified(path: str, verified: Any, let_in: bool) -> None:
    """Who may write any address into his account is not whom the address belongs to."""
    claims = {"sub": "s", "email": "boss@acme.example", "email_verified": verified}
    found = person_of(ISSUER, claims, {path: ("boss@acme.example",)}, ())
    assert (found is not None) is let_in


@pytest.mark.parametrize("subject", [None, "", 5, "x" * 256])
def test_nobody_without_a_subject(subject: Any) -> None:
    assert seen(department="finance", sub=subject) is None


def test_no_rule_is_nobody() -> None:
    """An empty table fits nobody, and not everybody."""
    assert person_of(ISSUER, {"sub": "s"}, {}, [View({})]) is None


def test_names() -> None:
    """The id is of issuer and subject alone; the name is what people call him."""
    claims = {"sub": "s", "department": "finance"}
    plain = person_of(ISSUER, claims, {}, VIEWS)
    named = person_of(ISSUER, {**claims, "name": 5, "email": "a@example.com"}, {}, VIEWS)
    assert isinstance(plain, Person)
    assert isinstance(named, Person)
    assert (plain.name, named.name) == ("s", "a@example.com")
    assert plain.id == named.id
    other = person_of("https://other.example", claims, {}, VIEWS)
    assert other is not None
    assert other.id != plain.id
