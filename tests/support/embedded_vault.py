"""Writes into the embedded store of keys as whoever has its files can, past the checks of `tollhouse key set`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet

from tollhouse.credential.vault.embedded_vault import KEY_FILE, STORE_FILE


def put_unchecked(
    directory: Path, path: str, data: Mapping[str, str | None], *, version: int
) -> None:
    """Puts ``data`` at ``path`` of the store in ``directory``, beside what is there. Makes the store if there is none."""
    key_file, store_file = directory / KEY_FILE, directory / STORE_FILE
    if not key_file.exists():
        key_file.touch(0o600)
        key_file.write_bytes(Fernet.generate_key())
    sealer = Fernet(key_file.read_bytes())
    kept = json.loads(sealer.decrypt(store_file.read_bytes())) if store_file.exists() else {}
    kept[path] = {"data": dict(data), "version": version, "written_at": 0.0}
    store_file.touch(0o600)
    store_file.write_bytes(sealer.encrypt(json.dumps(kept).encode()))
