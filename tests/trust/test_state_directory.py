"""The state directory is ours alone: its owner and mode, and those of each private file in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tollhouse.control.client import SOCKET_NAME
from tollhouse.control.lock import NAME as LOCK_NAME
from tollhouse.credential.vault.embedded_vault import KEY_FILE, STORE_FILE, EmbeddedVault
from tollhouse.ledger.spool_old import OLD_NAME
from tollhouse.ledger.spool_schema import FILE_NAME as SPOOL_NAME
from tollhouse.ledger.store.embedded_redis import FILE_NAME as LEDGER_NAME
from tollhouse.trust.ca import CertificateAuthority
from tollhouse.trust.state_directory import PRIVATE_FILES, exposures

US, ROOT, ANOTHER = 65_532, 0, 1000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A directory of ours with every private file, as the gateway makes them."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    for name in PRIVATE_FILES:
        (directory / name).touch(mode=0o600)
    return directory


def found(state: Path, user: int = os.geteuid()) -> list[str]:
    return [f"{exposure.what} {exposure.why}" for exposure in exposures(state, user)]


def test_the_names_are_those_of_the_files() -> None:
    """A file that is renamed does not leave the list in silence."""
    assert {
        LOCK_NAME,
        SOCKET_NAME,
        KEY_FILE,
        STORE_FILE,
        OLD_NAME,
        SPOOL_NAME,
        LEDGER_NAME,
        "ca-key.pem",
    } <= set(PRIVATE_FILES)


def test_what_is_made_here_is_private(tmp_path: Path) -> None:
    """The CA and the embedded Vault make nothing that would be refused."""
    CertificateAuthority.load_or_create(tmp_path / "state", ["api.test"])
    EmbeddedVault(tmp_path / "state").set("openai", "sk-1")
    assert found(tmp_path / "state") == []
    assert found(tmp_path / "not there yet") == []


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o500])
def test_a_directory_that_others_can_read(state: Path, mode: int) -> None:
    """Its names alone are no secret."""
    state.chmod(mode)
    assert found(state) == []


@pytest.mark.parametrize("mode", [0o720, 0o770, 0o702, 0o777, 0o1777, 0o2775])
def test_a_directory_that_others_can_write_in(state: Path, mode: int) -> None:
    """Neither its group nor everybody, a sticky bit or not."""
    state.chmod(mode)
    assert found(state) == [
        f"{state} has mode {mode:04o}. Others on this machine can write in the state directory."
    ]
    [exposure] = exposures(state)
    assert exposure.todo.startswith(f"If nobody has done so, `chmod 0700 {state}`;")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o666, 0o610])
@pytest.mark.parametrize("name", PRIVATE_FILES)
def test_a_file_that_others_can_read_or_write(state: Path, name: str, mode: int) -> None:
    """Each private file, each right of others."""
    (state / name).chmod(mode)
    assert found(state) == [
        f"{state / name} has mode {mode:04o}. Others on this machine can read or change {name} in it."
    ]


def test_a_certificate_is_for_everybody(state: Path) -> None:
    """ca.pem is handed out; a file of somebody's own is none of ours."""
    for name in ("ca.pem", "notes.txt"):
        (state / name).touch(mode=0o644)
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o644
    assert found(state) == []


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root gives files away")
@pytest.mark.parametrize("of", ["directory", "file"])
@pytest.mark.parametrize(
    ("owner", "user", "refused"), [(US, US, 0), (ROOT, US, 0), (ANOTHER, US, 1), (ANOTHER, ROOT, 1)]
)
def test_the_owner(state: Path, of: str, owner: int, user: int, refused: int) -> None:
    """Us or root; a third user's is refused to root as well."""
    for path in (state, *state.iterdir()):
        os.chown(path, user, user)
    path = state if of == "directory" else state / "ca-key.pem"
    os.chown(path, owner, owner)
    assert len(found(state, user)) == refused
    assert all(
        f"{path} belongs to user {owner}, and the gateway runs as user {user}." in text
        for text in found(state, user)
    )


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root makes what is root's")
@pytest.mark.parametrize(
    ("mode", "refused"), [(0o770, 0), (0o2775, 0), (0o777, 1), (0o2777, 1), (0o1777, 1)]
)
def test_a_mount_of_roots(tmp_path: Path, mode: int, refused: int) -> None:
    """Kubernetes gives a volume to the pod's own group; to everybody it is given by nobody who
    thought of it."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    assert len(found(state, US)) == refused
    (state / "ca-key.pem").touch()
    (state / "ca-key.pem").chmod(0o660)
    assert len(found(state, US)) == refused
    (state / "ca-key.pem").chmod(0o664)
    assert len(found(state, US)) == refused + 1
