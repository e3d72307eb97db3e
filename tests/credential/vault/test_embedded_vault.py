"""The encrypted store of one machine."""

from __future__ import annotations

import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.vault.embedded_vault import KEY_FILE, STORE_FILE, EmbeddedVault

KEY = "sk-embedded-0123456789"


def test_set_and_read(tmp_path: Path) -> None:
    """A key that was set is read at its provider's path, under a version that counts up."""
    vault = EmbeddedVault(tmp_path, clock=lambda: 1000.0)
    assert vault.read("infrastructure/openai") is None
    first = vault.set("openai", KEY)
    assert (first.path, first.version, first.written_at) == ("infrastructure/openai", 1, 1000.0)
    raw = vault.read("infrastructure/openai")
    assert raw is not None
    assert raw.created == "1970-01-01T00:16:40.000"
    second = vault.set("openai", KEY + "x\n")
    found = vault.read("infrastructure/openai")
    assert found is not None
    assert (found.data, found.version) == ({"api_key": KEY + "x"}, "2")
    assert vault.list() == [second]
    assert vault.read("infrastructure/anthropic") is None


def test_other_field_and_template(tmp_path: Path) -> None:
    """Path template and field are those of the configuration."""
    vault = EmbeddedVault(tmp_path, "projects/{project}/{provider}", "key")
    vault.set("openai", KEY, project="proj_1")
    found = vault.read("projects/proj_1/openai")
    assert found is not None
    assert found.data == {"key": KEY}


def test_encrypted_and_private(tmp_path: Path) -> None:
    """No file has the key in the clear, and each has mode 0600."""
    EmbeddedVault(tmp_path).set("openai", KEY)
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, STORE_FILE, "vault.lock"}


def test_key_file_is_made_once(tmp_path: Path) -> None:
    """A second writer encrypts with the key that is there."""
    EmbeddedVault(tmp_path).set("openai", KEY)
    before = (tmp_path / KEY_FILE).read_bytes()
    EmbeddedVault(tmp_path).set("anthropic", KEY)
    assert (tmp_path / KEY_FILE).read_bytes() == before


def test_another_process_is_seen_and_remove(tmp_path: Path) -> None:
    """A running gateway's reader sees what another one has written or taken out since."""
    reader, writer = EmbeddedVault(tmp_path), EmbeddedVault(tmp_path)
    reader.connect()
    writer.set("openai", KEY)
    assert reader.read("infrastructure/openai") is not None
    assert writer.remove("infrastructure/openai")
    assert not writer.remove("infrastructure/openai")
    assert reader.read("infrastructure/openai") is None


def _set(directory: Path, number: int) -> None:
    EmbeddedVault(directory).set(f"p{number % 4}", f"sk-{number}")


def test_writers_do_not_lose_each_other(tmp_path: Path) -> None:
    """Eight writes by two processes at once are all there."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_set, [tmp_path] * 8, range(8)))
    assert [(row.path, row.version) for row in EmbeddedVault(tmp_path).list()] == [
        (f"infrastructure/p{number}", 2) for number in range(4)
    ]


@pytest.mark.parametrize("name", [KEY_FILE, STORE_FILE])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, name: str) -> None:
    """Mode 0640 is refused with what to do."""
    EmbeddedVault(tmp_path).set("openai", KEY)
    (tmp_path / name).chmod(0o640)
    with pytest.raises(CredentialUnavailable, match="chmod 600"):
        EmbeddedVault(tmp_path).read("infrastructure/openai")


def test_wrong_missing_or_damaged_key(tmp_path: Path) -> None:
    """Each is an error that names the files, never an empty store; a write does not destroy what is there."""
    vault = EmbeddedVault(tmp_path)
    vault.set("openai", KEY)
    key_file = tmp_path / KEY_FILE
    right = key_file.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    EmbeddedVault(other).set("openai", KEY)
    for wrong in ((other / KEY_FILE).read_bytes(), b"no key"):
        key_file.write_bytes(wrong)
        with pytest.raises(CredentialUnavailable, match="do not belong together"):
            vault.read("infrastructure/openai")
        with pytest.raises(CredentialUnavailable):
            vault.set("anthropic", KEY)
    key_file.unlink()
    with pytest.raises(CredentialUnavailable, match="is gone"):
        vault.set("anthropic", KEY)
    key_file.write_bytes(right)
    key_file.chmod(0o600)
    assert [row.path for row in vault.list()] == ["infrastructure/openai"]


def test_a_value_that_is_no_key_is_not_stored(tmp_path: Path) -> None:
    """A key with a space in it, and a provider's name that is a path, are refused before anything is written."""
    vault = EmbeddedVault(tmp_path)
    with pytest.raises(CredentialUnavailable, match="space"):
        vault.set("openai", "two words")
    with pytest.raises(CredentialUnavailable):
        vault.set("../openai", KEY)
    assert list(tmp_path.iterdir()) == []
