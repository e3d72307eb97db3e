"""Limits as people write them: ``10 usd/day``, ``200000 tokens/minute``, ``60 requests/minute``, ``8 concurrent``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from tollhouse.ledger.windows import WINDOWS

Unit = Literal["usd", "tokens", "requests", "concurrent"]
Window = Literal["minute", "hour", "day", "week", "month", "total", "session", ""]
SESSION: Final = "session"
"""The window of a limit that each session of an agent has for itself. It begins with the session's
first call and has no edge in the calendar."""

MAX_AMOUNT: Final = 2**53 - 1
"""The largest limit and the largest single amount. The ledger adds in Redis's Lua, whose numbers are doubles: integers
are exact up to 2^53, so a sum that passes a limit of this size still compares as larger. It is 9,007,199 USD in
nano-dollars.

Settles may carry a counter beyond it, for they may pass a limit. Nothing fits into that window any more, and each step rounds the
counter by one part in 2^53 at most (a nano-dollar in nine million dollars). The sums by day are 64-bit integers and exact; one
that would pass 2^63 (nine thousand million dollars of one project on one day) stays where it is."""

NANO: Final = 10**9
_UNITS: Final[dict[str, Unit]] = {
    "usd": "usd",
    "token": "tokens",
    "tokens": "tokens",
    "request": "requests",
    "requests": "requests",
    "concurrent": "concurrent",
}
_FORM: Final = re.compile(r"(?P<amount>\S+)\s+(?P<unit>[^\s/]+)(?:\s*/\s*(?P<window>\S+))?")
_AMOUNT: Final = re.compile(r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?", re.ASCII)
_EXAMPLES: Final = (
    'write it like "10 usd/day", "200000 tokens/minute", "60 requests/minute" or "8 concurrent"'
)


_SESSION_UNITS: Final = ("usd", "tokens", "requests")


class LimitError(ValueError):
    """A limit that can't be read; the text says what it is, why not, and how to write it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``amount`` is in nano-dollars for ``usd``, else a count. ``window`` is empty for ``concurrent`` only."""

    unit: Unit
    amount: int
    window: Window
    text: str


def parse_limit(text: str) -> Limit:
    """Reads one limit; ``text`` of the result is its canonical form. Raises `LimitError`."""
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise LimitError(
            f"{text!r} is not a limit: it needs an amount, a unit and a window; {_EXAMPLES}"
        )
    unit = _UNITS.get(found["unit"].lower())
    if unit is None:
        raise LimitError(
            f"{text!r} is not a limit: the unit {found['unit']!r} is unknown; {_EXAMPLES}"
        )
    window = _window(text, unit, found["window"])
    amount = _amount(text, unit, found["amount"])
    return Limit(unit, amount, window, format_limit(unit, amount, window))


def parse_limits(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Reads a list of limits. Raises `LimitError`, also when two are of the same unit and window."""
    limits: dict[tuple[str, str], Limit] = {}
    for text in texts:
        limit = parse_limit(text)
        other = limits.setdefault((limit.unit, limit.window), limit)
        if other is not limit:
            raise LimitError(f"{text!r} and {other.text!r} limit the same thing: keep one of them")
    return tuple(limits.values())


def refuse_sessions(limits: Iterable[Limit]) -> None:
    """Raises `LimitError` if one is by session: a tenant has none."""
    for limit in limits:
        if limit.window == SESSION:
            raise LimitError(
                f"{limit.text!r} can't be a limit of a tenant: give it to a project or a token"
            )


@lru_cache(maxsize=1024)
def session_record(texts: tuple[str, ...]) -> str:
    """What the ledger writes into the record of each session of a project or token with the limits
    ``texts``. Empty: none of them is by session. All units are counted, also without a limit, so
    that a limit that is set later holds for a session that has begun. Raises `LimitError`."""
    limits = {limit.unit: limit for limit in parse_limits(texts) if limit.window == SESSION}
    if not limits:
        return ""
    amounts = {unit: str(limit.amount) for unit, limit in limits.items()}
    return ";".join(f"{unit} total {amounts.get(unit, '-')}" for unit in _SESSION_UNITS)


def parse_amount(text: str) -> tuple[Unit, int]:
    """Reads an amount that is added once: ``5 usd``, ``200000 tokens``, ``100 requests``; nano-dollars for ``usd``. Raises
    `LimitError`."""
    example = 'write it like "5 usd", "200000 tokens" or "100 requests"'
    number, _, word = text.strip().partition(" ")
    unit = _UNITS.get(word.strip().lower())
    if unit == "concurrent":
        raise LimitError(
            f"{text!r} can't be added: calls at the same time are not used up, so raise the limit itself"
        )
    if unit is None:
        raise LimitError(f"{text!r} is not an amount: it needs a number and a unit; {example}")
    amount = _amount(text, unit, number)
    if not amount:
        raise LimitError(f"{text!r} adds nothing; {example}")
    return unit, amount


def format_limit(unit: Unit, amount: int, window: Window) -> str:
    number = format_amount(unit, amount)
    return f"{number} {unit}/{window}" if window else f"{number} {unit}"


def format_amount(unit: Unit, amount: int) -> str:
    """``amount`` as a plain decimal in the limit's own unit: dollars for ``usd`` (which is given in nano-dollars)."""
    return format_usd(amount) if unit == "usd" else str(amount)


def format_usd(nano_usd: int) -> str:
    """Nano-dollars as dollars, exactly, without an exponent and without trailing zeros: ``12000000`` is ``0.012``."""
    whole, part = divmod(abs(nano_usd), NANO)
    text = f"{whole}.{part:09d}".rstrip("0").rstrip(".") if part else str(whole)
    return f"-{text}" if nano_usd < 0 else text


def _window(text: str, unit: Unit, word: str | None) -> Window:
    if unit == "concurrent":
        if word:
            raise LimitError(
                f"{text!r} is not a limit: calls at the same time have no window; {_EXAMPLES}"
            )
        return ""
    if not word:
        raise LimitError(
            f"{text!r} is not a limit: the window is missing; add one of /{', /'.join((*WINDOWS, SESSION))}"
        )
    if word.lower() == SESSION:
        return SESSION
    for window in WINDOWS:
        if word.lower() == window:
            return window
    known = ", ".join((*WINDOWS, SESSION))
    raise LimitError(f"{text!r} is not a limit: the window {word!r} is unknown; there are {known}")


def _amount(text: str, unit: Unit, number: str) -> int:
    if not _AMOUNT.fullmatch(number):
        raise LimitError(
            f"{text!r} is not a limit: {number!r} is not a plain number of zero or more; {_EXAMPLES}"
        )
    # Checked before Decimal's context could round: 28 digits are more than the largest amount has.
    if len(number) > 28:
        raise LimitError(f"{text!r} is not a limit: the number is too long; {_EXAMPLES}")
    value = Decimal(number.replace("_", ""))
    amount = value.scaleb(9) if unit == "usd" else value
    if amount != int(amount):
        least = "a nano-dollar (0.000000001 usd)" if unit == "usd" else "one"
        raise LimitError(f"{text!r} is not a limit: the smallest step of {unit} is {least}")
    if amount > MAX_AMOUNT:
        most = f"{format_usd(MAX_AMOUNT)} usd" if unit == "usd" else f"{MAX_AMOUNT} {unit}"
        raise LimitError(
            f"{text!r} is too large: the ledger counts in Redis's Lua, whose numbers are exact up to 2^53 only; "
            f"the most is {most}"
        )
    return int(amount)
