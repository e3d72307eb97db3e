"""Who is calling: the first credential that is present decides, and which project pays."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from tests.support.calls import models_head

from tollhouse.accounts.token import digest, mint
from tollhouse.admit.identity import Presented, choose_project, identify, presented
from tollhouse.call import RequestHead
from tollhouse.denial import Refused
from tollhouse.parties import Identity, Project

TOKEN = mint(bytes(32))
NOW = 1000.0


def basic(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return "Basic " + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("request_head", "query", "secret", "user"),
    [
        (models_head(connect_proxy_authorization=basic(f"proj:{TOKEN}")), [], TOKEN, "proj"),
        (models_head(connect_proxy_authorization=basic(f":{TOKEN}")), [], TOKEN, ""),
        (models_head(connect_proxy_authorization=basic("proj:a:b")), [], "a:b", "proj"),
        (models_head(connect_proxy_authorization=f"Bearer {TOKEN}"), [], TOKEN, ""),
        (models_head(connect_proxy_authorization=f"bearer  {TOKEN} "), [], TOKEN, ""),
        (models_head(("proxy-authorization", f"Bearer {TOKEN}")), [], TOKEN, ""),
        (models_head(("authorization", f"Bearer {TOKEN}")), [], TOKEN, ""),
        (models_head(("authorization", f"BEARER {TOKEN}")), [], TOKEN, ""),
        (models_head(("authorization", TOKEN)), [], TOKEN, ""),
        (models_head(("x-api-key", TOKEN)), [], TOKEN, ""),
        (models_head(("api-key", TOKEN)), [], TOKEN, ""),
        (models_head(("x-goog-api-key", TOKEN)), [], TOKEN, ""),
        (models_head(), [TOKEN, "other"], TOKEN, ""),
        # The first that is present decides, whatever it is.
        (models_head(("authorization", "Bearer x"), ("x-api-key", TOKEN)), [TOKEN], "x", ""),
        (
            models_head(
                ("authorization", f"Bearer {TOKEN}"), connect_proxy_authorization="Bearer x"
            ),
            [],
            "x",
            "",
        ),
        (
            models_head(
                ("proxy-authorization", f"Bearer {TOKEN}"), connect_proxy_authorization="Bearer x"
            ),
            [],
            "x",
            "",
        ),
        (models_head(("authorization", "")), [TOKEN], "", ""),
    ],
)
def test_presented(request_head: RequestHead, query: list[str], secret: str, user: str) -> None:
    """Proxy-Authorization of the CONNECT, of the request, the slots in order, the query."""
    found = presented(request_head, query)
    assert found is not None
    assert (found.secret, found.user) == (secret, user)
    assert TOKEN not in repr(found)


def test_nothing_presented() -> None:
    """No credential is None, which is not the same as an empty one."""
    assert presented(models_head(), []) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "Basic",
        "Basic !",
        basic("no colon"),
        basic(b"\xff:\xff"),
        "Digest a",
        "Basic " + TOKEN,
        "Negotiate x",
    ],
)
def test_proxy_authorization_that_cannot_be_read(value: str) -> None:
    """It is there, so it decides: 401, also when it is empty and a good one stands behind it."""
    with pytest.raises(Refused) as caught:
        presented(
            models_head(("authorization", f"Bearer {TOKEN}"), connect_proxy_authorization=value), []
        )
    assert caught.value.denial.code == "identity_unknown"


def test_proxy_authorization_twice() -> None:
    """Which one counts would be a guess."""
    with pytest.raises(Refused) as caught:
        presented(
            models_head(("proxy-authorization", "Bearer a"), ("proxy-authorization", "Bearer a")),
            [],
        )
    assert caught.value.denial.code == "bad_request"


@dataclass(frozen=True)
class Record:
    id: str = "tok_1"
    tenant: str = "acme"
    projects: tuple[str, ...] = ("proj",)
    label: str = "ci"
    expires_at: float | None = None
    revoked_at: float | None = None
    charged_as: str = ""
    limits: tuple[str, ...] = ()


class OneToken:
    """A directory that knows `TOKEN` by its digest."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.asked: list[str] = []

    async def find(self, digest_: str) -> Record | None:
        self.asked.append(digest_)
        return self._record if digest_ == digest(TOKEN) else None

    async def get_project(self, project_id: str) -> Project | None:
        raise AssertionError("identity does not ask for projects")


@pytest.mark.parametrize(
    ("secret", "record", "verdict"),
    [
        (TOKEN, Record(), "tok_1"),
        (TOKEN, Record(expires_at=NOW + 0.1), "tok_1"),
        (TOKEN, Record(expires_at=NOW), "identity_expired"),
        (TOKEN, Record(expires_at=0.0), "identity_expired"),
        (TOKEN, Record(revoked_at=NOW - 1), "identity_revoked"),
        (TOKEN, Record(revoked_at=0.0), "identity_revoked"),
        (TOKEN, Record(revoked_at=1.0, expires_at=1.0), "identity_revoked"),
        (mint(bytes(31) + b"\1"), Record(), "identity_unknown"),
        (None, Record(), "identity_missing"),
    ],
)
async def test_identify(secret: str | None, record: Record, verdict: str) -> None:
    """Known, not revoked, not expired."""
    credential = None if secret is None else Presented(secret)
    try:
        found = (await identify(credential, OneToken(record), lambda: NOW)).token_id
    except Refused as refused:
        found = refused.denial.code
    assert found == verdict


@pytest.mark.parametrize(
    "secret", ["", "sk-x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), TOKEN[:-1] + "!", "x" * 100_000]
)
async def test_what_is_no_token_is_not_looked_up(secret: str) -> None:
    """Redis is not asked for what has a wrong form or checksum, and the refusal does not repeat it."""
    directory = OneToken(Record())
    with pytest.raises(Refused) as caught:
        await identify(Presented(secret), directory, lambda: NOW)
    assert (caught.value.denial.code, directory.asked) == ("identity_unknown", [])
    assert not secret or secret not in caught.value.denial.message


ONE = Identity("tok_1", "acme", ("proj",))
TWO = Identity("tok_2", "acme", ("proj", "other"))


@pytest.mark.parametrize(
    ("identity", "named", "user", "verdict"),
    [
        (ONE, [], "", "proj"),
        (ONE, ["proj"], "", "proj"),
        (ONE, [" proj "], "", "proj"),
        (ONE, [], "proj", "proj"),
        (ONE, [""], "", "proj"),
        (TWO, ["other"], "proj", "other"),
        (TWO, [], "other", "other"),
        (TWO, [], "", "bad_request"),
        (TWO, [""], "", "bad_request"),
        (ONE, ["proj", "proj"], "", "bad_request"),
        (ONE, ["other"], "", "project_not_allowed"),
        (ONE, ["other"], "proj", "project_not_allowed"),
        (ONE, [], "other", "project_not_allowed"),
        (ONE, ["PROJ"], "", "project_not_allowed"),
        (ONE, ["proj,other"], "", "project_not_allowed"),
        (Identity("tok_3", "acme", ()), [], "", "bad_request"),
    ],
)
def test_choose_project(identity: Identity, named: list[str], user: str, verdict: str) -> None:
    """The header, the user name, the only one; never one beyond the token's own."""
    try:
        found = choose_project(identity, named, user, "x-coreason-project-id")
    except Refused as refused:
        found = refused.denial.code
    assert found == verdict
