"""`traceparent` as W3C has it."""

from __future__ import annotations

import pytest

from tollhouse.telemetry.trace_parent import TraceParent, trace_parent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f" 00-{TRACE}-{SPAN}-00 ", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_parent(header: str, sampled: bool) -> None:
    """Only the lowest flag says that the call is sampled; a later version may say more."""
    assert trace_parent(header) == TraceParent(int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-0\N{FULLWIDTH DIGIT ONE}",
    ],
)
def test_what_is_no_parent(header: str) -> None:
    """Zeros, another form, and the version that is none."""
    assert trace_parent(header) is None
