"""What the supervisor does when its processes crash, hang or talk nonsense. The workers make no call: tiny.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tollhouse.demo.gateway_config import write_config

TINY = Path(__file__).with_name("tiny.py")
PATIENCE_S = 120.0
HUNG_S = 6.0
"""Where something is to hang. Elsewhere a process may be silent for as long as a busy machine likes."""


def until(
    condition: Callable[[], object], what: str, said: Callable[[], object] = lambda: ""
) -> None:
    """Looks again and again. ``said`` is told when it was for nothing."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S:g} s: {what}; {said()}")
        time.sleep(0.01)


class Tiny:
    """The program, and what it has written."""

    def __init__(
        self, directory: Path, workers: int, hung_s: float, prefix: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        # The stores are never opened; a ledger that is not embedded lets two generations live beside each other.
        config = write_config(directory, None, {"redis": {"url": "redis://127.0.0.1:1/0"}})
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(TINY), str(config), str(workers), str(hung_s)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def says(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Waits for it, in lines after so many."""
        found: list[re.Match[str]] = []

        def said() -> bool:
            found[:] = [m for line in self.lines[after:] if (m := re.search(pattern, line))]
            return bool(found)

        until(said, f"{pattern!r} is said", lambda: "\n".join(self.lines[-50:]))
        return found[0]

    def file(self, name: str) -> Path:
        return self.directory / name

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()


Starts = Callable[..., Tiny]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starts]:
    begun: list[Tiny] = []

    def one(
        workers: int = 2,
        *,
        hung_s: float = PATIENCE_S,
        prefix: Sequence[str] = (),
        ready: bool = True,
    ) -> Tiny:
        tiny = Tiny(tmp_path, workers, hung_s, prefix)
        begun.append(tiny)
        if ready:
            tiny.says("^ready ")
        return tiny

    yield one
    for tiny in begun:
        tiny.end()


def test_a_loop_that_stands_still_is_told_to_say_where_and_replaced(start: Starts) -> None:
    """The log has a traceback; a new worker has its number."""
    tiny = start(hung_s=HUNG_S)
    tiny.file("hang-2").touch()
    pid = tiny.says(r"^hangs (\d+)")[1]
    tiny.says(rf"^worker 2 \({pid}\) has not moved for \d+ s: it is ended, and started again")
    tiny.says("Fatal Python error: Aborted")
    tiny.says(r"tiny\.py.* in _work")
    tiny.says(rf"^worker 2 \({pid}\) ended with SIGABRT; it is started again")
    tiny.says(rf"^workers 1:\d+:ready 2:(?!{pid}:)\d+:ready", after=len(tiny.lines))
    assert tiny.stop() == 0


def test_a_worker_that_is_stopped_is_killed(start: Starts) -> None:
    """It can't say where it stands."""
    tiny = start(hung_s=HUNG_S)
    pid = int(tiny.says(r"^workers 1:\d+:ready 2:(\d+):ready")[1])
    os.kill(pid, signal.SIGSTOP)
    tiny.says(rf"process {pid} did not end in time and is killed")
    tiny.says(rf"^workers 1:\d+:ready 2:(?!{pid}:)\d+:ready", after=len(tiny.lines))
    assert tiny.stop() == 0


def test_a_desk_that_stands_still_is_replaced(start: Starts) -> None:
    """Else no probe would be answered for ever."""
    tiny = start(hung_s=HUNG_S)
    workers = set(map(int, tiny.says(r"^workers 1:(\d+):ready 2:(\d+):ready").groups()))
    children = Path(f"/proc/{tiny.process.pid}/task/{tiny.process.pid}/children").read_text()
    [desk] = set(map(int, children.split())) - workers
    os.kill(desk, signal.SIGSTOP)
    tiny.says(rf"^the process of probes \({desk}\) has not moved")
    seen = len(tiny.lines)
    tiny.says(r"^workers ", after=seen)
    assert tiny.stop() == 0


def test_a_worker_that_dies_again_and_again_is_named_and_the_other_goes_on(start: Starts) -> None:
    """The waits grow."""
    tiny = start()
    pid = tiny.says(r"^workers 1:(\d+):ready")[1]
    tiny.file("crash-2").touch()
    tiny.says(r"^worker 2 .* ended with exit code 7; it is started again in 0\.5 s")
    tiny.says(r"^worker 2 .* it is started again in 4 s")
    tiny.says("^status .*worker 2 dies again and again")
    tiny.file("crash-2").unlink()
    tiny.says(rf"^workers 1:{pid}:ready 2:\d+:ready", after=len(tiny.lines))
    assert tiny.stop() == 0


def test_what_is_no_message_ends_nothing(start: Starts) -> None:
    """Neither the supervisor nor the other worker."""
    tiny = start(1)
    tiny.file("nonsense").touch()
    os.kill(int(tiny.says(r"^workers 1:(\d+):ready")[1]), signal.SIGKILL)
    tiny.says("a line that is no message")
    tiny.says("the supervisor has failed at something, and goes on")
    tiny.says(r"^workers 1:\d+:ready", after=len(tiny.lines))
    assert tiny.stop() == 0


def test_a_fork_that_fails_is_tried_again(start: Starts) -> None:
    """The system's limit of processes is reached; the workers that there are go on."""
    tiny = start()
    one, two = tiny.says(r"^workers 1:(\d+):ready 2:(\d+):ready").groups()
    tiny.file("full").touch()
    os.kill(int(two), signal.SIGKILL)
    tiny.says(r"^worker 2 can't be started \(.*unavailable\): raise the limit of processes")
    tiny.says("^status .*worker 2: it died, and is started again")
    tiny.file("full").unlink()
    tiny.says(rf"^workers 1:{one}:ready 2:\d+:ready", after=len(tiny.lines))
    assert tiny.stop() == 0


def test_a_fault_in_a_reload_is_a_refusal(start: Starts) -> None:
    """It is told as one, and the next reload is no worse for it."""
    tiny = start()
    tiny.file("fault").touch()
    tiny.process.send_signal(signal.SIGHUP)
    tiny.says(r"^not reloaded, .* stays: the gateway failed at it \(RuntimeError\)")
    tiny.file("fault").unlink()
    seen = len(tiny.lines)
    tiny.process.send_signal(signal.SIGHUP)
    tiny.says("^ready ", after=seen)
    assert tiny.stop() == 0


def test_a_reload_and_a_stop_at_once(start: Starts) -> None:
    """SIGHUP reaches workers that have no handler yet, and SIGTERM those of the new generation."""
    tiny = start(4, ready=False)
    tiny.says(r"^workers ")
    for _ in range(20):
        tiny.process.send_signal(signal.SIGHUP)
    tiny.says("^ready ")
    tiny.process.send_signal(signal.SIGHUP)
    assert tiny.stop() == 0


def test_as_process_1_it_reaps_orphans(start: Starts) -> None:
    """A container's first process is given the children of processes that ended."""
    unshare = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("no pid namespace can be made here")
    # sh becomes the program, as process 1; its orphan ends a moment later.
    tiny = start(2, prefix=(*unshare, "sh", "-c", '(sleep 0.2 & exec sleep 0.1) & exec "$@"', "sh"))
    tiny.says(r"^workers 1:\d+:ready 2:\d+:ready")
    children = Path(f"/proc/{tiny.process.pid}/task/{tiny.process.pid}/children").read_text()
    [first] = map(int, children.split())

    def zombies() -> list[str]:
        below = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        states = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in below
        ]
        return [state for state in states if state == "Z"]

    def only_ours() -> bool:
        return len(Path(f"/proc/{first}/task/{first}/children").read_text().split()) == 3

    until(only_ours, "the orphans are gone")
    assert zombies() == []
    os.kill(first, signal.SIGTERM)
    assert tiny.process.wait(PATIENCE_S) == 0
