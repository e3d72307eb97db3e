"""A store in memory."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from tollhouse.credential.lease import RawSecret


@dataclass
class MemoryStore:
    """A `Reader`. ``fail`` is raised by every read of a path in it; a read waits while ``gate`` is closed."""

    secrets: dict[str, tuple[object, str]] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    reading: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    reads: Counter[str] = field(default_factory=Counter)
    tends: int = 0
    trouble: str = ""
    notice: str = ""
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def connect(self) -> None:
        if "" in self.fail:
            raise self.fail[""]

    def read(self, path: str) -> RawSecret | None:
        self.reads[path] += 1
        found = self.secrets.get(path)
        self.reading.release()
        assert self.gate.wait(5)
        if path in self.fail:
            # A new one each time, as a store makes it: one that was raised holds the frames of its reader.
            raise type(self.fail[path])(*self.fail[path].args)
        return RawSecret({"api_key": found[0]}, found[1]) if found else None

    def tend(self) -> float | None:
        self.tends += 1
        return 30.0

    def left_s(self) -> float | None:
        return None

    def close(self) -> None:
        self.closed = True
