"""Inputs that are made from real ones: cut, doubled, flipped, spliced, nested, with very long members
and with values of another type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from hypothesis import strategies as st

LONG: Final = b'"' + b"a" * 70_000 + b'"'
"""Longer than what is kept of a member or of a whole small answer."""
VERY_LONG: Final = b'"' + b"b" * 1_100_000 + b'"'
"""Longer than an event or a frame that is read."""
_VALUES: Final = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"-0.0", b"1e999", b"NaN", b"-Infinity"),
    *(b"9" * 400, b"1" * 5_000, b"18446744073709551616", b'"7"', b'""', b"[]", b"{}", b"[null]"),
    *(b'{"a":[]}', b'[{"type":[]}]', b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xe6\xb8\xa1"'),
    *(b"[" * 300 + b"]" * 300, b'{"a":' * 150 + b"1" + b"}" * 150, b"[" * 100_000, LONG),
)
"""Each can stand where a member's value stands."""
_BYTES: Final = (
    *(b"\n", b"\n\n", b"\r", b"\r\n\r\n", b"data: ", b"event: error\n", b"data", b": x\n", b","),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b"\xef\xbb\xbf", b"\x00", b"[DONE]", b"--", VERY_LONG),
    *(b'"usage":', b'"model":', b'"usage":null,', b'"error":{"code":[]},', b'{"usage":{}}'),
)
_VALUE: Final = re.compile(
    rb'(?<=[:\[,])[ ]*(?:"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|\{[^{}\[\]]*\}|\[\])'
)
_KINDS: Final = ("value", "value", "insert", "cut", "double", "flip", "splice", "nest", "end")


class Step(NamedTuple):
    """``at`` and ``to`` are places, by the rest of a division. ``word`` is what is put in."""

    kind: str
    at: int
    to: int
    value: bytes
    word: bytes


_PLACE: Final = st.integers(0, 9_999)
_STEPS: Final = st.lists(
    st.builds(
        Step,
        st.sampled_from(_KINDS),
        _PLACE,
        _PLACE,
        st.sampled_from(_VALUES),
        st.sampled_from(_BYTES) | st.binary(max_size=12),
    ),
    max_size=4,
)


def mutated(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs made from one of ``seeds`` in a few steps."""
    several = st.sampled_from(list(dict.fromkeys(seeds)))
    return st.builds(_changed, several, several, _STEPS)


def _changed(seed: bytes, other: bytes, steps: Sequence[Step]) -> bytes:
    for step in steps:
        seed = _step(seed, other, step)
    return seed


def _step(data: bytes, other: bytes, step: Step) -> bytes:
    low, high = sorted((step.at % (len(data) + 1), step.to % (len(data) + 1)))
    before, inside, after = data[:low], data[low:high], data[high:]
    match step.kind:
        case "value":
            return _with_value(data, step)
        case "insert":
            return before + step.word + inside + after
        case "cut":
            return before + after
        case "double":
            return before + inside * 2 + after
        case "flip":
            flipped = bytes((inside[0] ^ (1 << step.to % 8),)) if inside else b""
            return before + flipped + inside[1:] + after
        case "splice":
            return before + other[step.to % (len(other) + 1) :]
        case "nest":
            deep = (step.to % 120) + 1
            return before + b'{"a":' * deep + inside + b"}" * deep + after
        case _:
            return before


def _with_value(data: bytes, step: Step) -> bytes:
    places = [found.span() for found in _VALUE.finditer(data)]
    if not places:
        return data
    start, end = places[step.at % len(places)]
    return data[:start] + step.value + data[end:]
