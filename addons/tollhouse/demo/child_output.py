"""The output of a child process, line by line, as it comes."""

from __future__ import annotations

import codecs
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

_AT_ONCE: Final = 65_536


class _Stream:
    """One pipe, and what came of a line that is not whole yet."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.fd = stream.fileno()
        self.open = True
        self.begun = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(self.fd, False)

    def take(self) -> list[str]:
        """The lines that are there, without waiting. ``open`` is false after the last ones."""
        while self.open:
            try:
                data = os.read(self.fd, _AT_ONCE)
            except BlockingIOError:
                break
            self.open = bool(data)
            self.begun += self._decoder.decode(data, final=not data)
        # Not splitlines(): it ends a line at more characters than a newline.
        *whole, self.begun = self.begun.split("\n")
        lines = [f"{line}\n" for line in whole]
        if not self.open and self.begun:
            lines.append(self.begun)
            self.begun = ""
        return lines


class Output:
    """The streams of a child: read on a thread each, kept in memory and in ``file``."""

    def __init__(self, file: Path | None = None) -> None:
        self.lines: list[str] = []
        self.tell: Callable[[str], None] | None = None
        """Gets each line once, under the lock of this object."""
        self._file = file
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._streams: list[_Stream] = []

    def follow(self, stream: IO[str] | None) -> None:
        """Begin to read ``stream``, until its end."""
        assert stream is not None
        followed = _Stream(stream)
        with self._changed:
            self._streams.append(followed)
        thread = threading.Thread(target=self._read, args=(followed,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read(self, followed: _Stream) -> None:
        ready = select.poll()
        ready.register(followed.fd, select.POLLIN)
        with followed.stream:
            while followed.open:
                ready.poll()
                with self._changed:
                    self._take(followed)

    def _take(self, followed: _Stream) -> None:
        lines = followed.take()
        if not followed.open and followed in self._streams:
            self._streams.remove(followed)
        if lines and self._file is not None:
            with self._file.open("a") as kept:
                kept.writelines(lines)
        self.lines += lines
        self._changed.notify_all()
        if self.tell is not None:
            for line in lines:
                self.tell(line)

    def so_far(self) -> list[str]:
        """All lines that the child has written until now: also those that no thread has read yet."""
        with self._changed:
            for followed in list(self._streams):
                self._take(followed)
            return list(self.lines)

    def wait_for(self, condition: Callable[[list[str]], bool], timeout: float) -> bool:
        """Whether ``condition`` of the lines came true; false at ``timeout`` seconds, or when nothing more can come."""
        end = time.monotonic() + timeout
        with self._changed:
            while not condition(self.lines):
                left = end - time.monotonic()
                if left <= 0 or not self._streams:
                    return False
                self._changed.wait(left)
            return True

    def join(self) -> None:
        """Return when every stream has been read to its end."""
        for thread in self._threads:
            thread.join(10)
