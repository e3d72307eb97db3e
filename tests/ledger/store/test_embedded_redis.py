import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import digest, mint
from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits, session_record
from tollhouse.ledger.names import scope_key, session_scope
from tollhouse.ledger.store.client import connect, spend_writer
from tollhouse.ledger.store.embedded_redis import FILE_NAME, SPEND_NAME
from tollhouse.parties import Project

PROJECT = Project("proj_123", "acme", ("10 usd/day", "2 concurrent"))
SCOPE = Scope("project", "acme", "proj_123")
SECRET = mint(bytes(range(32)))


async def test_projects_limits_and_tokens_survive_a_restart(tmp_path: Path) -> None:
    """What an administrator said is still true after a restart; what was held, and was not written, is gone."""
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


async def test_what_is_spent_and_held_survives_a_restart(tmp_path: Path) -> None:
    """Used and held amounts, calls that have ended, sums of a day, and the end of a session's record; nothing is counted twice."""
    directory = tmp_path / "state"
    limits = ("10 usd/day", "2 concurrent", "1 usd/session")
    first = connect("embedded", directory)
    await Directory(first).set_project(replace(PROJECT, limits=limits))
    ledger = Ledger(first)
    session = session_scope(SCOPE, "s-1", session_record(("1 usd/session",)))
    assert isinstance(await ledger.hold("c1", [SCOPE, session], Amount(10**9)), Held)
    await ledger.settle("c1", [SCOPE, session], Amount(3 * 10**8), record={})
    assert isinstance(await ledger.hold("c2", [SCOPE, session], Amount(2 * 10**8)), Held)
    write = spend_writer(first)
    assert write is not None
    assert spend_writer(first) is None
    write()
    assert stat.S_IMODE((directory / SPEND_NAME).stat().st_mode) == 0o600

    second = connect("embedded", directory)
    ledger = Ledger(second)
    [project] = await ledger.show([SCOPE])
    assert [(row.limit.text, row.used, row.held) for row in project.limits][:2] == [
        ("10 usd/day", 3 * 10**8, 2 * 10**8),
        ("2 concurrent", 0, 1),
    ]
    assert 0 < await second.pttl(scope_key(session)) <= 7 * 86_400_000
    for _ in range(2):
        await ledger.settle("c1", [SCOPE, session], Amount(3 * 10**8), record={})
        await ledger.settle("c2", [SCOPE, session], Amount(2 * 10**8), record={})
    [project] = await ledger.show([SCOPE])
    assert [(row.used, row.held) for row in project.limits][:2] == [(5 * 10**8, 0), (0, 0)]


async def test_a_write_that_failed_is_tried_again(tmp_path: Path) -> None:
    """Although nothing was spent since: else a crash or a stop would forget it."""
    directory = tmp_path / "state"
    redis = connect("embedded", directory)
    await Directory(redis).set_project(PROJECT)
    await Ledger(redis).hold("c1", [SCOPE], Amount(10**9))
    write = spend_writer(redis)
    assert write is not None
    directory.rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        write()
    (tmp_path / "away").rename(directory)
    again = spend_writer(redis)
    assert again is not None
    again()
    assert (directory / SPEND_NAME).exists()


async def test_an_older_snapshot_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    """A thread may be overtaken, at a stop by the last one."""
    directory = tmp_path / "state"
    redis = connect("embedded", directory)
    await Directory(redis).set_project(PROJECT)
    ledger = Ledger(redis)
    await ledger.hold("c1", [SCOPE], Amount(10**9))
    older = spend_writer(redis)
    await ledger.hold("c2", [SCOPE], Amount(10**9))
    newer = spend_writer(redis)
    assert older is not None
    assert newer is not None, "also when both came within one millisecond"
    newer()
    content = (directory / SPEND_NAME).read_bytes()
    older()
    assert (directory / SPEND_NAME).read_bytes() == content
    assert b"c2" in content


async def test_a_file_of_spend_that_is_broken(tmp_path: Path) -> None:
    """It says which file, and what to do."""
    (tmp_path / SPEND_NAME).write_text("{")
    with pytest.raises(ValueError, match=r"spend\.json can't be read .* nothing is spent yet"):
        connect("embedded", tmp_path)


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
