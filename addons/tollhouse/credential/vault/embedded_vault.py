"""Vault's part for one machine: the keys in one file of the state directory, encrypted, beside the file of its key.

Whoever can read both files has the keys. The encryption helps where only one of the files is read,
by a backup or a search. Every read opens and decrypts the file. So a running gateway sees a key
that `tollhouse key set` writes, and no plain text is kept here between reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken

from tollhouse import files
from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, RawSecret
from tollhouse.credential.paths import fill, template_problem
from tollhouse.credential.secret import Secret
from tollhouse.timestamps import rfc3339

KEY_FILE: Final = "vault.key"
STORE_FILE: Final = "vault.enc"
_LOCK_FILE: Final = "vault.lock"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A secret at a path of the store, without its value. ``written_at`` is seconds since the
    epoch."""

    path: str
    version: int
    fingerprint: str
    """Of several keys: their fingerprints, with commas between them."""
    written_at: float


class EmbeddedVault:
    """A `Reader`, and the writer of `tollhouse key set`. ``path_template`` is where `set` puts a provider's key.

    The state directory must exist. Raises `CredentialUnavailable` when a file can't be used: it
    can't be opened, others may read it, or its key is not the one with which the store was
    encrypted.
    """

    trouble = notice = ""

    def __init__(
        self,
        state_directory: Path,
        path_template: str = "infrastructure/{provider}",
        field: str = "api_key",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if problem := template_problem(path_template):
            raise ValueError(problem)
        self._key_file = state_directory / KEY_FILE
        self._store_file = state_directory / STORE_FILE
        self._lock_file = state_directory / _LOCK_FILE
        self._template = path_template
        self._field = field
        self._clock = clock

    # A `Reader`

    def connect(self) -> None:
        self._load()

    def read(self, path: str) -> RawSecret | None:
        found = self._load().get(path)
        if found is None:
            return None
        created = rfc3339(found["written_at"], "milliseconds").removesuffix("Z")
        return RawSecret(found["data"], str(found["version"]), created)

    def tend(self) -> float | None:
        return None

    def left_s(self) -> float | None:
        return None

    def close(self) -> None:
        pass

    # Commands

    def set(self, provider: str, value: str, *, tenant: str = "", project: str = "") -> StoredKey:
        """Put a provider's key, or a JSON list of keys, into the store, under the next version. Raises
        `CredentialUnavailable` for a value that can't stand in a header."""
        path = fill(self._template, provider, tenant, project)
        keys = contents(RawSecret({self._field: value}, ""), self._field, path).secrets
        with self._locked():
            kept = self._load()
            version = int(kept[path]["version"]) + 1 if path in kept else 1
            written_at = self._clock()
            kept[path] = {
                "data": {self._field: value.rstrip("\r\n")},
                "version": version,
                "written_at": written_at,
            }
            self._store(kept)
        return StoredKey(path, version, _fingerprints(keys), written_at)

    def remove(self, path: str) -> bool:
        """Deletes the secret at ``path``. False when there was none."""
        with self._locked():
            kept = self._load()
            if kept.pop(path, None) is None:
                return False
            self._store(kept)
        return True

    def list(self) -> list[StoredKey]:
        """The secrets in the store, sorted by path."""
        rows = []
        for path, found in sorted(self._load().items()):
            keys = contents(RawSecret(found["data"], ""), self._field, path).secrets
            rows.append(
                StoredKey(
                    path, int(found["version"]), _fingerprints(keys), float(found["written_at"])
                )
            )
        return rows

    # Files

    def _load(self) -> dict[str, Any]:
        """Path to ``{"data": {field: value}, "version": int, "written_at": seconds}``."""
        sealed = _read_private(self._store_file)
        if sealed is None:
            return {}
        key = _read_private(self._key_file)
        if key is None:
            raise CredentialUnavailable(
                f"{self._store_file} can't be decrypted: its key file {self._key_file} is gone. Put it back, or remove "
                "both and set the keys again (`tollhouse key set PROVIDER`)."
            )
        try:
            kept = json.loads(Fernet(key).decrypt(sealed))
        except (InvalidToken, ValueError):
            kept = None
        if not isinstance(kept, dict):
            raise CredentialUnavailable(
                f"{self._store_file} can't be decrypted with {self._key_file}: the two do not belong together, or one "
                "is damaged. Put the right one back, or remove both and set the keys again (`tollhouse key set "
                "PROVIDER`)."
            )
        return kept

    def _store(self, kept: dict[str, Any]) -> None:
        key = _read_private(self._key_file)
        if key is None:
            key = Fernet.generate_key()
            _write_private(self._key_file, key)
        _write_private(self._store_file, Fernet(key).encrypt(json.dumps(kept).encode()))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Held by the one writer among all processes."""
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self._lock_file, error) from None
        try:
            files.give(descriptor, self._lock_file.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _fingerprints(keys: Sequence[Secret]) -> str:
    return ",".join(key.fingerprint for key in keys)


def _unusable(path: Path, error: OSError) -> CredentialUnavailable:
    return CredentialUnavailable(f"{path} can't be used: {error.strerror or type(error).__name__}.")


def _read_private(path: Path) -> bytes | None:
    """A file's content. None when there is no such file. A link, and a file that others may read,
    are refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                raise CredentialUnavailable(
                    f"{path} may be read by others; set its mode to 0600 (chmod 600 {path})."
                )
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from None


def _write_private(path: Path, content: bytes) -> None:
    try:
        files.replace(path, content)
    except OSError as error:
        raise _unusable(path, error) from None
