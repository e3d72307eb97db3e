"""Whatever fails, each call that the provider served is charged once, and nothing is held in the end."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.faults_run import run
from tests.support.requires import require


def test_a_run_with_every_fault(tmp_path: Path) -> None:
    """2,000 calls; `faults_run` itself makes 20,000. If it takes too long, it says where it stands, and fails."""
    require("redis", "openbao")
    sums = run(tmp_path, 2_000, limit_s=600)
    assert sums.wrong == [], sums
    assert sums.calls == 2_000
    assert len(sums.faults) == 9
    assert sums.outcomes["200"] > 1_000, sums
