"""A file is replaced whole, with its mode, and in the order that survives a loss of power."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tollhouse.files import read, replace, sync_directory


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize(
    ("content", "read_as"),
    [
        (b"\xef\xbb\xbftext", b"text"),
        (b"text", b"text"),
        (b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb\xbf"),
        (b" \xef\xbb\xbf", b" \xef\xbb\xbf"),
        (b"", b""),
    ],
)
def test_a_byte_order_mark_is_read_over(tmp_path: Path, content: bytes, read_as: bytes) -> None:
    """One at the very beginning is taken off, and nothing else."""
    file = tmp_path / "file"
    file.write_bytes(content)
    assert read(file) == read_as


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_content_and_mode(tmp_path: Path, mode: int, umask: int) -> None:
    """Both are new at once, whatever the old file's mode and the umask; no draft is left, and one of a crash is not used."""
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o666)
    draft = tmp_path / ".file.half"
    draft.write_text("half")
    before = os.umask(umask)
    try:
        replace(file, b"new", mode)
    finally:
        os.umask(before)
    assert (file.read_bytes(), mode_of(file)) == (b"new", mode)
    assert sorted(tmp_path.iterdir()) == [draft, file]


def test_private_unless_said(tmp_path: Path) -> None:
    """Without a mode it is the owner's alone."""
    replace(tmp_path / "file", b"")
    assert mode_of(tmp_path / "file") == 0o600


def test_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on the disk before the name leads to it, and the name before the call returns; until then the
    draft is the owner's alone and the old content is there."""
    file = tmp_path / "file"
    file.write_text("old")
    done: list[tuple[str, bytes, str]] = []
    fsync, rename, fchmod = os.fsync, os.replace, os.fchmod

    def kind(descriptor: int) -> str:
        return (
            "directory"
            if stat.S_ISDIR(os.fstat(descriptor).st_mode)
            else f"content {os.fstat(descriptor).st_size}"
        )

    def synced(descriptor: int) -> None:
        done.append(("fsync", file.read_bytes(), kind(descriptor)))
        fsync(descriptor)

    def opened(descriptor: int, mode: int) -> None:
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        done.append(("chmod", file.read_bytes(), oct(mode)))
        fchmod(descriptor, mode)

    def renamed(draft: Any, to: Any) -> None:
        done.append(("rename", file.read_bytes(), Path(to).name))
        rename(draft, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "fchmod", opened)
    monkeypatch.setattr(os, "replace", renamed)
    replace(file, b"newer", 0o644)
    assert done == [
        ("chmod", b"old", "0o644"),
        ("fsync", b"old", "content 5"),
        ("rename", b"old", "file"),
        ("fsync", b"newer", "directory"),
    ]


@pytest.mark.parametrize("broken", ["fsync", "fchmod", "replace"])
def test_what_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A full disk, a mode that can't be set, a rename that is refused: the old file, and no draft."""
    file = tmp_path / "file"
    file.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space"):
        replace(file, b"new")
    assert (file.read_text(), list(tmp_path.iterdir())) == ("old", [file])


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """What somebody has laid in its place does not lead the content elsewhere."""
    elsewhere, file = tmp_path / "elsewhere", tmp_path / "file"
    elsewhere.write_text("theirs")
    file.symlink_to(elsewhere)
    replace(file, b"ours")
    assert (elsewhere.read_text(), file.is_symlink(), file.read_text()) == ("theirs", False, "ours")


def test_directory_that_is_none(tmp_path: Path) -> None:
    """An `OSError` that names it."""
    with pytest.raises(FileNotFoundError, match="gone"):
        replace(tmp_path / "gone" / "file", b"")
    (tmp_path / "plain").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "plain")
