"""Redis's part without a Redis: fakeredis, with its Lua, in this process. For one machine and one worker.

Projects, limits, grants and tokens survive a restart, in ``STATE/ledger.json`` (0600; it holds
digests of tokens, and no token). Whose the objects are that providers keep survives it if the
gateway stops in good order. Used amounts do not survive it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from fakeredis import FakeAsyncRedis, FakeServer, FakeStrictRedis
from redis.exceptions import RedisError

from tollhouse import files
from tollhouse.ledger import names

FILE_NAME: Final = "ledger.json"
_OBJECTS: Final = 100_000
"""Of each tenant at each provider, those that were used last."""
_DIRECTORY: Final = (names.PROJECTS, names.TOKENS, names.TOKEN_IDS)


class EmbeddedRedis(FakeAsyncRedis):
    """fakeredis that writes its file when `client.persist` asks for it."""

    _file: Path | None = None
    _view: Any = None

    def tollhouse_save(self) -> None:
        """Replaces the file. A crash leaves the whole old file or the whole new one. Raises
        `OSError`."""
        assert self._file is not None
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(_snapshot(self._view), ensure_ascii=False, indent=1, sort_keys=True)
        files.replace(self._file, text.encode())


def open_store(state_directory: Path) -> EmbeddedRedis:
    """A store of its own, filled from the file in ``state_directory``. The directory is made if it
    is missing (0700). Raises `ValueError` when this program has not written the file."""
    server = FakeServer()
    redis = EmbeddedRedis(server=server, protocol=2)
    redis._view = FakeStrictRedis(server=server, decode_responses=True)
    redis._file = state_directory / FILE_NAME
    if redis._file.exists():
        try:
            _fill(redis._view, json.loads(redis._file.read_bytes()))
        except (ValueError, TypeError, KeyError, AttributeError, RedisError) as error:
            raise ValueError(
                f"{redis._file} can't be read ({error}): restore it from a copy, or delete it and make the projects "
                "and tokens anew"
            ) from error
    return redis


def _snapshot(view: Any) -> dict[str, Any]:
    # Those of sessions are told with each hold, and end by themselves.
    limits = {
        key: view.hget(key, "limits")
        for key in view.scan_iter("toll:*:scope:*")
        if ":scope:session:" not in key
    }
    return {
        "version": 1,
        "directory": {key: view.hgetall(key) for key in _DIRECTORY},
        "limits": {key: text for key, text in limits.items() if text is not None},
        "grants": {key: view.lrange(key, 0, -1) for key in view.scan_iter("toll:*:grants:*")},
        "objects": {
            key: view.zrange(key, -_OBJECTS, -1, withscores=True)
            for key in view.scan_iter("toll:*:objects:*")
        },
    }


def _fill(view: Any, saved: dict[str, Any]) -> None:
    if saved["version"] != 1:
        raise ValueError(f"version {saved['version']!r} is of a later program")
    for key in _DIRECTORY:
        if saved["directory"].get(key):
            view.hset(key, mapping=saved["directory"][key])
    for key, text in saved["limits"].items():
        view.hset(key, "limits", text)
    for key, records in saved.get("grants", {}).items():
        view.rpush(key, *records)
    for key, objects in saved.get("objects", {}).items():
        view.zadd(key, dict(objects))
