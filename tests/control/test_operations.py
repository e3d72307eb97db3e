"""What the operations do to the stores: the same on a real Redis and on the embedded one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import digest, well_formed
from tollhouse.call import Amount
from tollhouse.config.load import load_config
from tollhouse.control.operations import TABLE, Operations
from tollhouse.control.refusal import OperationRefused
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.store.client import LedgerUnavailable, connect
from tollhouse.parties import Project
from tollhouse.prices.kept import PriceFileError

NOW = 1_790_000_000.0


class Failing(Directory):
    """The store is away when the project "fails" is written."""

    async def set_project(self, project: Project) -> None:
        if project.id == "fails":
            raise LedgerUnavailable("Redis: away")
        await super().set_project(project)


@pytest.fixture(params=["embedded", "redis"])
async def stores(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Directory, Ledger]]:
    """A directory and a ledger on an empty store."""
    url = "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")
    redis = connect(url, tmp_path / "state")
    ledger = Ledger(redis)
    yield Failing(redis, now=lambda: NOW), ledger
    await ledger.close()


@pytest.fixture
def operations(stores: tuple[Directory, Ledger]) -> Operations:
    """Operations whose clock stands still and whose tokens are made of counted bytes."""
    count = itertools.count(1)
    return Operations(
        *stores, clock=lambda: NOW, random_bytes=lambda size: bytes([next(count)]) * size
    )


async def refusal(operations: Operations, name: str, **arguments: Any) -> OperationRefused:
    with pytest.raises(OperationRefused) as raised:
        await operations.perform(name, arguments)
    return raised.value


async def test_project_is_made_changed_and_shown(operations: Operations) -> None:
    """What is not given stays; limits are kept in their canonical text."""
    made = await operations.perform(
        "project_set", {"project": "p", "tenant": "acme", "limits": ["10 USD / day"]}
    )
    assert made == {
        "project": "p",
        "tenant": "acme",
        "limits": ["10 usd/day"],
        "on_shortfall": "reject",
        "models": [],
        "unpriced": "refuse",
        "estimate": "typical",
        "login": "strip",
    }
    changed = await operations.perform("project_set", {"project": "p", "unpriced": "dearest"})
    assert changed == {**made, "unpriced": "dearest"}
    assert await operations.perform("project_show", {"project": "p"}) == changed
    assert await operations.perform("project_list", {}) == [changed]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"project": "new"}, "name its tenant"),
        ({"project": "p", "tenant": "other"}, "belongs to tenant acme"),
        ({"project": "p", "limits": ["10 usd"]}, "the window is missing"),
        ({"project": "p", "limits": ["1 usd/day", "2 usd/day"]}, "keep one of them"),
        ({"project": "a/b", "tenant": "acme"}, "project"),
        ({"project": "q", "tenant": "a{b}"}, "tenant"),
        ({"project": "p", "limits": "10 usd/day"}, "limits"),
        ({"project": "p", "unpriced": "free"}, "unpriced"),
        ({"project": "p", "colour": "red"}, "colour"),
        ({"tenant": "acme"}, "project"),
        ({"self": "p"}, "self"),
    ],
)
async def test_project_set_refuses(
    operations: Operations, arguments: dict[str, Any], words: str
) -> None:
    """Each wrong argument is named, and nothing is changed."""
    before = await operations.project_set("p", "acme", ["1 usd/day"])
    assert words in str(await refusal(operations, "project_set", **arguments))
    assert await operations.project_list() == [before]


async def test_argument_errors_do_not_repeat_values(operations: Operations) -> None:
    """A value that does not fit may be a secret."""
    error = await refusal(operations, "token_revoke", token_id=["gate_secret"])
    assert error.status == 400
    assert "gate_secret" not in str(error)
    assert "gate_secret" not in str(
        await refusal(operations, "token_revoke", token_id="gate_secret")
    )


@pytest.mark.parametrize("name", ["perform", "apply", "__init__", "_known", "nothing", ""])
async def test_only_the_table_is_reachable(operations: Operations, name: str) -> None:
    """A method that is not in the table is no operation."""
    assert name not in TABLE
    assert (await refusal(operations, name)).status == 404


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


async def test_project_remove_revokes_its_own_tokens(operations: Operations) -> None:
    """A token for it alone ends with it, so that making it again does not revive the token; a shared one stays."""
    await operations.project_set("p", "acme", [])
    await operations.project_set("q", "acme", [])
    own = (await operations.tokens.create(["p"]))["id"]
    shared = (await operations.tokens.create(["p", "q"]))["id"]
    assert await operations.perform("project_remove", {"project": "p"}) == {
        "project": "p",
        "revoked": [own],
    }
    assert "p does not exist" in str(await refusal(operations, "project_show", project="p"))
    revoked = {
        info["id"]: info["revoked_at"] is not None for info in await operations.tokens.listed()
    }
    assert revoked == {own: True, shared: False}


async def test_budget_show(operations: Operations, stores: tuple[Directory, Ledger]) -> None:
    """The contract's shape: amounts are decimal strings in the limit's own unit, held is apart from used."""
    await operations.project_set("p", "acme", ["1 usd/total", "2 concurrent", "100 tokens/total"])
    scopes = [
        Scope("tenant", "acme", "acme"),
        Scope("project", "acme", "p"),
        Scope("token", "acme", "t"),
    ]
    ledger = stores[1]
    assert isinstance(await ledger.hold("a", scopes, Amount(250_000_000, 10)), Held)
    await ledger.settle("a", scopes, Amount(12_345, 7), record={})
    assert isinstance(await ledger.hold("b", scopes, Amount(20_000_000, 5)), Held)
    shown = await operations.perform("budget_show", {"project": "p"})
    assert shown == {
        "project": "p",
        "scopes": [
            {"scope": "tenant:acme", "limits": []},
            {
                "scope": "project:p",
                "limits": [
                    {
                        "limit": "1 usd/total",
                        "used": "0.000012345",
                        "held": "0.02",
                        "left": "0.979987655",
                        "resets_at": None,
                    },
                    {
                        "limit": "2 concurrent",
                        "used": "0",
                        "held": "1",
                        "left": "1",
                        "resets_at": None,
                    },
                    {
                        "limit": "100 tokens/total",
                        "used": "7",
                        "held": "5",
                        "left": "88",
                        "resets_at": None,
                    },
                ],
            },
        ],
    }


async def test_usage(operations: Operations, stores: tuple[Directory, Ledger]) -> None:
    """Sums by model and by token; a day after today has none."""
    await operations.project_set("p", "acme", [])
    scopes = [Scope("project", "acme", "p"), Scope("token", "acme", "t")]
    record = {"provider": "openai", "model": "gpt-4o"}
    for call_id in ("a", "b"):
        await stores[1].hold(call_id, scopes, Amount(10, 1))
        await stores[1].settle(call_id, scopes, Amount(1_500_000_000, 20), record=record)
    sums = {"usd": "3", "tokens": 40, "requests": 2}
    by_model = await operations.perform("usage", {"project": "p"})
    assert by_model == {"project": "p", "by": "model", "rows": [{"key": "openai/gpt-4o", **sums}]}
    by_token = await operations.perform("usage", {"project": "p", "by": "token", "since": 0.0})
    assert by_token["rows"] == [{"key": "t", **sums}]
    assert (await operations.perform("usage", {"project": "p", "since": 9e9}))["rows"] == []


async def test_limits_by_session(operations: Operations, stores: tuple[Directory, Ledger]) -> None:
    """They are shown without amounts, are no limits of the project itself, and a tenant has none."""
    await operations.project_set("p", "acme", ["2 usd/session", "10 usd/day"])
    made = await operations.tokens.create(["p"], limits=["5 requests/session"])
    assert made["limits"] == ["5 requests/session"]
    shown = await operations.perform("budget_show", {"project": "p"})
    assert shown["sessions"] == [
        {"scope": "project:p", "limit": "2 usd/session"},
        {"scope": f"token:{made['id']}", "limit": "5 requests/session"},
    ]
    limits = {scope["scope"]: scope["limits"] for scope in shown["scopes"]}
    assert [limit["limit"] for limit in limits["project:p"]] == ["10 usd/day"]
    assert limits[f"token:{made['id']}"] == []
    error = await refusal(operations, "tenant_set", tenant="acme", limits=["2 usd/session"])
    assert "projects and tokens have limits by session" in str(error)
    grant = {"project": "p", "amount": "5 usd", "reason": "launch"}
    assert (await operations.perform("budget_grant", grant))["limits"] == 1
    record = {"provider": "openai", "model": "gpt-4o", "session": "s-1"}
    scopes = [Scope("project", "acme", "p"), Scope("token", "acme", "t")]
    await stores[1].settle("c1", scopes, Amount(1_500_000_000, 20), record=record)
    found = await operations.perform("usage", {"project": "p", "by": "session"})
    assert found["rows"] == [{"key": "s-1", "usd": "1.5", "tokens": 20, "requests": 1}]


async def test_the_models_that_any_project_used(
    operations: Operations, stores: tuple[Directory, Ledger]
) -> None:
    """Each once, from a day on; calls that cost nothing are of no model."""
    for project, models in (("p", ("gpt-4o", "o3")), ("q", ("gpt-4o", ""))):
        await operations.project_set(project, "acme", [])
        for model in models:
            scopes = [Scope("project", "acme", project)]
            call_id = f"{project}{model}"
            await stores[1].hold(call_id, scopes, Amount(10, 1))
            record = {"provider": "openai", "model": model} if model else {}
            await stores[1].settle(call_id, scopes, Amount(5, 2), record=record)
    used = await operations.perform("models_used", {"since": 0.0})
    assert used == ["openai/gpt-4o", "openai/o3"]
    assert await operations.perform("models_used", {"since": 9e9}) == []


async def test_only_a_running_gateway_reads_prices_again(operations: Operations) -> None:
    """A command that opened the stores itself has no prices in use."""
    refused = await refusal(operations, "prices_reload")
    assert (refused.status, str(refused)) == (409, "only a running gateway has prices in use")


async def test_the_running_gateway_reads_prices_again(
    stores: tuple[Directory, Ledger],
) -> None:
    """It says which are in use then, or why the kept ones are not."""

    async def taken() -> str:
        return "genai-prices file 0123456789ab"

    async def refused() -> str:
        raise PriceFileError("it is older than the one in use; take a newer file")

    running = Operations(*stores, reload_prices=taken)
    assert await running.perform("prices_reload", {}) == {"prices": await taken()}
    error = await refusal(Operations(*stores, reload_prices=refused), "prices_reload")
    assert "take a newer file" in str(error)


async def test_apply_puts_the_file_into_the_stores(operations: Operations, tmp_path: Path) -> None:
    """The file's projects are made or changed; one that it does not name stays; twice is the same as once."""
    file = tmp_path / "tollhouse.toml"
    file.write_text(
        '[projects.p]\ntenant = "acme"\nlimits = ["5 usd/month"]\nunpriced = "dearest"\n'
        '[tenants.acme]\nlimits = ["100 USD/month"]\n[vault]\naddress = "embedded"\n'
    )
    await operations.project_set("p", "acme", ["1 usd/day"])
    kept = await operations.project_set("q", "acme", ["1 usd/day"])
    for _ in range(2):
        done = await operations.apply(load_config(file))
        [applied] = done["projects"]
        assert done["tenants"] == [{"tenant": "acme", "limits": ["100 usd/month"]}]
        assert (applied["limits"], applied["unpriced"]) == (["5 usd/month"], "dearest")
    assert await operations.project_list() == [applied, kept]
    shown = await operations.budgets.show("p")
    assert [limit["limit"] for limit in shown["scopes"][0]["limits"]] == ["100 usd/month"]


