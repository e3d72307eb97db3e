"""Small files. A file is written whole: after a crash of the program or of the machine it is the
old one or the new one. A file is read as a person's editor saved it."""

from __future__ import annotations

import codecs
import os
import tempfile
from pathlib import Path


def read(file: Path) -> bytes:
    """The content of ``file`` without a UTF-8 byte order mark before it, which editors on Windows
    write. Raises `OSError`."""
    return file.read_bytes().removeprefix(codecs.BOM_UTF8)


def replace(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes ``content`` in place of ``file``, in a directory that exists. Raises `OSError`, and
    nothing has changed then.

    The file never has more rights than ``mode``, and until it is whole it has 0600. The order makes
    it safe: content, rename and directory entry reach the disk one after the other
    (https://lwn.net/Articles/457667/). A crash may leave a draft (``.NAME.*``, 0600), which nobody
    reads.
    """
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fchmod(out.fileno(), mode)
            give(out.fileno(), file.parent)
            os.fsync(out.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(file.parent)


def give(descriptor: int, directory: Path) -> None:
    """What root's command has made in the ``directory`` of the gateway's user is that user's, who could not open it else.
    Raises `OSError`."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def sync_directory(directory: Path) -> None:
    """When this returns, the names that were made, changed or removed in ``directory`` survive a
    loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
