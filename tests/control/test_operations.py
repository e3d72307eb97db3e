"""What the operations do to the stores: the same on a real Redis and on the embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.control.operated import refusal

from tollhouse.accounts.directory import Directory
from tollhouse.config.load import load_config
from tollhouse.control.operations import TABLE, Operations
from tollhouse.control.refusal import OperationRefused
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect
from tollhouse.prices.kept import PriceFileError


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


async def test_only_a_running_gateway_reads_prices_again(operations: Operations) -> None:
    """A command that opened the stores itself has no prices in use."""
    refused = await refusal(operations, "prices_reload")
    assert (refused.status, str(refused)) == (
        409,
        "only a running gateway has prices in use: start it (`tollhouse run`)",
    )


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


async def test_store_away_is_said(tmp_path: Path) -> None:
    """A Redis that is not there is a refusal of its own kind, without the URL's password."""
    redis = connect("redis://user:secret@127.0.0.1:1/0", tmp_path)
    ledger = Ledger(redis)
    error = await refusal(Operations(Directory(redis), ledger), "project_list")
    await ledger.close()
    assert (error.status, "secret" in str(error)) == (503, False)
    assert "[redis] url" in str(error)
