"""The search for leaks finds every form, reads every file to its end, and makes a run fail without showing the secret."""

from __future__ import annotations

import base64
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import REAL_KEY
from tests.support.leaks import CANARY, LeakSearch, Searcher, canaries_in, files_below
from tollhouse.accounts.token import mint

ROOT = Path(__file__).parents[2]
KEY = "sk-of/this+test?only=~0123456789_abcdef"
TOKEN = mint(bytes(range(32)))
SEARCHER = Searcher({"key": KEY})


def found(data: bytes) -> list[str]:
    return [what for _, what in SEARCHER.search(data)]


@pytest.mark.parametrize(
    "form",
    [
        str.encode,
        lambda text: base64.b64encode(text.encode()),
        lambda text: base64.urlsafe_b64encode(text.encode()),
        lambda text: quote(text).encode(),
        lambda text: quote(text, safe="").encode(),
        lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")).encode(),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()).encode(),
        lambda text: text.encode().hex().encode(),
        lambda text: text.encode().hex().upper().encode(),
    ],
)
@given(before=st.text(max_size=7), after=st.text(max_size=7))
def test_forms(form: Callable[[str], bytes], before: str, after: str) -> None:
    """A key is found in every form, whatever stands beside it."""
    assert found(form(before + KEY + after))


@given(before=st.text(max_size=7), after=st.text(max_size=7))
def test_tokens(before: str, after: str) -> None:
    """Any whole gate token is found, as it is and in the base64 of Proxy-Authorization."""
    text = f"{before}{TOKEN}{after}".encode()
    assert found(text)
    assert found(base64.b64encode(text))
    assert found(base64.urlsafe_b64encode(text))
    assert found(quote(TOKEN).replace("_", "%5f").encode())


def test_half() -> None:
    """Half a key is a leak as well: a message may have been cut."""
    assert found(KEY[: len(KEY) // 2].encode())
    assert found(KEY[len(KEY) // 2 :].encode())


@given(st.binary(max_size=400))
def test_nothing(data: bytes) -> None:
    """Nothing is found where nothing is; a token cut short for a person is none."""
    assert not found(
        data
        + TOKEN[:20].encode()
        + b"... gate_... "
        + KEY[:10].encode()
        + base64.b64encode(bytes(60))
    )


def test_offsets(tmp_path: Path) -> None:
    """A finding says where, also the second one of a file."""
    file = tmp_path / "log"
    file.write_bytes(b"12345" + CANARY.encode() * 2)
    halves = len(CANARY) // 2
    offsets = sorted(leak.offset for leak in Searcher({"canary": CANARY}).search_file(file))
    assert offsets == [5, 5 + halves, 5 + len(CANARY), 5 + len(CANARY) + halves]
    file.write_bytes(b"")


def test_files_below(tmp_path: Path) -> None:
    """Files of every depth; neither links, sockets nor pipes."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / ".hidden").write_text("x")
    (tmp_path / "top").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "top")
    os.mkfifo(tmp_path / "pipe")
    assert {file.name for file in files_below(tmp_path)} == {".hidden", "top"}


def test_canaries(tmp_path: Path) -> None:
    """Each file has the canary while it is looked for, and is as before afterwards."""
    files = [tmp_path / name for name in ("call-1.jsonl", "call-22.jsonl", "gateway.err")]
    for file in files:
        file.write_text("line\n")
    with canaries_in(files):
        assert all(CANARY in file.read_text() for file in files)
    assert {file.read_text() for file in files} == {"line\n"}


def test_blind_searcher(tmp_path: Path) -> None:
    """A search that does not see the canaries says so, for each file."""
    (tmp_path / "one").write_text("x")
    (tmp_path / "two").write_text("")
    blind = LeakSearch(Searcher({}))
    blind.search_directory(tmp_path)
    assert len(blind.problems) == 2
    sees = LeakSearch(Searcher({"canary": CANARY}))
    sees.search_directory(tmp_path)
    assert (sees.problems, sees.leaks, sees.files) == ([], [], 2)


def test_canary_in_captured_output() -> None:
    """What is printed and logged here must be found at the end of the run: the search is told of this test's name."""
    print(CANARY)
    print(CANARY, file=sys.stderr)
    logging.getLogger("tollhouse.canary").warning("%s", CANARY)


INNER = """
import base64, logging
from tests.support.gateway import REAL_KEY

def test_first(tmp_path):
    (tmp_path / "gateway.err").write_text("nothing here\\n" * 100)
"""
LEAKING = """
def test_second(tmp_path):
    (tmp_path / "calls.jsonl").write_text("12345" + REAL_KEY)
    (tmp_path / "spool").write_bytes(base64.b64encode(b"ab" + REAL_KEY.encode()))
    logging.getLogger().warning(REAL_KEY)
    print("gate_" + "0aZ" * 17)
"""


@pytest.fixture
def run_inner(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """A run of its own; its exit status and what it printed. Its files are removed: they must not be found here."""

    def run(tests: str, *options: str) -> tuple[int, str]:
        file = tmp_path / "test_inner.py"
        file.write_text(tests)
        plugins = ["-p", "xdist.plugin", "-p", "tests.support.leaks", "-p", "no:cacheprovider"]
        places = [
            "-c",
            os.devnull,
            "--rootdir",
            str(tmp_path),
            "--basetemp",
            str(tmp_path / "base"),
        ]
        command = [sys.executable, "-m", "pytest", *places, *plugins, *options, str(file)]
        environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT, env=environ, timeout=120
            )
        finally:
            shutil.rmtree(tmp_path / "base", ignore_errors=True)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("options", [("-n", "1"), ("-n", "0")])
def test_run_fails(run_inner: Callable[..., tuple[int, str]], options: tuple[str, ...]) -> None:
    """A run whose tests pass fails by what they left, with and without workers, and does not show it."""
    code, said = run_inner(INNER + LEAKING, *options)
    assert (code, "2 passed" in said) == (pytest.ExitCode.TESTS_FAILED, True), said
    for place in (
        "calls.jsonl: offset 5: the real key (plain)",
        "spool: offset 3: the real key (base64, 2 bytes off)",
        "test_second, Captured log call: offset",
        "test_second, Captured stdout call: offset 0: a gate token",
    ):
        assert place in said
    assert REAL_KEY[:20] not in said
    assert "0aZ0aZ" not in said


def test_run_passes(run_inner: Callable[..., tuple[int, str]]) -> None:
    """A clean run passes and says what was searched."""
    code, said = run_inner(INNER, "-n", "0")
    assert (code, "1 files, a canary in each" in said) == (pytest.ExitCode.OK, True), said


def test_nothing_may_be_removed_before(run_inner: Callable[..., tuple[int, str]]) -> None:
    """A run that would remove files before the search is refused."""
    code, said = run_inner(INNER, "-o", "tmp_path_retention_policy=none")
    assert (code, "tmp_path_retention_policy must be all" in said) == (
        pytest.ExitCode.USAGE_ERROR,
        True,
    ), said
