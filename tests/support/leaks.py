"""Searches what a test run left for the real key and for gate tokens. A finding fails the run; it is named by file and
offset, never shown.

What is searched, once all tests have ended: every file below pytest's base directory (what gateways and their stores wrote,
configurations, state directories, spools, dumps), every test's captured output and log, and warnings. (Not the names of
tests, which hold tokens made up for them.) Before that a canary line is appended to each of the files: a search that does
not find it there fails the run as well.
"""

from __future__ import annotations

import base64
import contextlib
import mmap
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from tests.support.gateway import REAL_KEY

CANARY = "sk-canary-that-the-search-for-leaks-must-find-everywhere"
CANARY_TEST = "test_leaks.py::test_canary_in_captured_output"
"""Prints the canary: what a test prints and logs must reach the search."""
CAPTURED = ("Captured stdout call", "Captured stderr call", "Captured log call")

_SHOWN = 20
# The form of a whole token, its checksum aside (addons/tollhouse/admit/token.py), with `_` as it stands in a URL too.
_TOKEN = re.compile(rb"gate(?:_|%5[Ff])[0-9A-Za-z]{40,}")
# "gate_" in base64 by the place where it begins within three bytes, to what stands before it in its group of four.
_TOKEN_IN_BASE64 = {
    re.compile(start + rb"[0-9A-Za-z+/_-]{48,}"): before
    for before, start in ((b"", rb"Z2F0ZV"), (b"AG", rb"dhdGVf"), (b"AAB", rb"nYXRlX"))
}


class Leak(NamedTuple):
    place: str
    offset: int
    what: str


def forms(secret: str) -> dict[bytes, str]:
    """Byte strings of which one is in any text that holds ``secret`` plainly, in base64 (wherever it begins within three
    bytes, both alphabets), URL-encoded or in hexadecimal digits; each to its name."""
    raw = secret.encode()
    found = {raw: "plain"}
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        # The characters at both ends hold bits of what stands beside it.
        whole = encoded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
        found.setdefault(whole, f"base64, {shift} bytes off")
        found.setdefault(
            whole.translate(bytes.maketrans(b"+/", b"-_")), f"URL-safe base64, {shift} bytes off"
        )
    every = "".join(f"%{byte:02X}" for byte in raw)
    odd = "".join(f"%{byte:02X}" if not chr(byte).isalnum() else chr(byte) for byte in raw)
    for escaped in (quote(secret), quote(secret, safe=""), odd, every):
        found.setdefault(escaped.encode(), "URL-encoded")
        found.setdefault(
            re.sub("%..", lambda match: match[0].lower(), escaped).encode(), "URL-encoded"
        )
    found.setdefault(raw.hex().encode(), "hexadecimal")
    found.setdefault(raw.hex().upper().encode(), "hexadecimal")
    return found


class Searcher:
    """Looks for ``secrets`` (name to value; one half of a value counts as the whole) and for gate tokens."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._needles = {
            needle: f"{name} ({form})"
            for name, value in secrets.items()
            for half in (value[: len(value) // 2], value[len(value) // 2 :])
            for needle, form in forms(half).items()
        }

    def search(self, data: bytes | mmap.mmap) -> Iterator[tuple[int, str]]:
        """Offset and name of each thing found."""
        for needle, name in self._needles.items():
            offset = data.find(needle)
            while offset >= 0:
                yield offset, name
                offset = data.find(needle, offset + 1)
        for match in _TOKEN.finditer(data):
            yield match.start(), "a gate token"
        for pattern, before in _TOKEN_IN_BASE64.items():
            for match in pattern.finditer(data):
                text = before + match[0].translate(bytes.maketrans(b"-_", b"+/"))
                if _TOKEN.search(base64.b64decode(text[: len(text) // 4 * 4])):
                    yield match.start(), "a gate token (base64)"

    def search_text(self, place: str, text: str) -> Iterator[Leak]:
        yield from (
            Leak(place, offset, what)
            for offset, what in self.search(text.encode("utf-8", "replace"))
        )

    def search_file(self, file: Path) -> Iterator[Leak]:
        """Raises `OSError` for a file that can't be read."""
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size:
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    yield from (Leak(str(file), offset, what) for offset, what in self.search(data))
        for _, what in self.search(os.fsencode(file.name)):
            yield Leak(f"the name of a file in {file.parent}", 0, what)


