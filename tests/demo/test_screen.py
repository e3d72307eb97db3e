"""What the demo prints, on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest

from tollhouse.demo.screen import Screen, request_rows, wants_colour


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_on_a_terminal_only(
    stream: io.StringIO, environ: dict[str, str], colour: bool
) -> None:
    """A terminal gets colours unless its user or its kind forbids; a pipe never."""
    assert wants_colour(stream, environ) is colour


@pytest.mark.parametrize("colour", [True, False])
def test_claims(colour: bool) -> None:
    """A claim that does not hold is said and remembered with what was seen instead."""
    stream = io.StringIO()
    screen = Screen(stream, colour=colour, width=80)
    assert screen.claim("the sky is blue", True, "grey")
    assert not screen.claim("the moon is cheese", False, "rock")
    assert screen.failed == ["the moon is cheese (rock)"]
    assert "grey" not in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is colour


def test_columns_fit_and_mark_the_difference() -> None:
    """Every line fits the width, and the mark in front says how the two sides differ."""
    stream = io.StringIO()
    rows = [("same", "same"), ("gone " + "x" * 90, ""), ("", "new"), ("old", "changed")]
    Screen(stream, colour=False, width=80).columns("left", "right", rows)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line[0] for line in lines[2:] if line[0] != " "] == ["-", "+", "~"]


def test_rows_pair_headers_by_name() -> None:
    """Headers are paired whatever their case and order; equal telemetry of the SDK is only counted."""
    sent = [("Host", "a"), ("X-Secret", "s"), ("x-stainless-os", "Linux"), ("authorization", "one")]
    received = [
        ("authorization", "two"),
        ("host", "a"),
        ("X-Stainless-OS", "Linux"),
        ("accept-encoding", "identity"),
    ]
    assert request_rows(sent, received, str.upper) == [
        ("host: A", "host: A"),
        ("x-secret: S", ""),
        ("authorization: ONE", "authorization: TWO"),
        ("", "accept-encoding: IDENTITY"),
        ("(1 more of the SDK's own, unchanged)", "(1 more of the SDK's own, unchanged)"),
    ]