async def test_apply_refuses_another_tenant(operations: Operations, tmp_path: Path) -> None:
    """A project does not change its tenant by an edit of the file."""
    file = tmp_path / "tollhouse.toml"
    file.write_text('[projects.p]\ntenant = "other"\n[vault]\naddress = "embedded"\n')
    await operations.project_set("p", "acme", [])
    with pytest.raises(OperationRefused, match="belongs to tenant acme"):
        await operations.apply(load_config(file))


async def test_apply_judges_all_before_it_changes_anything(operations: Operations) -> None:
    """The last of three is wrong: the first is not done either."""
    projects = [
        {"project": "p", "tenant": "acme", "limits": ["1 usd/day"]},
        {"project": "q", "tenant": "acme", "models": ["open ai/*"]},
    ]
    error = await refusal(operations, "settings_apply", projects=projects, tenants=[])
    assert "'open ai/*' is not a model pattern" in str(error)
    assert await operations.project_list() == []


async def test_apply_takes_back_what_it_did(stores: tuple[Directory, Ledger]) -> None:
    """The store goes away before the last project: tenants and projects are what they were."""

    operations = Operations(*stores)
    await operations.tenant_set("acme", ["50 usd/month"])
    before = await operations.project_set("p", "acme", ["10 usd/day"])
    projects = [
        {"project": "p", "limits": ["1 usd/day"]},
        {"project": "q", "tenant": "acme"},
        {"project": "fails", "tenant": "acme"},
    ]
    tenants = [{"tenant": "acme", "limits": ["5 usd/month"]}]
    error = await refusal(operations, "settings_apply", projects=projects, tenants=tenants)
    assert error.status == 503
    assert await operations.project_list() == [before]
    shown = await operations.budgets.show("p")
    assert [limit["limit"] for limit in shown["scopes"][0]["limits"]] == ["50 usd/month"]
    assert [limit["limit"] for limit in shown["scopes"][1]["limits"]] == ["10 usd/day"]


