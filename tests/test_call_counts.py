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
        sums.add(line(project=project, status=200, reason=""))
    assert sums.project_calls == {(name, "2xx", ""): count for name, count in named.items()}


def test_calls_by_all_that_is_bounded() -> None:
    """A model has its name from the call on that proved it; what has no provider has no model either."""
    sums = CallCounts()
    sums.add(line(status=402, reason="budget_exceeded", attempts=[], cost_usd="0"))
    sums.add(line(status=200, reason=""))
    sums.add(line(status=429, reason="rate_limited", attempts=[], cost_usd="0"))
    sums.add(line(provider="", status=401, reason="identity_missing"))
    assert sums.calls == {
        ("openai", OTHER, "4xx", "budget_exceeded"): 1,
        ("openai", "m", "2xx", ""): 1,
        ("openai", "m", "4xx", "rate_limited"): 1,
        ("", "", "4xx", "identity_missing"): 1,
    }


def test_what_did_not_leave_has_no_times() -> None:
    """A refusal is a line of its project, and says nothing of its provider."""
    sums = CallCounts(1)
    sums.add(line(attempts=[], cost_usd="0"))
    sums.add(line(provider=""))
    assert sums.project_calls.total() == 2
    assert not sums.duration
    assert not sums.tokens


def test_what_is_charged_later_has_no_times() -> None:
    """Its money and tokens count once, with the line that charges them."""
    sums = CallCounts()
    sums.add(line(charged_by="later", cost_usd="0", tokens={}))
    sums.add(line(reason="later", attempts=[], duration_ms=None, overhead_ms=None))
    assert sums.nano_usd == {("openai", OTHER): 0, ("openai", "m"): 2}
    assert sums.tokens == {("openai", "m", "input"): 3}
    assert sums.duration["openai"].buckets[-1][1] == 1


def test_what_the_provider_took() -> None:
    """Each answered attempt, by the provider to which it was made; one without an answer says nothing."""
    sums = CallCounts()
    attempts = [
        {"outcome": "upstream_timeout", "ms": 600_000.0},
        {"outcome": "503", "ms": 30.0},
        {"outcome": "200", "ms": 500.0, "provider": "azure"},
    ]
    sums.add(line(attempts=attempts))
    assert {name: found.sum for name, found in sums.response.items()} == {
        "openai": 0.03,
        "azure": 0.5,
    }


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
