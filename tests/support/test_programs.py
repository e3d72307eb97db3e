"""How the tests start, pause and end programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.programs import Program, ProgramError

SERVES = "import signal; print('open'); print('ready at 1:2', flush=True); signal.pause()"
ENDS = "import sys; print('address already in use' if {busy} else 'no such option'); sys.exit(1)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_is_ready_when_it_says_so() -> None:
    """`start` returns the line; what it says is kept, over several starts; `kill` ends it, paused or not."""
    with Program("server") as server:
        assert not server.running
        assert server.start(python(SERVES), ready="ready at") == "ready at 1:2\n"
        server.pause()
        server.kill()
        assert not server.running
        server.start(python(SERVES), ready="ready at")
        assert server.log == ["open\n", "ready at 1:2\n"] * 2
        server.pause()
        server.resume()
        assert server.stop() == -15
    assert not server.running


def test_it_has_the_environment_that_it_is_given(tmp_path: Path) -> None:
    """And its directory; nothing of ours."""
    code = "import os; print('ready', os.environ.get('HOME'), os.environ.get('A'), os.getcwd(), flush=True)"
    with Program("server") as server:
        said = server.start(python(code), ready="ready", environ={"A": "b"}, cwd=tmp_path)
        assert said == f"ready None b {tmp_path}\n"


def test_one_that_ends_says_why() -> None:
    """At once, and not after the time it had."""
    with Program("server") as server:
        with pytest.raises(ProgramError, match=r"(?s)server did not become ready.*no such option"):
            server.start(python(ENDS.format(busy=False)), ready="ready", timeout_s=3600)
        assert not server.running


def test_one_that_stays_silent_is_killed() -> None:
    """It is not left behind."""
    with Program("server") as server:
        with pytest.raises(ProgramError, match="within 0 s"):
            server.start(python(SERVES), ready="never said", timeout_s=0)
        assert not server.running


def test_a_port_that_another_program_took() -> None:
    """Another is tried, a few times; any other failure is final."""
    tries: list[bool] = []

    def command(*failures: bool) -> list[str]:
        busy = failures[len(tries)] if len(tries) < len(failures) else None
        tries.append(bool(busy))
        return python(SERVES if busy is None else ENDS.format(busy=busy))

    with Program("server") as server:
        assert (
            server.start_on_a_port(lambda: command(True, True), ready="ready at")
            == "ready at 1:2\n"
        )
        assert len(tries) == 3
        server.kill()
        tries.clear()
        with pytest.raises(ProgramError, match="no such option"):
            server.start_on_a_port(lambda: command(True, False), ready="ready at")
        assert len(tries) == 2
        tries.clear()
        with pytest.raises(ProgramError, match="address already in use"):
            server.start_on_a_port(lambda: command(*[True] * 9), ready="ready at")
        assert len(tries) == 5
