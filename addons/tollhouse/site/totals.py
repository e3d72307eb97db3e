"""The metrics of several processes as those of one. Pure.

Counters add up, also with what processes that ended have counted. A gauge is a sum unless `LARGEST` or `LEAST` has its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Family = dict[str, Any]
"""``name``, ``type``, ``help`` and ``samples``: of each its name, labels and value. As JSON it goes from process to process."""
Families = list[Family]

LARGEST: Final = frozenset(
    {
        "tollhouse_build_info",
        "tollhouse_ready",
        # The spool is one file.
        "tollhouse_spooled_settles",
        "tollhouse_key_paths",
        "tollhouse_key_info",
        "tollhouse_key_state",
        "tollhouse_key_age_seconds",
        "tollhouse_keys",
        "tollhouse_keys_paused",
    }
)
LEAST: Final = frozenset(
    {
        "tollhouse_vault_login_ok",
        "tollhouse_vault_token_remaining_seconds",
        "tollhouse_key_last_error_age_seconds",
        "process_start_time_seconds",
        "process_max_fds",
    }
)


def merged(reports: Iterable[Families]) -> Families:
    """One report of all."""
    found: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for report in reports:
        for family in report:
            name = family["name"]
            found.setdefault(name, {**family, "samples": []})
            mine = values.setdefault(name, {})
            for sample, labels, value in family["samples"]:
                key = (sample, tuple(labels.items()))
                mine[key] = value if key not in mine else _joined(name, mine[key], value)
    for name, family in found.items():
        family["samples"] = [
            [sample, dict(labels), value] for (sample, labels), value in values[name].items()
        ]
    return list(found.values())


def _joined(name: str, left: float, right: float) -> float:
    if name in LARGEST:
        return max(left, right)
    if name in LEAST:
        return min(left, right)
    return left + right


def as_counters(report: Families) -> Families:
    """What stays of a process that has ended: nothing of it is so any more, and what it counted has happened."""
    return [family for family in report if family["type"] in ("counter", "histogram")]


def first_series(report: Families, most: int) -> Families:
    """``report`` without the series beyond ``most``."""
    found = []
    for family in report:
        samples = family["samples"][:most]
        most -= len(samples)
        found.append({**family, "samples": samples})
    return found


def gauge(name: str, what: str, samples: Sequence[tuple[Mapping[str, str], float]]) -> Family:
    return {
        "name": name,
        "type": "gauge",
        "help": what,
        "samples": [[name, dict(labels), value] for labels, value in samples],
    }
