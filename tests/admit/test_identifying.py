"""The chain of identifiers: what is shown first decides, and what happens to the platform's identities while Redis is away."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.support.calls import models_head

from tollhouse.accounts.remembered import Remembered
from tollhouse.accounts.subjects import Subjects
from tollhouse.accounts.token import mint
from tollhouse.admit.identifying import Accounts, Identifier, Platform
from tollhouse.call import RequestHead
from tollhouse.denial import Refused
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.parties import Identity

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln"
BY_JWT = Identity("jwt_1", "acme", ("p",), limits=("1 usd/day",), kind="jwt", subject="s")
BY_CERTIFICATE = replace(BY_JWT, token_id="crt_1", kind="certificate")
BY_NETWORK = replace(BY_JWT, token_id="net_1", kind="network")
CERTIFICATE = b"a certificate"


@dataclass
class Jwts:
    async def identify(self, token: str) -> Identity:
        assert token == JWT
        return BY_JWT

    def names_issuer(self, token: str) -> bool:
        return True


class Certificates:
    def identify(self, certificate: bytes) -> Identity:
        assert certificate == CERTIFICATE
        return BY_CERTIFICATE


class Networks:
    def identity(self, head: RequestHead) -> Identity | None:
        return BY_NETWORK if head.listener == "transparent" else None


@dataclass
class Book:
    """A directory without tokens, and a ledger."""

    away: bool = False
    limited: list[Any] = field(default_factory=list)

    async def find(self, digest: str) -> None:
        await self.find_subject(digest)

    async def find_subject(self, subject_id: str) -> None:
        if self.away:
            raise LedgerUnavailable("it is away")

    async def set_limits(self, *scope: Any) -> None:
        if self.away:
            raise LedgerUnavailable("it is away")
        self.limited.append(scope)


async def serves(error: LedgerUnavailable) -> bool:
    return True


def made(book: Any, remembered: Remembered | None = None) -> Identifier:
    platform = Platform(Subjects(book), Jwts(), Certificates(), Networks())
    return Identifier(Accounts(book, remembered), lambda: 1000.0, platform)


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{JWT}".encode()).decode()


SLOT = ("authorization", f"Bearer {JWT}")
EMPTY = ("authorization", "Bearer not-a-key")
CERTIFIED: dict[str, Any] = {"client_certificate": CERTIFICATE, "listener": "transparent"}


@pytest.mark.parametrize(
    ("request_head", "wanted", "user"),
    [
        (models_head(connect_proxy_authorization=basic("x"), **CERTIFIED), BY_JWT, ""),
        (models_head(connect_proxy_authorization=basic("jwt")), BY_JWT, ""),
        (models_head(connect_proxy_authorization=basic("p")), BY_JWT, "p"),
        (models_head(SLOT, **CERTIFIED), BY_JWT, ""),
        (models_head(**CERTIFIED), BY_CERTIFICATE, ""),
        (models_head(EMPTY, **CERTIFIED), BY_CERTIFICATE, ""),
        (models_head(EMPTY, listener="transparent"), BY_NETWORK, ""),
        (models_head(listener="transparent"), BY_NETWORK, ""),
        # A wrong one is refused, and none behind it is tried.
        (models_head(("x-api-key", "sk-1"), **CERTIFIED), "identity_unknown", ""),
        (models_head(("authorization", ""), **CERTIFIED), "identity_unknown", ""),
        (models_head(("authorization", "Bearer not-a-key2"), **CERTIFIED), "identity_unknown", ""),
        (
            models_head(connect_proxy_authorization="Bearer not-a-key", **CERTIFIED),
            "identity_unknown",
            "",
        ),
        (models_head(("x-api-key", mint(bytes(32))), **CERTIFIED), "identity_unknown", ""),
        # An empty slot is none, and what is in the next one decides.
        (models_head(EMPTY, ("x-api-key", JWT), **CERTIFIED), BY_JWT, ""),
        (models_head(EMPTY, ("x-api-key", "sk-1"), **CERTIFIED), "identity_unknown", ""),
        (models_head(EMPTY, ("x-api-key", "sk-1"), listener="transparent"), "identity_unknown", ""),
        (models_head(EMPTY, ("x-api-key", "not-a-key"), **CERTIFIED), BY_CERTIFICATE, ""),
        (models_head(EMPTY), "identity_unknown", ""),
        (models_head(), "identity_missing", ""),
    ],
)
async def test_what_decides(request_head: RequestHead, wanted: Identity | str, user: str) -> None:
    identifier = made(Book())
    if isinstance(wanted, Identity):
        found = await identifier.identify(identifier.shown(request_head, ()))
        assert found == (wanted, user, False)
        return
    with pytest.raises(Refused) as caught:
        await identifier.identify(identifier.shown(request_head, ()))
    assert caught.value.denial.code == wanted


async def test_limits_are_written_once() -> None:
    """Before the first call of a subject, and never again by this process while they are the same."""
    book = Book()
    identifier = made(book)
    for _ in range(3):
        await identifier.identify(identifier.shown(models_head(SLOT), ()))
    assert len(book.limited) == 1


async def test_redis_away() -> None:
    """503; and with ``unsafe_fail_open`` a JWT goes on by its signature, unless its subject was revoked when Redis was asked."""
    shown = made(Book()).shown(models_head(SLOT), ())
    with pytest.raises(Refused) as caught:
        await made(Book(away=True)).identify(shown)
    assert caught.value.denial.code == "ledger_unavailable"
    remembered = Remembered(serves)
    assert await made(Book(away=True), remembered).identify(shown) == (BY_JWT, "", True)

    @dataclass
    class Revoked:
        id: str = "jwt_1"
        tenant: str = ""
        projects: tuple[str, ...] = ()
        label: str = ""
        expires_at: float | None = None
        revoked_at: float | None = 1.0
        charged_as: str = ""
        limits: tuple[str, ...] = ()

    remembered.note_token("jwt_1", 0.0, Revoked())
    with pytest.raises(Refused) as caught:
        await made(Book(away=True), remembered).identify(shown)
    assert caught.value.denial.code == "ledger_unavailable"
