"""What the ledger answers to a hold, to an extension and to a grant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tollhouse.call import Amount
from tollhouse.ledger.limits import SESSION, Unit, format_limit
from tollhouse.ledger.names import Scope
from tollhouse.ledger.report import PAIRS
from tollhouse.ledger.windows import bounds


@dataclass(frozen=True, slots=True)
class Held:
    """The hold was taken now or before."""

    ample: bool = field(default=False, compare=False)
    """It was taken now, and would have fitted into every limit eight times; of calls at the same time an eighth at most
    were under way. It makes no answer another one."""


@dataclass(frozen=True, slots=True)
class Short:
    """A hold that does not fit. Nothing was taken. Of the limits without room this is the one that
    takes longest to reset.

    ``left`` is in the limit's unit (nano-dollars for ``usd``). ``resets_at`` is seconds since the
    epoch by Redis's clock, and ``retry_after_s`` is seconds from now; both are None for ``total``,
    ``session`` and ``concurrent``. ``never_fits``: the call alone is more than the limit, so waiting does not
    help.
    """

    limit_text: str
    scope: Scope
    unit: Unit
    resets_at: float | None
    retry_after_s: float | None
    left: int
    never_fits: bool = False
    left_usd: int | None = None
    """The least that is left in the money limits without room, in nano-dollars. None if there is no
    such limit."""
    left_tokens: int | None = None
    others: bool = False
    """A limit in requests, or of calls at the same time, has no room either."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """The cost of the call is unknown, and ``scope`` has a limit in money. Nothing was taken."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class GrantedBefore:
    """The record of an earlier grant with the same id. Nothing was done now."""

    record: Mapping[str, str]


def short(reply: list[Any], scopes: Sequence[Scope], amount: Amount) -> Short:
    """The answer that ``reply`` of the script is: ``amount`` does not fit into ``scopes``."""
    now_s = reply[1] / 1000
    found: list[tuple[float, Short]] = []
    for i in range(3, len(reply), 4):
        index, pair, limit, left = reply[i : i + 4]
        unit, window = PAIRS[pair]
        if scopes[index].kind == "session" and window == "total":
            window = SESSION
        most = int(limit)
        wanted = {
            "usd": amount.nano_usd,
            "tokens": amount.tokens,
            "requests": amount.requests,
            "concurrent": 1,
        }[unit]
        end = bounds(window, now_s)[1] if window and window != SESSION else None
        one = Short(
            format_limit(unit, most, window),
            scopes[index],
            unit,
            end,
            None if end is None else end - now_s,
            int(left),
            wanted > most,
        )
        # Concurrency has room again when any call ends. A total never has.
        found.append((now_s if unit == "concurrent" else end or float("inf"), one))
    worst = max(found, key=lambda pair: pair[0])[1]
    left = {
        unit: min((s.left for _, s in found if s.unit == unit), default=None)
        for unit in ("usd", "tokens")
    }
    others = any(s.unit not in left for _, s in found)
    return replace(worst, left_usd=left["usd"], left_tokens=left["tokens"], others=others)
