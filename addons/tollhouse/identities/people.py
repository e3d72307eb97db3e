"""Who a person is at the admin listener, by what an issuer's JWT claims. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tollhouse.accounts.token import subject_id
from tollhouse.identities.templates import ClaimError, ClaimPath

Wanted = Mapping[str, tuple[str, ...]]
"""Claims, by name or JSON Pointer, each of which has to have one of its values. A claim that is a list has several."""
_NAMES: Final = ("name", "preferred_username", "email")
_MAX_SUBJECT: Final = 255
"""OpenID Connect Core 1.0, section 2."""


class ProviderAway(Exception):
    """The provider does not answer as one. The text is for the log and for people: it names hosts, and nothing secret."""


class LoginRefused(Exception):
    """The provider, or what it has signed, does not say who logs in. The text says why."""


@dataclass(frozen=True, slots=True)
class View:
    """What those see of whom ``wanted`` is claimed. ``tenant`` and ``projects`` are as in `Person`."""

    wanted: Wanted
    tenant: str = ""
    projects: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """``id`` is a subject's, by which the person can be revoked. ``tenant`` empty is all tenants, ``projects`` None all of
    the tenant's."""

    id: str
    name: str
    admin: bool = False
    tenant: str = ""
    projects: tuple[str, ...] | None = None


def person_of(
    issuer: str, claims: Mapping[str, Any], admins: Wanted, views: Sequence[View]
) -> Person | None:
    """None for somebody who is nobody here. An admin sees all; of ``views`` the first that fits decides."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT:
        return None
    own = subject_id("jwt", issuer, subject)
    given = (claims.get(name) for name in _NAMES)
    name = next((text for text in given if isinstance(text, str) and text), subject)[:100]
    if _fits(claims, admins):
        return Person(own, name, admin=True)
    for view in views:
        if _fits(claims, view.wanted):
            return Person(own, name, tenant=view.tenant, projects=view.projects)
    return None


def _fits(claims: Mapping[str, Any], wanted: Wanted) -> bool:
    return bool(wanted) and all(
        set(_values(claims, path)) & set(values) for path, values in wanted.items()
    )


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    if path.removeprefix("/") == "email" and claims.get("email_verified") is not True:
        # Some providers let everybody write any address there (OpenID Connect Core 1.0, section 5.7).
        return []
    try:
        found = ClaimPath(path).of(claims)
    except ClaimError:
        return []
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]
