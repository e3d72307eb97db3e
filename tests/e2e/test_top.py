"""`tollhouse top` on a terminal, beside a running gateway."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner
from tests.support.busy import ASKED, CHAT
from tests.support.gateway import Road, open_road

from tollhouse.cli.main import cli

HOSTILE = "[blink]agent [bold]one"


def test_top(tmp_path: Path) -> None:
    """What was spent is there and is kept up to date until Ctrl-C; what a workload names is no markup."""
    with open_road(tmp_path) as road, road.http() as client:
        client.post(CHAT, json=ASKED, headers={"x-session-id": HOSTILE}).raise_for_status()
        client.post(CHAT, json={**ASKED, "model": "no-model"})
        lines = road.wait_lines(2)

        def more() -> None:
            client.post(CHAT, json={**ASKED, "model": "gpt-4.1"}).raise_for_status()

        seen = live(road, "openai/gpt-4o", more, "openai/gpt-4.1")
        assert "BUDGET" in seen
        once = CliRunner().invoke(
            cli, ["top", "--once", "--config", str(road.gateway.config)], env={"COLUMNS": "160"}
        )
        assert once.exit_code == 0
        assert lines[0]["cost_usd"] in once.stdout
        assert HOSTILE in once.stdout
        assert "\x1b" not in once.stdout
        only = ["top", "--once", "--project", "proj_none", "--config", str(road.gateway.config)]
        assert "openai/gpt-4o" not in CliRunner().invoke(cli, only).stdout
    gone = CliRunner().invoke(cli, ["top", "--once", "--config", str(road.gateway.config)])
    assert gone.exit_code == 1
    assert "only a running gateway" in gone.output


def live(road: Road, first: str, then: Callable[[], None], second: str) -> str:
    """All that a person sees of `top`: until ``first``, then after ``then`` until ``second``, then Ctrl-C."""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "tollhouse", "top", "--config", str(road.gateway.config)]
    environ = {**road.gateway.environ, "COLUMNS": "160", "LINES": "60", "TERM": "xterm"}
    seen = b""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        for wanted, act in (
            (first, then),
            (second, lambda: process.send_signal(signal.SIGINT)),
        ):
            while wanted.encode() not in seen:
                seen += os.read(mine, 65_536)
            act()
        try:
            while piece := os.read(mine, 65_536):
                seen += piece
        except OSError:
            # Linux ends a terminal that nobody has open any more with EIO.
            pass
        assert process.wait(60) == 0
    os.close(mine)
    return seen.decode()
