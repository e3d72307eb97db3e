"""What a job is shown as: its members, and the lines of its results where they stand in the same answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tollhouse.families.formats.inlined import Inlined, Path
from tollhouse.families.formats.result_lines import LineReader, ResultLines
from tollhouse.families.meters import Later, PassThrough
from tollhouse.families.units import Charge

_LONGEST_ID = 256


class ShownJob(PassThrough):
    """The base of a family's reader. ``arrays`` are where results may stand; the first of them that has any counts."""

    def __init__(
        self,
        wanted: Collection[Path],
        arrays: Collection[Path] = (),
        read: LineReader | None = None,
    ) -> None:
        self._told = Inlined(wanted, arrays if read is not None else ())
        self._lines = {} if read is None else {path: ResultLines(read) for path in arrays}

    @property
    def over(self) -> bool:
        """The job does not go on."""
        raise NotImplementedError

    @property
    def output(self) -> Later | None:
        """Where its results stand, if it names another object that has them."""
        return None

    @property
    def nothing_done(self) -> bool:
        """It costs nothing: no request of it has succeeded."""
        return False

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self.over and self._told.whole and (self.nothing_done or not self._lost)

    @property
    def later(self) -> Later | None:  # type: ignore[override]
        return None if not self.ended or self.nothing_done or self._results else self.output

    @property
    def error(self) -> str:  # type: ignore[override]
        if not self.ended:
            return ""
        results = self._results
        return "failed" if self.nothing_done else results.error if results is not None else ""

    def feed(self, data: bytes) -> bytes:
        for path, line in self._told.feed(data):
            self._lines[path].take(line)
        return data

    def flush(self) -> bytes:
        for lines in self._lines.values():
            lines.flush()
        return b""

    def finish(self) -> tuple[Charge, ...]:
        results = self._results
        return () if results is None or not self._told.whole else results.finish()

    @property
    def _results(self) -> ResultLines | None:
        return next((lines for lines in self._lines.values() if lines.begun), None)

    @property
    def _lost(self) -> bool:
        """Its results are here, and could not be read."""
        results = self._results
        return results is not None and not results.ended

    def _id(self, *path: str) -> str:
        """A word of its members, "" for what is none."""
        value = self._member(*path)
        sound = isinstance(value, str) and len(value) <= _LONGEST_ID and value.isascii()
        return str(value) if sound and value.isprintable() else ""

    def _member(self, *path: str) -> Any:
        return self._told.found.get(path)
