"""Runs a workload's script as a process of its own, in an environment of exactly the variables given."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tollhouse.demo.child_output import Output

Event = dict[str, Any]


class WorkloadError(Exception):
    """The script did not run to its end; the text is what it said last."""


def run_workload(
    script: str,
    *arguments: str,
    environ: Mapping[str, str],
    on_event: Callable[[Event], None] | None = None,
    timeout: float = 60.0,
) -> list[Event]:
    """The events that ``script`` (a file beside this one) printed; ``on_event`` is told each as it comes.

    Raises `WorkloadError`.
    """
    events: list[Event] = []
    said = Output()
    # -P: the script's folder is not on the path, so it imports what is installed and nothing of ours.
    command = [sys.executable, "-P", str(Path(__file__).with_name(script)), *arguments]
    process = subprocess.Popen(  # noqa: S603
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said.follow(process.stderr)
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                event = json.loads(line)
                events.append(event)
                if on_event is not None:
                    on_event(event)
        code = process.wait()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        said.join()
    if code != 0:
        last = (
            said.lines[-1].strip()
            if said.lines
            else f"ended by itself with {code}, or after {timeout:g} s"
        )
        raise WorkloadError(f"{script}: {last}")
    return events
