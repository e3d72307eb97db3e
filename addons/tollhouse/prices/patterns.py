"""Whether two patterns of model names have a name in common."""

from __future__ import annotations

import re
from typing import Final

from tollhouse.prices.rates import Match

_ONE: Final = object()
"""Any character. A set (``[ab]``) is taken for one."""
_MANY: Final = object()
"""Any characters, or none."""
_GLOB: Final = re.compile(r"\*+|\?|\[!?\]?[^]]*\]|.", re.DOTALL)
_LITERAL: Final = re.compile(r"\^((?:[a-z0-9@/:_-]|\\[./-])*)(?![*?+{|])")
"""The text with which every match of a regular expression begins."""
_SAME: Final = 3
"""Characters that two texts have in common and that are no chance."""


def meet(one: str, other: str) -> bool:
    """Whether any name fits both globs (``*``, ``?``, ``[ab]``). True as well where sets alone keep them apart."""
    return _meet(_parts(one), _parts(other))


def may_mean(match: Match, glob: str) -> bool:
    """Whether ``match`` may mean a name that ``glob`` fits, as far as names are known. Of a regular expression its beginning
    counts alone. A text that may stand anywhere in a name (``claude-v2`` in ``no-such-claude-v2``) counts for a glob whose own
    text it overlaps."""
    kind, what = match
    wanted = _parts(glob)
    if kind == "or":
        return any(may_mean(part, glob) for part in what)
    if kind == "and":
        return all(may_mean(part, glob) for part in what)
    if kind == "in":
        return any(_meet([*name], wanted) for name in what)
    if kind == "regex":
        begins = _LITERAL.match(what)
        return begins is None or _meet([*begins[1].replace("\\", ""), _MANY], wanted)
    if kind != "starts" and not _overlap(glob, what):
        return False
    before = [] if kind == "starts" else [_MANY]
    after = [] if kind == "ends" else [_MANY]
    return _meet([*before, *what, *after], wanted)


def _overlap(glob: str, text: str) -> bool:
    """The longest plain text of ``glob`` and ``text``: one is in the other, or ends as the other begins."""
    plain = max(re.split(r"[*?]|\[!?\]?[^]]*\]", glob), key=len)
    if plain in text or text in plain:
        return True
    sizes = range(_SAME, min(len(plain), len(text)))
    return any(plain.endswith(text[:size]) or text.endswith(plain[:size]) for size in sizes)


def _parts(glob: str) -> list[object]:
    return [
        _MANY if part[0] == "*" else _ONE if part == "?" or len(part) > 1 else part
        for part in _GLOB.findall(glob)
    ]


def _meet(one: list[object], other: list[object]) -> bool:
    """By the places of ``other`` that can be reached with each part of ``one``."""
    places = _onwards({0}, other)
    for part in one:
        if part is _MANY:
            places = set(range(min(places), len(other) + 1)) if places else places
            continue
        steps = set()
        for place in places:
            if place == len(other):
                continue
            theirs = other[place]
            if theirs is _MANY:
                steps.add(place)
            elif _ONE in (part, theirs) or part == theirs:
                steps.add(place + 1)
        places = _onwards(steps, other)
    return len(other) in places


def _onwards(places: set[int], parts: list[object]) -> set[int]:
    """``places``, and those behind a `_MANY` that stands for nothing."""
    found = set(places)
    for place in sorted(places):
        while place < len(parts) and parts[place] is _MANY:
            place += 1
            found.add(place)
    return found
