"""What a command shows on a terminal while it takes long: what it waits for, how far it has come, and for how long it has waited.

It is drawn on stderr and wiped away at the end. Nothing is drawn where stderr is no terminal, where the result is JSON, and in the
first half second, so that a quick command shows its result alone.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from rich.progress import Progress

_AFTER_S: Final = 0.5
_EVERY_S: Final = 10


class Waiting:
    """What is waited for. The command's thread changes it, and a timer's thread draws it, under the lock."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._over = False

    def now(self, what: str) -> None:
        """Something else is waited for."""
        self._what = what
        self._draw()

    def advance(self, count: int = 1) -> None:
        """``count`` more are done. Where there is no total, it stands behind what is waited for."""
        self._done += count
        self._draw()

    def begin(self) -> None:
        """Draws it from now on, unless it is over."""
        with self._lock:
            if not self._over:
                self._bar = _bar(counted=self._total is not None)
                self._bar.add_task(self._said(), total=self._total, completed=self._done)
                self._bar.start()

    def end(self) -> None:
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()

    def _draw(self) -> None:
        with self._lock:
            if self._bar is not None:
                [task] = self._bar.task_ids
                self._bar.update(task, description=self._said(), completed=self._done)

    def _said(self) -> str:
        return f"{self._what}: {self._done:,}" if self._done and self._total is None else self._what


_shown: Waiting | None = None


@contextmanager
def waiting(what: str, total: int | None = None, *, after_s: float = _AFTER_S) -> Iterator[Waiting]:
    """Shows that the command waits for ``what``, for as long as the block runs, ``after_s`` from its beginning on. ``total`` is how
    many there are of what `Waiting.advance` counts. A wait within another one is a part of that one, and draws nothing of its own.

    Nothing is printed to stdout in the block: the two would be drawn over each other.
    """
    global _shown
    if _shown is not None or not _wanted():
        yield Waiting(what, total)
        return
    _shown = mine = Waiting(what, total)
    timer = threading.Timer(after_s, mine.begin)
    timer.daemon = True
    try:
        if after_s > 0:
            timer.start()
        else:
            mine.begin()
        yield mine
    finally:
        timer.cancel()
        mine.end()
        _shown = None


def _wanted() -> bool:
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.params
    return not (given.get("as_json") or given.get("form") == "json")


def _bar(*, counted: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    count = (BarColumn(bar_width=24), MofNCompleteColumn()) if counted else ()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        *count,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        refresh_per_second=_EVERY_S,
        transient=True,
        redirect_stdout=False,
    )