async def test_apply_takes_back_tenants_before_one_that_is_wrong(operations: Operations) -> None:
    """Limits by session are none of a tenant's."""
    await operations.project_set("p", "acme", [])
    tenants = [
        {"tenant": "acme", "limits": ["5 usd/month"]},
        {"tenant": "other", "limits": ["2 usd/session"]},
    ]
    error = await refusal(operations, "settings_apply", projects=[], tenants=tenants)
    assert "session" in str(error)
    shown = await operations.budgets.show("p")
    assert shown["scopes"][0]["limits"] == []


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


async def test_a_grant_is_kept_and_shown(operations: Operations) -> None:
    """Why, when, by whom; and the limit shows what it has more."""
    await operations.project_set("p", "acme", ["1 usd/day", "100 tokens/day"])
    arguments = {"project": "p", "amount": "2.50 USD", "reason": " the fair ", "by": "ops"}
    done = await operations.perform("budget_grant", arguments)
    kept = {
        "at": "2026-09-21T14:13:20Z",
        "project": "p",
        "amount": "2.5 usd",
        "reason": "the fair",
        "by": "ops",
    }
    assert done == {**kept, "limits": 1}
    shown = await operations.perform("budget_show", {"project": "p"})
    assert shown["grants"] == [kept]
    money, tokens = shown["scopes"][1]["limits"]
    assert (money["limit"], money["granted"], money["left"]) == ("1 usd/day", "2.5", "3.5")
    assert "granted" not in tokens


