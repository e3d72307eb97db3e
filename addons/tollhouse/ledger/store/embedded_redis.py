"""Redis's part without a Redis: fakeredis, with its Lua, in this process. For one machine and one worker.

Projects, limits, grants and tokens survive a restart, in ``STATE/ledger.json`` (0600; it holds
digests of tokens, and no token). Whose the objects are that providers keep survives it if the
gateway stops in good order.

What was spent and what is held survives it in ``STATE/spend.json``: written at most once a second, and
at the end. A crash may lose the last second of it. The stream of calls for other systems does not survive.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from fakeredis import FakeAsyncRedis, FakeServer, FakeStrictRedis
from fakeredis.model import Hash, ZSet
from redis.exceptions import RedisError

from tollhouse import files
from tollhouse.ledger import names

FILE_NAME: Final = "ledger.json"
SPEND_NAME: Final = "spend.json"
_OBJECTS: Final = 100_000
"""Of each tenant at each provider, those that were used last."""
_SETTLED: Final = 20_000
"""Of each tenant, the latest calls that a settle is known of."""
_DIRECTORY: Final = (names.PROJECTS, names.TOKENS, names.TOKEN_IDS)


class EmbeddedRedis(FakeAsyncRedis):
    """fakeredis that writes its file when `client.persist` asks for it."""

    _file: Path | None = None
    _view: Any = None
    _server: FakeServer | None = None
    _marks: Any = None
    """Of what was given to be written last. None after a failure."""
    _made = _written = 0
    """Numbers of snapshots: the last one (the loop counts), and the one in the file (changed within ``_writing``)."""
    _writing: threading.Lock

    def tollhouse_save(self) -> None:
        """Replaces the file. A crash leaves the whole old file or the whole new one. Raises
        `OSError`."""
        assert self._file is not None
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(_snapshot(self._view), ensure_ascii=False, indent=1, sort_keys=True)
        files.replace(self._file, text.encode())

    def tollhouse_spend(self) -> Callable[[], None] | None:
        """A function that writes what is spent and held now, for any thread; it raises `OSError`. None if nothing has changed
        since the last call."""
        assert self._file is not None
        assert self._server is not None
        kept = {
            key: item
            for key, item in self._server.dbs[0].items()
            if key.split(b"}:")[-1].partition(b":")[0] in _SPEND
        }
        # Each script that changes an amount tells the time of its tenant, in milliseconds. Two in one millisecond differ by
        # what they add or remove.
        marks = {
            key: item.value if key.endswith(b":clock") else len(item.value)
            for key, item in kept.items()
        }
        if marks == self._marks:
            return None
        self._marks = marks
        self._made += 1
        number = self._made
        # Copies, which the loop makes in one go: 20,000 values take a millisecond. All else is the thread's.
        values = {key: _copied(item.value) for key, item in kept.items()}
        until = {
            key: int(1000 * item.expireat)
            for key, item in kept.items()
            if item.expireat is not None
        }
        file = self._file.with_name(SPEND_NAME)

        def write() -> None:
            content = _packed(values, until)
            with self._writing:
                # A thread that was overtaken would put older amounts in place of newer ones.
                if number <= self._written:
                    return
                try:
                    files.replace(file, content)
                except BaseException:
                    self._marks = None  # The next call tries again.
                    raise
                self._written = number

        return write


def _copied(value: Any) -> Any:
    """fakeredis keeps a hash as `Hash`, a sorted set as `ZSet`, a string as bytes."""
    if isinstance(value, Hash):
        return value.getall()
    if isinstance(value, ZSet):
        return list(value.items())
    return bytes(value)


def _packed(values: Mapping[bytes, Any], until: Mapping[bytes, int]) -> bytes:
    # JSON is made key by key: the encoder lets no other thread run meanwhile.
    keys = ",".join(f"{json.dumps(_text(key))}:{_json(value)}" for key, value in values.items())
    moments = json.dumps({_text(key): moment for key, moment in until.items()})
    return f'{{"version":1,"keys":{{{keys}}},"until_ms":{moments}}}'.encode()


def _json(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps({_text(name): _text(each) for name, each in value.items()})
    if isinstance(value, list):
        latest = sorted(value, key=itemgetter(1))[-_SETTLED:]
        return json.dumps([[_text(name), score] for name, score in latest])
    return json.dumps(_text(value))


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def open_store(state_directory: Path) -> EmbeddedRedis:
    """A store of its own, filled from the file in ``state_directory``. The directory is made if it
    is missing (0700). Raises `ValueError` when this program has not written the file."""
    server = FakeServer()
    redis = EmbeddedRedis(server=server, protocol=2)
    redis._server = server
    redis._writing = threading.Lock()
    redis._view = FakeStrictRedis(
        server=server, decode_responses=True, encoding_errors="surrogateescape"
    )
    redis._file = state_directory / FILE_NAME
    spend = state_directory / SPEND_NAME
    # The limits of the first file count: the second one may be older.
    _read(spend, _fill_spend, redis._view, "or delete it, and nothing is spent yet")
    _read(redis._file, _fill, redis._view, "or delete it and make the projects and tokens anew")
    return redis


def _read(file: Path, fill: Callable[[Any, Any], None], view: Any, todo: str) -> None:
    if not file.exists():
        return
    try:
        fill(view, json.loads(file.read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError, RedisError) as error:
        raise ValueError(
            f"{file} can't be read ({error}): restore it from a copy, {todo}"
        ) from error


_SPEND: Final = frozenset(
    {
        b"clock",
        b"holds",
        b"deadlines",
        b"settled",
        b"swept",
        b"usage",
        b"scope",
        b"later",
        b"alerts",
    }
)
"""Of the keys that `names` lists: those whose loss would give money away, charge it twice, or tell somebody twice of it."""


def _fill_spend(view: Any, saved: dict[str, Any]) -> None:
    if saved["version"] != 1:
        raise ValueError(f"version {saved['version']!r} is of a later program")
    for key, value in saved["keys"].items():
        if isinstance(value, str):
            view.set(key, value)
        elif value and isinstance(value, dict):
            view.hset(key, mapping=value)
        elif value:
            view.zadd(key, dict(value))
    for key, moment in saved["until_ms"].items():
        view.pexpireat(key, moment)


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
