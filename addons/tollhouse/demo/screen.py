"""What the demo prints: headings, two columns, and claims that it has checked. Colours on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

import click

Row = tuple[str, str]
"""The same line of two requests; an empty side has none."""


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """A terminal that can, whose user did not say no: https://no-color.org (set and not empty)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Screen:
    """Prints to ``stream``, and remembers what did not happen."""

    def __init__(
        self, stream: TextIO | None = None, *, colour: bool | None = None, width: int | None = None
    ) -> None:
        self._stream = stream or sys.stdout
        self._colour = wants_colour(self._stream, os.environ) if colour is None else colour
        self._width = max(width or shutil.get_terminal_size((110, 24)).columns, 60)
        self.failed: list[str] = []

    def say(
        self, text: str = "", *, fg: str | None = None, bold: bool = False, dim: bool = False
    ) -> None:
        click.echo(
            self._style(text, fg=fg, bold=bold, dim=dim), file=self._stream, color=self._colour
        )

    def heading(self, text: str) -> None:
        self.say()
        self.say(text, bold=True)

    def talk(self, text: str) -> None:
        for line in textwrap.wrap(
            text, self._width - 2, break_long_words=False, break_on_hyphens=False
        ):
            self.say(f"  {line}", dim=True)

    def claim(self, text: str, holds: bool, otherwise: str = "") -> bool:
        """Say that ``text`` was checked and holds, or that it does not and what was seen instead."""
        if holds:
            self.say(f"  {self._style('ok', fg='green')}  {text}")
        else:
            failed = f"{text} ({otherwise})" if otherwise else text
            self.failed.append(failed)
            self.say(f"  {self._style('NO', fg='red', bold=True)}  {failed}")
        return holds

    def columns(self, left: str, right: str, rows: Sequence[Row]) -> None:
        """Two headed columns; ``-`` marks a line that only the left has, ``+`` only the right, ``~`` two unlike."""
        width = (self._width - 7) // 2
        self.say(f"  {left[:width]:<{width}} | {right}", bold=True)
        self.say(f"  {'-' * width}-+-{'-' * width}", dim=True)
        for one, other in rows:
            mark, fg = _difference(one, other)
            cells = [_fit(text, width) for text in (one, other)]
            for a, b in zip(*_level(cells), strict=True):
                self.say(
                    f"{self._style(mark, fg=fg)} {self._style(f'{a:<{width}}', fg=fg)} | {self._style(b, fg=fg)}"
                )
                mark = " "

    def _style(
        self, text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False
    ) -> str:
        if not self._colour or not (fg or bold or dim):
            return text
        return click.style(text, fg=fg, bold=bold or None, dim=dim or None)


def _difference(one: str, other: str) -> tuple[str, str | None]:
    if one == other:
        return " ", None
    if not other:
        return "-", "red"
    return ("+", "green") if not one else ("~", "yellow")


def _fit(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False) or [""]


def _level(cells: list[list[str]]) -> list[list[str]]:
    height = max(map(len, cells))
    return [cell + [""] * (height - len(cell)) for cell in cells]


def request_rows(
    sent: Sequence[tuple[str, str]], received: Sequence[tuple[str, str]], show: Callable[[str], str]
) -> list[Row]:
    """Headers of two requests beside each other, by name in either case; ``show`` shortens a value. Those of the SDK's
    own telemetry (``x-stainless-*``) that are equal are counted, not listed."""
    rest = [(name.lower(), value) for name, value in received]
    rows: list[Row] = []
    same = 0
    for name, value in ((name.lower(), value) for name, value in sent):
        twin = next((pair for pair in rest if pair == (name, value)), None)
        twin = twin or next((pair for pair in rest if pair[0] == name), None)
        if twin is not None:
            rest.remove(twin)
        if twin == (name, value) and name.startswith("x-stainless-"):
            same += 1
            continue
        rows.append((f"{name}: {show(value)}", f"{name}: {show(twin[1])}" if twin else ""))
    rows += [("", f"{name}: {show(value)}") for name, value in rest]
    if same:
        count = f"({same} more of the SDK's own, unchanged)"
        rows.append((count, count))
    return rows