def files_below(directory: Path) -> Iterator[Path]:
    """Every regular file; links are not followed. Raises `OSError` for a directory that can't be listed."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(directory, onerror=fail):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            if stat.S_ISREG(file.lstat().st_mode):
                yield file


@contextlib.contextmanager
def canaries_in(files: list[Path]) -> Iterator[None]:
    """Each file has a canary line at its end, inside the ``with``."""
    sizes: dict[Path, int] = {}
    try:
        for file in files:
            sizes[file] = file.stat().st_size
            with file.open("ab") as opened:
                opened.write(f"\n{CANARY}\n".encode())
        yield
    finally:
        for file, size in sizes.items():
            os.truncate(file, size)


@dataclass(eq=False)  # pytest keeps plugins in sets.
class LeakSearch:
    """The plugin, in the process that the run's result comes from."""

    searcher: Searcher
    leaks: list[Leak] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    files: int = 0
    captured: int = 0
    _seen: set[Leak] = field(default_factory=set)
    _canaries: set[str] = field(default_factory=set)
    _canary_test_ran: bool = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        function = report.nodeid.partition("[")[0]
        is_canary = report.nodeid.endswith(CANARY_TEST)
        self._canary_test_ran |= is_canary and report.when == "call" and report.passed
        for heading, text in report.sections:
            self.captured += 1
            for leak in self.searcher.search_text(f"{function}, {heading}", text):
                if is_canary and leak.what.startswith("canary"):
                    self._canaries.add(heading)
                else:
                    self._take([leak])

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, nodeid: str
    ) -> None:
        self._take(
            self.searcher.search_text(
                f"a warning in {nodeid or 'the run'}", str(warning_message.message)
            )
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After the workers have ended and before the summary is written."""
        if self._canary_test_ran and session.config.getoption("capture") != "no":
            missed = [heading for heading in CAPTURED if heading not in self._canaries]
            self.problems += [
                f"{heading} of {CANARY_TEST} did not reach the search" for heading in missed
            ]
        # Where pytest keeps it for its own fixture; None if no test asked for a directory.
        base = session.config._tmp_path_factory._basetemp  # type: ignore[attr-defined]
        if base is not None:
            try:
                self.search_directory(base)
            except OSError as error:
                self.problems.append(f"{error.filename} could not be searched ({error.strerror})")
        if self.leaks or self.problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def search_directory(self, directory: Path) -> None:
        """Raises `OSError`."""
        files = list(files_below(directory))
        found: set[str] = set()
        with canaries_in(files):
            for file in files:
                for leak in self.searcher.search_file(file):
                    if leak.what.startswith("canary"):
                        found.add(leak.place)
                    else:
                        self._take([leak])
        self.files = len(files)
        self.problems += [
            f"{file} was not read to its end" for file in files if str(file) not in found
        ]

    def _take(self, leaks: Iterator[Leak] | list[Leak]) -> None:
        for leak in leaks:
            if leak not in self._seen:
                self._seen.add(leak)
                self.leaks.append(leak)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        searched = f"{self.files} files, a canary in each, and {self.captured} captured outputs were searched for leaks"
        if not (self.leaks or self.problems):
            terminalreporter.write_line(f"{searched}: nothing found")
            return
        terminalreporter.section("leaks", red=True)
        for leak in self.leaks[:_SHOWN]:
            terminalreporter.write_line(
                f"{leak.place}: offset {leak.offset}: {leak.what}", red=True
            )
        if len(self.leaks) > _SHOWN:
            terminalreporter.write_line(f"and {len(self.leaks) - _SHOWN} more", red=True)
        for problem in self.problems:
            terminalreporter.write_line(problem, red=True)
        terminalreporter.write_line(searched)


def pytest_configure(config: pytest.Config) -> None:
    if config.getini("tmp_path_retention_policy") != "all":
        raise pytest.UsageError(
            "tmp_path_retention_policy must be all: what a test left is searched for leaks"
        )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(
            LeakSearch(Searcher({"the real key": REAL_KEY, "canary": CANARY})), "leak-search"
        )
