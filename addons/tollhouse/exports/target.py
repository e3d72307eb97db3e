"""Where an export goes: stdout, or a file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tollhouse.files import sync_directory


class NotWritten(Exception):
    """The target is as it was. The text says why."""


@contextlib.contextmanager
def opened(file: Path | None, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A stream whose content is at ``file`` (None: stdout) once the block has ended without an exception. Raises `NotWritten`;
    a `BrokenPipeError` of stdout is passed on.

    The content is written beside ``file`` and renamed at the end (`files.replace` has the order). With ``replace`` false a
    file that is there already is an error.
    """
    if file is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise NotWritten(f"stdout could not be written ({error.strerror})") from None
        return
    if not replace and file.exists():
        raise NotWritten(
            f"{file} is there already, and what goes on is new records alone: name another file"
        )
    draft = None
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        draft = Path(name)
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fchmod(out.fileno(), 0o666 & ~_umask())
            os.fsync(out.fileno())
        draft.replace(file)
        draft = None
        sync_directory(file.parent)
    except OSError as error:
        raise NotWritten(
            f"{file} could not be written ({error.strerror or error}): free space there or name another place"
        ) from None
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink()


def _umask() -> int:
    """Of this process, which has one thread that makes files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
