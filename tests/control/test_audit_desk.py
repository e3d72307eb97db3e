"""The audit log of operations: the same on a real Redis and on the embedded one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.control.operated import NOW, refusal

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import mint
from tollhouse.control.actor import Actor, this_user
from tollhouse.control.audit_desk import LONGEST
from tollhouse.control.operations import Operations
from tollhouse.control.refusal import OperationRefused
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable

BY = Actor("api", "tok_0123456789abcdef", "terraform")


async def log_of(operations: Operations, **asked: Any) -> list[tuple[str, str, Any, Any]]:
    found = await operations.perform("audit", asked)
    return [(r["operation"], r["target"], r["before"], r["after"]) for r in found]


async def test_each_change_is_a_record(
    operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    """With how it was and is, and who it was; what changes nothing is none, nor is what is refused. A token is in none."""
    caplog.set_level(logging.INFO, "tollhouse.audit")

    async def do(name: str, **arguments: Any) -> Any:
        return await operations.perform(name, arguments, BY)

    p = await do("project_set", project="p", tenant="acme", limits=["1 usd/day"])
    assert await do("project_set", project="p") == p
    await do("tenant_set", tenant="acme", limits=["9 usd/month"])
    made = await do("token_create", projects=["p"])
    token = made.pop("token")
    await do("budget_grant", project="p", amount="1 usd", reason="demo", grant_id="g")
    await do("budget_grant", project="p", amount="1 usd", reason="demo", grant_id="g")
    await do("project_remove", project="p")
    await refusal(operations, "project_set", project="q")
    found = await operations.perform("audit", {})
    assert [(r["operation"], r["target"]) for r in found] == [
        ("project_set", "project:p"),
        ("tenant_set", "tenant:acme"),
        ("token_create", f"token:{made['id']}"),
        ("budget_grant", "grant:p"),
        ("token_revoke", f"token:{made['id']}"),
        ("project_remove", "project:p"),
    ]
    assert {(r["via"], r["by"], r["by_name"]) for r in found} == {(BY.via, BY.id, BY.name)}
    assert found[0]["at"] == "2026-09-21T14:13:20.000Z"
    states = [(r["before"], r["after"]) for r in found]
    assert states[:3] == [(None, p), (None, ["9 usd/month"]), (None, made)]
    assert states[4] == (made, {**made, "revoked_at": "2026-09-21T14:13:20Z"})
    assert states[5] == (p, None)
    assert len(caplog.records) == len(found)
    assert token not in f"{found}{caplog.text}"


async def test_subjects_and_rotations(operations: Operations) -> None:
    await operations.project_set("p", "acme", [])
    subject = "jwt_" + "0" * 24
    await operations.perform("token_revoke", {"token_id": subject})
    await operations.perform("token_restore", {"token_id": subject})
    old = await operations.tokens.create(["p"])
    asked = {"token_id": old["id"], "overlap_s": 60.0}
    new = await operations.perform("token_rotate", asked)
    secret = new.pop("token")
    revoked, restored, rotated = await log_of(operations)
    assert (revoked[2], restored[3]) == (None, None)
    assert revoked[3] == restored[2]
    assert revoked[3]["kind"] == "subject"
    assert rotated[1] == f"token:{old['id']}"
    assert rotated[3] == new
    assert secret not in str(rotated)


async def test_a_command_keeps_its_token_valid(operations: Operations) -> None:
    """Each minute, which is no record; a longer end is one, and so is one that the API gives."""
    await operations.project_set("p", "acme", [])
    made = await operations.tokens.create(["p"], expires_s=60.0)
    for via, seconds in (("command", 300.0), ("command", 301.0), ("api", 300.0)):
        asked = {"token_id": made["id"], "expires_s": seconds}
        await operations.perform("token_extend", asked, Actor(via))
    found = await operations.perform("audit", {})
    assert [(r["via"], r["after"]["expires_at"]) for r in found] == [
        ("command", "2026-09-21T14:18:21Z"),
        ("api", "2026-09-21T14:18:20Z"),
    ]


async def test_a_file_that_is_taken_back(operations: Operations) -> None:
    """What a file has changed before the part that could not be set is in the log twice: there and back."""
    await operations.perform("project_set", {"project": "p", "tenant": "acme", "limits": []})
    projects = [
        {"project": "p", "limits": ["1 usd/day"]},
        {"project": "fails", "tenant": "acme"},
    ]
    await refusal(operations, "settings_apply", projects=projects, tenants=[])
    _, there, back = await log_of(operations)
    assert (there[0], back[0]) == ("project_set", "taken_back")
    assert (back[2], back[3]) == (there[3], there[2])


async def test_pages_and_moments(operations: Operations) -> None:
    """Behind an id, from a moment on, and not more than was asked for."""
    for name in "abc":
        await operations.perform("project_set", {"project": name, "tenant": "acme", "limits": []})
    first = (await operations.perform("audit", {"count": 1}))[0]
    assert [each[1] for each in await log_of(operations, after=first["id"])] == [
        "project:b",
        "project:c",
    ]
    assert await log_of(operations, since=NOW + 1e9) == []
    assert (await refusal(operations, "audit", after="x")).status == 400
    assert (await refusal(operations, "audit", count=0)).status == 400


async def test_bounds(operations: Operations) -> None:
    """Of a state that is too long the long part alone is not kept, and a token that came into one is taken out."""
    globs = [f"model-{number}-{'x' * 50}" for number in range(200)]
    asked = {"project": "p", "tenant": "acme", "limits": ["1 usd/day"], "models": globs}
    await operations.perform("project_set", asked)
    token = mint(b"0" * 32)
    await operations.audit.note("project_set", "project", "p", None, {"limits": [token]})
    long, with_token = await operations.perform("audit", {})
    assert long["after"]["models"]["bytes"] > LONGEST
    assert long["after"]["limits"] == ["1 usd/day"]
    assert token not in str(with_token)
    assert "gate_[removed]" in str(with_token)


async def test_a_token_in_a_label(operations: Operations) -> None:
    """Labels are shown, so it is refused."""
    await operations.perform("project_set", {"project": "p", "tenant": "acme", "limits": []})
    token = mint(b"0" * 32)
    for name, arguments in (
        ("token_create", {"projects": ["p"]}),
        ("viewer_create", {}),
        ("admin_create", {}),
    ):
        with pytest.raises(OperationRefused, match="a token stands in the label") as refused:
            await operations.perform(name, {**arguments, "label": f"as {token}"})
        assert token not in str(refused.value)


async def test_a_revocation_while_redis_is_away(
    stores: tuple[Directory, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried although nobody says how the token was before: this process refuses the token from then on."""
    directory, ledger = stores
    operations = Operations(directory, ledger)
    tried = []

    async def away(*_: object) -> None:
        raise LedgerUnavailable("Redis: away")

    async def revoke() -> None:
        tried.append(True)
        await away()

    monkeypatch.setattr(directory, "token", away)
    with pytest.raises(LedgerUnavailable):
        await operations.audit.watch("token_revoke", {"token_id": "tok_0123456789abcdef"}, revoke)
    assert tried


async def test_a_store_that_takes_no_record(
    stores: tuple[Directory, Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    """The change is made, and the log has its record and says that Redis has none."""
    directory, ledger = stores
    operations = Operations(directory, ledger)

    async def away(_record: Any) -> None:
        raise LedgerUnavailable("Redis: away")

    ledger.streams.add_audit = away  # type: ignore[method-assign]
    await operations.perform("project_set", {"project": "p", "tenant": "acme", "limits": []})
    assert (await operations.project_show("p"))["tenant"] == "acme"
    assert "Redis has no record of it" in caplog.text
    assert '"target":"project:p"' in caplog.text


def test_the_user_of_a_command() -> None:
    user = this_user()
    assert user.via == "command"
    assert user.id.startswith("uid:")
    assert Actor.of_json(user.as_json()) == user
