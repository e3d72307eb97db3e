"""What calls came to: bounded, whatever a workload names."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.call_counts import MOST_MODELS, OTHER, CallCounts, Histogram
from tollhouse.site.totals import Families, as_counters, merged


def line(**fields: Any) -> dict[str, Any]:
    return {
        "project": "p",
        "provider": "openai",
        "model": "m",
        "attempts": [{"outcome": "ok"}],
        "tokens": {"input": 3},
        "cost_usd": "0.000000002",
        "charged_by": "usage",
        "duration_ms": 20.0,
        "overhead_ms": 1.0,
        "ttft_ms": None,
        "stream": False,
        **fields,
    }


def test_models_are_bounded() -> None:
    """A model is named once its provider counted a call; beyond so many, and before that, it is one of the others."""
    sums = CallCounts()
    sums.add(line(model="invented", cost_usd="0", tokens={}))
    for number, rule in enumerate(("disconnect", "hold", "estimate", "sweep") * MOST_MODELS):
        sums.add(line(model=f"invented{number}", charged_by=rule, cost_usd="0.1", tokens={}))
    sums.nano_usd.clear()
    for number in range(MOST_MODELS + 5):
        sums.add(line(model=f"m{number}"))
    assert len(sums.nano_usd) == MOST_MODELS + 1
    assert sums.nano_usd["openai", OTHER] == 5 * 2
    assert ("openai", "invented") not in sums.nano_usd
    assert sums.tokens["openai", OTHER, "input"] == 15


@pytest.mark.parametrize(
    ("most", "named"), [(0, {}), (1, {"a": 2, OTHER: 1}), (5, {"a": 2, "b": 1})]
)
def test_projects_are_named_as_the_operator_says(most: int, named: dict[str, int]) -> None:
    sums = CallCounts(most)
    for project in ("a", "b", "a"):
        sums.add(line(project=project))
    assert sums.project_calls == named


def test_what_did_not_leave_has_no_times() -> None:
    """A refusal is a line of its project, and says nothing of its provider."""
    sums = CallCounts(1)
    sums.add(line(attempts=[], cost_usd="0"))
    sums.add(line(provider=""))
    assert sums.project_calls == {"p": 2}
    assert not sums.duration
    assert not sums.tokens


def test_buckets() -> None:
    """Each bound counts what was not above it."""
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.1, 0.5, 7.0):
        histogram.add(seconds)
    assert histogram.buckets == [("0.1", 1), ("1", 2), ("+Inf", 3)]
    assert histogram.sum == pytest.approx(7.6)


def test_histograms_of_several_processes() -> None:
    """They add up, and those of a process that has ended stay."""
    one: Families = [
        {
            "name": "h",
            "type": "histogram",
            "help": "",
            "samples": [["h_bucket", {"le": "+Inf"}, 2.0]],
        }
    ]
    [both] = merged([one, as_counters(one)])
    assert both["samples"] == [["h_bucket", {"le": "+Inf"}, 4.0]]
