"""`tollhouse demo` as a person runs it, and that it is not fooled."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys

import pytest

from tollhouse.demo import demo
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

COMMAND = [sys.executable, "-m", "tollhouse", "demo"]


def test_demo_in_a_pipe() -> None:
    """It ends by itself with 0, shows its claims without colours, and prints neither the key nor a whole token."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of this happened." in done.stdout
    assert "\x1b" not in done.stdout
    for shown in (
        "received by the provider",
        "402 budget_exceeded",
        "Other providers: Claude and Gemini",
        "once, as x-goog-api-key",
        "401 identity_unknown",
        "421 authority_mismatch",
    ):
        assert shown in done.stdout
    assert not re.search(r"gate_\w{20}|sk-demo-[\w-]{20}", done.stdout)
    assert done.stderr == ""


def test_not_fooled(capsys: pytest.CaptureFixture[str]) -> None:
    """A provider that itself answers as the gateway's refusal would makes the demo end with 1 and say what did not
    happen."""
    standin = StandIn()
    body = b'{"error": {"message": "no money", "code": "budget_exceeded"}}'
    standin.always(reply(402, body, [("content-type", "application/json")]))
    assert demo.main(keep=False, standin=standin) == 1
    shown = capsys.readouterr().out
    assert "All of this happened." not in shown
    _, _, failed = shown.partition("Not all of this happened:")
    assert "the provider received 0 calls, not the refused one (1)" in failed


def test_without_the_sdk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the OpenAI SDK it says how to install it, and ends with 2."""
    monkeypatch.setitem(sys.modules, "openai", None)
    assert demo.main(keep=False) == 2
    assert 'pip install "tollhouse[demo]"' in capsys.readouterr().err


@pytest.mark.requires("curl")
def test_keep() -> None:
    """It stays until Ctrl-C, what it prints can be pasted into a shell as it is, and the calls' lines follow."""
    with subprocess.Popen([*COMMAND, "--keep"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pasted: list[str] = []
        for line in process.stdout:
            if line.startswith("The lines of your calls"):
                break
            if line.startswith(("export ", "unset ", "curl ", shlex.quote(sys.executable))):
                pasted.append(line)
        try:
            shell = subprocess.run(
                ["sh", "-eu"],
                input="".join(pasted),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            lines = [process.stdout.readline() for _ in range(2)]
        finally:
            # What a shell starts in the background ignores SIGINT, and so does what that starts.
            ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert shell.returncode == 0, shell.stderr
    assert shell.stdout.count("The toll is paid, and the road is open. You said: Hello") == 2
    assert "10 usd/day" in shell.stdout
    assert [json.loads(line)["status"] for line in lines] == [200, 200]
    assert "All of this happened." in rest
