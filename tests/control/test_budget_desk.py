"""What the operations say of budgets and add to them: the same on a real Redis and on the embedded one."""

from __future__ import annotations

import pytest
from tests.control.operated import refusal

from tollhouse.accounts.directory import Directory
from tollhouse.call import Amount
from tollhouse.control.operations import Operations
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, Scope


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
    assert "can't be a limit of a tenant" in str(error)
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
