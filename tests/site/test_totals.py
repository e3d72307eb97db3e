"""The metrics of several processes as those of one."""

from __future__ import annotations

from typing import Any

from tollhouse.site.totals import as_counters, first_series, gauge, merged


def counter(value: float, **labels: str) -> dict[str, Any]:
    samples = [["tollhouse_calls_total", labels, value]]
    return {"name": "tollhouse_calls", "type": "counter", "help": "Lines.", "samples": samples}


def test_what_adds_up_and_what_does_not() -> None:
    """Counters and most gauges add up by their labels; the rest is the largest or the least."""
    one = [
        counter(2, status="2xx"),
        gauge("tollhouse_holds", "", [({}, 3)]),
        gauge("tollhouse_spooled_settles", "", [({}, 5)]),
        gauge("tollhouse_vault_login_ok", "", [({}, 1)]),
    ]
    other = [
        counter(4, status="4xx"),
        counter(1, status="2xx"),
        gauge("tollhouse_holds", "", [({}, 4)]),
        gauge("tollhouse_spooled_settles", "", [({}, 4)]),
        gauge("tollhouse_vault_login_ok", "", [({}, 0)]),
    ]
    found = {family["name"]: family["samples"] for family in merged([one, other])}
    assert found == {
        "tollhouse_calls": [
            ["tollhouse_calls_total", {"status": "2xx"}, 3],
            ["tollhouse_calls_total", {"status": "4xx"}, 4],
        ],
        "tollhouse_holds": [["tollhouse_holds", {}, 7]],
        "tollhouse_spooled_settles": [["tollhouse_spooled_settles", {}, 5]],
        "tollhouse_vault_login_ok": [["tollhouse_vault_login_ok", {}, 0]],
    }


def test_what_stays_of_a_process_that_has_ended() -> None:
    """What it has counted, and not what it was."""
    report = [counter(2), gauge("tollhouse_holds", "", [({}, 3)])]
    assert as_counters(report) == [counter(2)]


def test_the_given_reports_stay_as_they_are() -> None:
    report = [counter(2)]
    merged([report, report])
    assert report == [counter(2)]


def test_what_stays_is_bounded() -> None:
    """The series that were there first stay."""
    report = [counter(1, status="2xx"), counter(2, status="4xx"), counter(3, status="5xx")]
    kept = first_series(report, 2)
    assert [family["samples"] for family in kept] == [
        report[0]["samples"],
        report[1]["samples"],
        [],
    ]
