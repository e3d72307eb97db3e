"""What the operations do to tokens: the same on a real Redis and on the embedded one."""

from __future__ import annotations

from tests.control.operated import NOW, refusal

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import digest, well_formed
from tollhouse.control.operations import Operations
from tollhouse.ledger.ledger import Ledger, Scope


async def test_token_is_made_listed_and_revoked(
    operations: Operations, stores: tuple[Directory, Ledger]
) -> None:
    """The token is in the answer of its making only; the directory finds it until it is revoked, and says so after."""
    await operations.project_set("p", "acme", [])
    made = await operations.perform(
        "token_create", {"projects": ["p", "p"], "expires_s": 60.0, "label": "ci"}
    )
    token = made.pop("token")
    assert well_formed(token)
    assert made == {
        "id": made["id"],
        "kind": "gate",
        "tenant": "acme",
        "projects": ["p"],
        "label": "ci",
        "created_at": "2026-09-21T14:13:20Z",
        "expires_at": "2026-09-21T14:14:20Z",
        "revoked_at": None,
        "limits": [],
    }
    assert await operations.perform("token_list", {"project": "p"}) == [made]
    assert await operations.perform("token_revoke", {"token_id": made["id"]}) == {
        "id": made["id"],
        "revoked": True,
    }
    found = await stores[0].find(digest(token))
    assert found is not None
    assert found.revoked_at == NOW


async def test_a_token_that_sees_all_tenants_is_of_none(operations: Operations) -> None:
    """So exports and `tollhouse explain` ask for nobody's records once."""
    await operations.project_set("p", "acme", [])
    await operations.perform("viewer_create", {})
    assert await operations.perform("tenants", {}) == ["acme"]


async def test_an_end_is_moved(operations: Operations) -> None:
    """From now on, also when it has passed; never that of a token that was revoked."""
    await operations.project_set("p", "acme", [])
    made = await operations.tokens.create(["p"], expires_s=1.0)
    asked = {"token_id": made["id"], "expires_s": 300.0}
    moved = await operations.perform("token_extend", asked)
    assert moved["expires_at"] == "2026-09-21T14:18:20Z"
    assert await operations.tokens.listed() == [moved]
    await operations.perform("token_revoke", {"token_id": made["id"]})
    assert "was revoked" in str(await refusal(operations, "token_extend", **asked))
    assert (await operations.tokens.listed())[0]["revoked_at"] is not None
    nobody = {**asked, "token_id": "tok_0123456789abcdef"}
    assert "no token has the id" in str(await refusal(operations, "token_extend", **nobody))
    assert "positive" in str(
        await refusal(operations, "token_extend", **{**asked, "expires_s": 0.0})
    )


async def test_token_refusals(operations: Operations) -> None:
    """Unknown projects, projects of two tenants, no project, an end in the past, an unknown id."""
    await operations.project_set("p", "acme", [])
    await operations.project_set("q", "other", [])
    assert "nope does not exist" in str(
        await refusal(operations, "token_create", projects=["p", "nope"])
    )
    assert "acme, other" in str(await refusal(operations, "token_create", projects=["p", "q"]))
    assert "needs a project" in str(await refusal(operations, "token_create", projects=[]))
    assert "positive" in str(
        await refusal(operations, "token_create", projects=["p"], expires_s=-1.0)
    )
    assert "no token has the id" in str(
        await refusal(operations, "token_revoke", token_id="tok_" + "0" * 16)
    )
    assert "nope does not exist" in str(await refusal(operations, "token_list", project="nope"))
    assert await operations.tokens.listed() == []


async def test_a_token_has_limits_of_its_own(operations: Operations) -> None:
    """Shown with the project's, beside what is used of them; a malformed one makes no token."""
    await operations.project_set("p", "acme", ["10 usd/day"])
    made = await operations.perform("token_create", {"projects": ["p"], "limits": ["1 USD / day"]})
    await operations.perform("token_create", {"projects": ["p"]})
    assert made["limits"] == ["1 usd/day"]
    shown = await operations.perform("budget_show", {"project": "p"})
    assert [
        (scope["scope"], [limit["limit"] for limit in scope["limits"]]) for scope in shown["scopes"]
    ] == [
        ("tenant:acme", []),
        ("project:p", ["10 usd/day"]),
        (f"token:{made['id']}", ["1 usd/day"]),
    ]
    assert "'-1 usd/day'" in str(
        await refusal(operations, "token_create", projects=["p"], limits=["-1 usd/day"])
    )
    assert len(await operations.tokens.listed()) == 2


async def test_a_token_is_rotated(operations: Operations, stores: tuple[Directory, Ledger]) -> None:
    """Both are valid for the time given; what the first has used of its limits the second has used."""
    await operations.project_set("p", "acme", [])
    old = await operations.perform(
        "token_create",
        {"projects": ["p"], "expires_s": 86_400.0, "label": "ci", "limits": ["1 usd/day"]},
    )
    new = await operations.perform("token_rotate", {"token_id": old["id"], "overlap_s": 3_600.0})
    assert (new["replaces"], new["replaced_ends_at"]) == (old["id"], "2026-09-21T15:13:20Z")
    assert new["expires_at"] == old["expires_at"] == "2026-09-22T14:13:20Z"
    assert (new["projects"], new["label"], new["limits"]) == (["p"], "ci", ["1 usd/day"])
    third = await operations.perform(
        "token_rotate", {"token_id": new["id"], "overlap_s": 60.0, "expires_s": 90.0}
    )
    for token, expires_at in ((old, NOW + 3600), (new, NOW + 60), (third, NOW + 90)):
        found = await stores[0].find(digest(token["token"]))
        assert found is not None
        assert (found.expires_at, found.revoked_at) == (expires_at, None)
        assert found.identity().charged_as in ("", old["id"])
        assert found.scope() == Scope("token", "acme", old["id"])
    shown = await operations.perform("budget_show", {"project": "p"})
    assert [scope["scope"] for scope in shown["scopes"][2:]] == [f"token:{old['id']}"]


async def test_what_cannot_be_rotated(operations: Operations) -> None:
    """A token that has ended, that does not exist, or that was given in place of its id."""
    await operations.project_set("p", "acme", [])
    made = await operations.perform("token_create", {"projects": ["p"]})
    await operations.tokens.revoke(made["id"])
    assert "was revoked" in str(
        await refusal(operations, "token_rotate", token_id=made["id"], overlap_s=1.0)
    )
    nobody = await refusal(
        operations, "token_rotate", token_id="tok_0123456789abcdef", overlap_s=1.0
    )
    assert "no token has the id" in str(nobody)
    whole = await refusal(operations, "token_rotate", token_id=made["token"], overlap_s=1.0)
    assert made["token"] not in str(whole)
    assert "positive" in str(
        await refusal(operations, "token_rotate", token_id=made["id"], overlap_s=0.0)
    )
    assert len(await operations.tokens.listed()) == 1


async def test_a_token_that_was_rotated_already(operations: Operations) -> None:
    """In its overlap it says no more how long a token should live: its successor is named, and a time given will do."""
    await operations.project_set("p", "acme", [])
    old = await operations.perform("token_create", {"projects": ["p"]})
    new = await operations.perform("token_rotate", {"token_id": old["id"], "overlap_s": 60.0})
    assert f"rotated into {new['id']}" in str(
        await refusal(operations, "token_rotate", token_id=old["id"], overlap_s=1.0)
    )
    assert len(await operations.tokens.listed()) == 2
    other = await operations.perform(
        "token_rotate", {"token_id": old["id"], "overlap_s": 60.0, "expires_s": 90.0}
    )
    assert other["replaces"] == old["id"]
