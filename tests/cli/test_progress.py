"""What is drawn while a command waits, and where nothing is."""

from __future__ import annotations

import contextlib
import os
import pty
import select
from collections.abc import Iterator
from typing import TextIO

import click
import pytest

from tollhouse.cli.progress import waiting


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, TextIO]]:
    """Its far end, and stderr as a command has it. pytest sets stderr itself between a fixture and its test."""
    mine, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stderr, contextlib.redirect_stderr(stderr):
        yield mine, stderr
    os.close(mine)


def until(mine: int, wanted: str) -> str:
    seen = b""
    while wanted.encode() not in seen:
        assert select.select([mine], [], [], 30)[0], seen
        seen += os.read(mine, 4096)
    return seen.decode()


def test_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn, moves on, and is wiped away; a wait within another one draws nothing of its own."""
    monkeypatch.setenv("TERM", "xterm")
    with terminal() as (mine, stderr):
        with waiting("reads the pages", 40) as waited:
            until(mine, "reads the pages")
            waited.advance(7)
            until(mine, "7/40")
            with waiting("an inner one") as inner:
                inner.now("inner still")
                waited.now("reads the last pages")
                assert "inner" not in until(mine, "reads the last pages")
        print("done", file=stderr, flush=True)
        assert until(mine, "done\r\n").rpartition("\x1b[2K")[2] == "done\r\n"


@pytest.mark.parametrize(
    ("arguments", "term"), [(["--json"], "xterm"), ([], "dumb"), (["--format", "json"], "xterm")]
)
def test_where_nothing_is_drawn(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], term: str
) -> None:
    """For a program that reads the result, and on a terminal that can't move its cursor."""
    monkeypatch.setenv("TERM", term)

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    @click.option("--format", "form")
    def command(as_json: bool, form: str | None) -> None:
        with waiting("reads", after_s=0) as waited:
            waited.advance()

    with terminal() as (mine, stderr):
        command.main(arguments, standalone_mode=False)
        print("done", file=stderr, flush=True)
        assert until(mine, "done") == "done\r\n"
