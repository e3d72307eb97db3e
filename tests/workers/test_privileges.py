"""`[process] user`: a gateway that root started has root's ports and nothing else of root's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.support.gateway import REAL_KEY
from tests.support.netns import Namespace

from tollhouse.config.load import load_config
from tollhouse.config.surroundings import ProcessConfig
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn
from tollhouse.workers.privileges import CannotBecome, wanted

UID = 64003


def readable_python() -> tuple[str, ...]:
    """A command that runs the one after it where every user can read the interpreter, though root's home, in which it may be,
    is root's alone. The mounts are in a namespace of its own."""
    base = Path(sys.base_prefix).resolve()
    closed = [one for one in base.parents if not one.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ()
    script = (
        'h=$(mktemp -d) && mount --bind "$0" "$h" && mount -t tmpfs -o mode=755 none "$1" && mkdir -p "$0" && '
        'mount --bind "$h" "$0" && shift && exec "$@"'
    )
    return ("unshare", "--mount", "--", "sh", "-c", script, str(base), str(closed[-1]))


def read_only(writable: Path) -> tuple[str, ...]:
    """A command that runs the one after it with nothing to write to but ``writable``, as the image is run."""
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
    return ("unshare", "--mount", "--", "sh", "-c", script, str(writable))


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@contextmanager
def public_directory() -> Iterator[Path]:
    """Unlike pytest's, every user may enter it."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-user-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.requires("netns", "curl")
def test_root_binds_and_a_user_serves() -> None:
    """A port below 1024 is bound; all processes are the user's, in no group of root's, without a capability and without a way
    to get one; with a file system that is read-only but for its own directory, calls are answered and a reload is taken."""
    with Namespace() as where, public_directory() as directory:
        standin = StandIn(key=REAL_KEY)
        where.run(standin.start)
        settings = {
            "listen": {"base_url": "127.0.0.1:80", "proxy": "off", "admin": "127.0.0.1:81"},
            "process": {"user": str(UID)},
        }
        config = write_config(directory, standin, settings)
        config.chmod(0o644)
        gateway = GatewayProcess(
            config, prefix=(*where.enter, *readable_python(), *read_only(directory))
        )
        with gateway:
            assert gateway.pid is not None
            family = [gateway.pid, *(one.pid for one in psutil.Process(gateway.pid).children(True))]
            assert len(family) > 2
            for pid in family:
                found = status(pid)
                assert found["Uid"] == found["Gid"] == [str(UID)] * 4
                assert found["Groups"] == [str(UID)]
                assert {found[name][0] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {
                    "0000000000000000"
                }
                assert found["NoNewPrivs"] == ["1"]
            assert (directory / "state").stat().st_uid == UID
            gateway.tollhouse("key", "set", "openai", stdin=REAL_KEY)
            gateway.make_project("proj_123", "10 usd/day")
            token = gateway.make_token("proj_123")
            config.write_text(config.read_text() + "\n")
            gateway.tollhouse("reload")
            asked = where.do(
                *("curl", "-sS", "-m", "20", "-H", f"authorization: Bearer {token}"),
                "http://127.0.0.1/openai/v1/models",
            )
            assert '"data"' in asked
            state = directory / "state"
            assert [file.name for file in state.iterdir() if file.stat().st_uid != UID] == []
        standin.stop()


def test_who_cannot_become_the_user_does_not_start(tmp_path: Path) -> None:
    """Another user than root is no other; a user that does not exist, a group without a user: each says what to do."""
    config = load_config(write_config(tmp_path, None))
    assert wanted(config.process) is False
    for process, said in (
        (ProcessConfig(user="no-such-user-here"), "does not exist"),
        (ProcessConfig(group="nogroup"), "without a user"),
    ):
        with pytest.raises(CannotBecome, match=said):
            wanted(process)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_another_user_is_refused(tmp_path: Path) -> None:
    """Not root, and not the user that the file names: nothing is bound."""
    script = (
        "import os; from tollhouse.config.surroundings import ProcessConfig as P;"
        "from tollhouse.workers.privileges import CannotBecome, become, wanted;"
        f"from pathlib import Path; become(P(user='{UID}'), Path('/'));"
        f"assert not wanted(P(user='{UID}'))\n"
        "try: wanted(P(user='64004'))\n"
        "except CannotBecome as error: print(error)\n"
        "try: os.setuid(0)\n"
        "except PermissionError: print('for good')\n"
    )
    done = subprocess.run(
        [*readable_python(), sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "who can't become another" in done.stdout
    assert done.stdout.endswith("for good\n"), done.stderr
