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
from bench import slow_calls, timeline
from bench.peers.__main__ import PEERS
from bench.peers.race import CALLS, Raced
from bench.peers.table import COLUMNS, Row, as_markdown

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
}
LEAST_MS = {"cold_near_ms": 40, "cold_first_ms": 120, "cold_far_ms": 120}
"""What the relay's delays alone take: of all ways, the way of fewest round trips."""

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="the bench measures with a redis-server on PATH"
)


def bench(
    module: str, *words: str, path: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={"PATH": path or os.environ["PATH"], **more},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done


LONG = pytest.mark.skipif("CI" in os.environ, reason="it takes half a minute; run it without CI")


@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=LONG if part in ("streams", "workers") else ()) for part in PARTS],
)
def test_part(part: str) -> None:
    """It finds what the table of docs/figures.md shows, of all that it compares."""
    said = json.loads(bench("bench", "--tiny", "--json", "--only", part).stdout)
    figures: list[dict[str, Any]] = said["figures"]
    assert {one["key"]: set(one["found"]) for one in figures} == PARTS[part]

    for one in figures:
        if one["key"] in LEAST_MS:
            assert min(one["found"].values()) >= LEAST_MS[one["key"]]


@LONG
def test_timeline() -> None:
    """Each stretch of a call, the hooks' parts, and what slow calls waited for."""
    found = json.loads(bench("bench.timeline", "--tiny", "--json").stdout)
    assert min(found["calls"].values()) > 0
    assert (
        found["kept"].keys()
        == found["new"].keys()
        == {
            *timeline.ROWS,
            *timeline.BEHIND,
            "whole",
        }
    )
    assert found["inside"].keys() == timeline.INSIDE.keys()
    # The stretches of a call follow one another.
    assert all(row["p50"] > 0 for row in found["kept"].values())
    assert found["slow"]["did_ms"]["slow"].keys() == {*slow_calls.DID, "whole"}
    assert found["slow"]["did_ms"]["all"]["whole"] >= found["slow"]["did_ms"]["all"]["late"]


def test_what_slow_calls_waited_for() -> None:
    """Of a hundred calls the longest is the slow one. A stall counts that was during it, and none before the load."""
    calls = [slow_calls.Call(n, n + 0.5, 0, 0.1, 0, 0, 0) for n in range(99)]
    calls.append(slow_calls.Call(99, 101, 0.2, 0.1, 1.5, 0, 0))
    stalls = [(-5.0, -4.0), (10.1, 10.2), (100.0, 100.5)]
    found = slow_calls.judged(calls, stalls=stalls, collections=[(50.0, 50.1, 2)], own=[])
    assert found["stalls"] == 2
    assert found["longest_ms"] == 2000
    assert found["did_ms"]["slow"]["queued"] == 1500
    assert found["slow_during"]["a stall of the worker's loop"] == 1.0
    assert found["slow_during"]["a collection of the oldest generation"] == 0.0
    assert found["slow_beside_slow"] == 0


def test_soak_as_a_table() -> None:
    """Without ``--json`` it prints a table of Markdown, a row a figure."""
    said = bench("bench", "--tiny", "--only", "soak", "--soak", "20").stdout
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "memory after 2 calls",
        "memory after 20 calls",
    ]


def test_peers_without_a_download() -> None:
    """Tollhouse by base URL, and mitmdump. Of a hundred calls at once the money for ten pays ten at most."""
    keys = ("mitmdump", "tollhouse-base-url")
    found = json.loads(bench("bench.peers", "--tiny", "--json", "--only", ",".join(keys)).stdout)
    mitmdump, ours = found["rows"]
    assert [mitmdump["why"], ours["why"]] == ["", ""]
    assert set(ours["found"]) == set(COLUMNS)
    assert set(mitmdump["found"]) == {*COLUMNS} - {"redis_us"}
    assert [race["served"] for race in mitmdump["races"]] == [CALLS]
    (race,) = ours["races"]
    assert 0 < race["served"] <= race["paid"]
    assert race["refused"] == {"HTTP/1.1 402 Payment Required": CALLS - race["served"]}


def test_peer_that_is_not_to_be_had(tmp_path: Path) -> None:
    """It is a row that says why, and no figure."""
    (tmp_path / "redis-server").symlink_to(str(shutil.which("redis-server")))
    words = ("--tiny", "--json", "--only", "portkey")
    done = bench("bench.peers", *words, path=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    (row,) = json.loads(done.stdout)["rows"]
    assert row["why"] == "not installed: npm is not on PATH"
    assert row["found"] == {}
    assert row["races"] == []


def test_peers_as_a_table() -> None:
    """A ratio is the median of the rounds' own. A peer without figures says why below the table."""
    first, second, third = (dict.fromkeys(COLUMNS, value) for value in (100.0, 200.0, 400.0))
    raced = (Raced("", 10, {}),)
    ours = Row(PEERS["tollhouse-base-url"], (first, second, third), raced)
    theirs = Row(PEERS["tensorzero"], (third, third, third), raced)
    absent = Row(PEERS["portkey"], why="not installed: npm is not on PATH")
    said = as_markdown([ours, theirs, absent], {"p50": 1.0, "p99": 2.0}, "Redis")
    table = [line.split("|")[1:-1] for line in said.splitlines() if line.startswith("|")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}
    assert cells[ours.peer.name][1] == "200 us"
    assert cells[theirs.peer.name][1] == "400 us, 2.00x"
    assert cells[absent.peer.name][1:] == ["not measured", *[""] * len(COLUMNS)]
    assert f"**{absent.why}**" in said


def test_profile_without_py_spy(tmp_path: Path) -> None:
    """It says that there is none, and how one gets it."""
    (tmp_path / "redis-server").symlink_to(str(shutil.which("redis-server")))
    picture = tmp_path / "cpu.svg"
    words = ("--tiny", "--only", "none", "--profile", str(picture))
    done = bench("bench", *words, path=str(tmp_path))
    assert "py-spy is not on PATH" in done.stderr
    assert not picture.exists()
