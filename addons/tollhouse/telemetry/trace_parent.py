"""The trace context that a workload sends: W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# A later version may have more fields behind these four, and is read as version 00.
_FORM: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII
)
_SAMPLED: Final = 0x01


class TraceParent(NamedTuple):
    """The workload's span, which is the parent of the call's."""

    trace_id: int
    span_id: int
    sampled: bool


def trace_parent(header: str) -> TraceParent | None:
    """What ``traceparent`` says; None for one that is missing or malformed: the call begins a trace of its own then."""
    found = _FORM.fullmatch(header.strip())
    if found is None:
        return None
    version, trace, span, flags = found.groups()
    if version == "ff" or (version == "00" and len(found[0]) != 55):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