async def test_a_grant_with_an_id_is_made_once(operations: Operations) -> None:
    """Told again it is what was made; with another amount it is refused, and nothing is changed."""
    await operations.project_set("p", "acme", ["1 usd/day"])
    arguments = {
        "project": "p",
        "amount": "2 usd",
        "reason": "the fair",
        "by": "ops",
        "grant_id": "fair-1",
    }
    kept = {
        "at": "2026-09-21T14:13:20Z",
        "project": "p",
        "amount": "2 usd",
        "reason": "the fair",
        "by": "ops",
        "id": "fair-1",
    }
    assert await operations.perform("budget_grant", arguments) == {**kept, "limits": 1}
    again = await operations.perform("budget_grant", {**arguments, "reason": "the fair, again"})
    assert again == {**kept, "limits": 0, "repeated": True}
    other = await refusal(operations, "budget_grant", **{**arguments, "amount": "3 usd"})
    assert (
        "the grant fair-1 of project p was 2 usd, made 2026-09-21T14:13:20Z: nothing was changed"
        in str(other)
    )
    shown = await operations.budgets.show("p")
    assert (shown["grants"], shown["scopes"][1]["limits"][0]["left"]) == ([kept], "3")


@pytest.mark.parametrize(
    ("amount", "reason", "why"),
    [
        ("5", "r", "'5' is not an amount"),
        ("-5 usd", "r", "not a plain number"),
        ("0 usd", "r", "adds nothing"),
        ("5 concurrent", "r", "'5 concurrent' can't be added"),
        ("5 requests", "r", "has no limit in requests"),
        ("5 usd", "  ", "needs a reason"),
    ],
)
async def test_what_cannot_be_granted(
    operations: Operations, amount: str, reason: str, why: str
) -> None:
    """Each says what is wrong; nothing is changed."""
    await operations.project_set("p", "acme", ["1 usd/day"])
    assert why in str(
        await refusal(operations, "budget_grant", project="p", amount=amount, reason=reason)
    )
    assert "grants" not in await operations.budgets.show("p")


async def test_store_away_is_said(tmp_path: Path) -> None:
    """A Redis that is not there is a refusal of its own kind, without the URL's password."""
    redis = connect("redis://user:secret@127.0.0.1:1/0", tmp_path)
    ledger = Ledger(redis)
    error = await refusal(Operations(Directory(redis), ledger), "project_list")
    await ledger.close()
    assert (error.status, "secret" in str(error)) == (503, False)
    assert "[redis] url" in str(error)
