"""The output of a child process, line by line, as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO


class Output:
    """One stream of a child: read on a thread of its own, kept in memory and in ``file``."""

    def __init__(self, file: Path | None = None) -> None:
        self.lines: list[str] = []
        self.tell: Callable[[str], None] | None = None
        self._file = file
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._open = 0

    def follow(self, stream: IO[str] | None) -> None:
        """Begin to read ``stream``, until its end."""
        assert stream is not None
        with self._changed:
            self._open += 1
        thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                if self._file is not None:
                    with self._file.open("a") as kept:
                        kept.write(line)
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
                    tell = self.tell
                if tell is not None:
                    tell(line)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[str]], bool], timeout: float) -> bool:
        """Whether ``condition`` of the lines came true; false at ``timeout`` seconds, or when nothing more can come."""
        end = time.monotonic() + timeout
        with self._changed:
            while not condition(self.lines):
                left = end - time.monotonic()
                if left <= 0 or not self._open:
                    return False
                self._changed.wait(left)
            return True

    def join(self) -> None:
        """Return when every stream has been read to its end."""
        for thread in self._threads:
            thread.join(10)
