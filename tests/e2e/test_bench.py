"""Each part of the bench runs, with a few calls: its figures say nothing here, but they are all there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BOTH = {"mitmdump", "tollhouse"}
PARTS = {
    "cpu": {"request_us": BOTH, "chunk_us": BOTH, "connection_us": BOTH},
    "streams": {
        "idle_mb": BOTH,
        "idle_whole_mb": BOTH,
        "open_12_mb": BOTH,
        "open_12_chunk_us": BOTH,
    },
    "latency": {
        "rate_p50": {"direct"},
        "rate_p99": {"direct"},
        "rate_added_p50": BOTH,
        "rate_added_p99": BOTH,
        "saturation": BOTH,
        "half_added_p50": BOTH,
        "half_added_p99": BOTH,
    },
    "cold": {f"cold_{case}_ms": {"direct", *BOTH} for case in ("near", "first", "far")},
    "workers": {
        f"two_workers_{name}": {"tollhouse"} for name in ("rate", "cpu_us", "carry", "uneven")
    },
    "soak": {"soak_begin_mb": {"tollhouse"}, "soak_end_mb": {"tollhouse"}},
}

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="the bench measures with a redis-server on PATH"
)


def bench(module: str, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={"PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("part", PARTS)
def test_part(part: str) -> None:
    """It finds what README's table shows, of all that it compares."""
    said = json.loads(bench("bench", "--tiny", "--json", "--only", part).stdout)
    figures: list[dict[str, Any]] = said["figures"]
    assert {one["key"]: set(one["found"]) for one in figures} == PARTS[part]


def test_table() -> None:
    """Without ``--json`` it prints a table of Markdown, a row a figure."""
    said = bench("bench", "--tiny", "--only", "soak", "--soak", "20").stdout
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "memory after 2 calls",
        "memory after 20 calls",
    ]


def test_profile_without_py_spy(tmp_path: Path) -> None:
    """It says that there is none, and how one gets it."""
    (tmp_path / "redis-server").symlink_to(str(shutil.which("redis-server")))
    picture = tmp_path / "cpu.svg"
    words = ("--tiny", "--only", "none", "--profile", str(picture))
    done = bench("bench", *words, path=str(tmp_path))
    assert "py-spy is not on PATH" in done.stderr
    assert not picture.exists()
