import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import digest, mint
from tollhouse.call import Amount, Project
from tollhouse.ledger.ledger import Held, Ledger, Scope
from tollhouse.ledger.limits import parse_limits, session_record
from tollhouse.ledger.names import session_scope
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.store.embedded_redis import FILE_NAME

PROJECT = Project("proj_123", "acme", ("10 usd/day", "2 concurrent"))
SCOPE = Scope("project", "acme", "proj_123")
SECRET = mint(bytes(range(32)))


async def test_projects_limits_and_tokens_survive_a_restart_and_spend_does_not(
    tmp_path: Path,
) -> None:
    """What an administrator said is still true after a restart; what was held and used is gone."""
    directory = tmp_path / "state"
    first = connect("embedded", directory)
    await Directory(first).set_project(PROJECT)
    token = await Directory(first).add_token(SECRET, ["proj_123"], "acme", None, "ci")
    await Ledger(first).set_limits(Scope("tenant", "acme", "acme"), parse_limits(["5 usd/month"]))
    await Ledger(first).hold("c1", [SCOPE], Amount(10**9))
    await Directory(first).revoke(token.id)

    second = connect("embedded", directory)
    assert await Directory(second).get_project("proj_123") == PROJECT
    found = await Directory(second).find(digest(SECRET))
    assert found is not None
    assert found.revoked_at is not None
    tenant, project = await Ledger(second).show([Scope("tenant", "acme", "acme"), SCOPE])
    assert [row.limit.text for row in tenant.limits] == ["5 usd/month"]
    assert [(row.limit.text, row.used, row.held) for row in project.limits] == [
        ("10 usd/day", 0, 0),
        ("2 concurrent", 0, 0),
    ]
    assert isinstance(await Ledger(second).hold("c1", [SCOPE], Amount(10**10)), Held)


async def test_the_record_of_a_session_does_not_survive(tmp_path: Path) -> None:
    """It is what the session has used. In the file it would stay for ever."""
    directory = tmp_path / "state"
    first = connect("embedded", directory)
    await Directory(first).set_project(replace(PROJECT, limits=("10 usd/day", "1 usd/session")))
    session = session_scope(SCOPE, "s-1", session_record(("1 usd/session",)))
    held = await Ledger(first).hold("c1", [SCOPE, session], Amount(10**9))
    assert isinstance(held, Held)
    await Directory(first).set_project(replace(PROJECT, limits=("1 usd/session",)))
    text = (directory / FILE_NAME).read_text()
    assert "1 usd/session" in text
    assert ":scope:session:" not in text


async def test_the_file_is_private_and_holds_no_token(tmp_path: Path) -> None:
    """0600, written whole, with the digest of a token and never the token."""
    directory = tmp_path / "state"
    redis = connect("embedded", directory)
    await Directory(redis).set_project(PROJECT)
    await Directory(redis).add_token(SECRET, ["proj_123"], "acme")
    file = directory / FILE_NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SECRET not in file.read_text()
    assert [entry.name for entry in directory.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "directory": 5}']
)
def test_a_broken_file_stops_the_start(tmp_path: Path, text: str) -> None:
    """A store that can't be read is not an empty one: somebody's limits were in it."""
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match="restore it from a copy"):
        connect("embedded", tmp_path)


async def test_two_stores_share_nothing(tmp_path: Path) -> None:
    """Each directory is a store of its own."""
    one, other = connect("embedded", tmp_path / "one"), connect("embedded", tmp_path / "other")
    await Directory(one).set_project(PROJECT)
    assert await Directory(other).projects() == []
