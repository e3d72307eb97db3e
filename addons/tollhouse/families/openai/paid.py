"""What an answer itself says that the account pays."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tollhouse.families.units import Units

_TICKS: Final = Decimal("0.1")
"""xAI's ``cost_in_usd_ticks`` in nano-dollars: https://docs.x.ai/docs/api-reference, 1e-10 USD."""
_NANO: Final = Decimal(10**9)
_MOST_USD: Final = 10**9


def paid_of(usage: object) -> int | None:
    """What the account pays by the answer's own word, in nano-dollars, rounded up; None if it does
    not say. It covers the tools that the provider ran.

    xAI says ``cost_in_usd_ticks``. OpenRouter says ``cost``, beside ``is_byok``, ``cost_details`` or
    the ``seconds`` of a transcription; with a key of one's own at the upstream provider that one's
    bill comes on top: https://openrouter.ai/docs/use-cases/usage-accounting. Perplexity says
    ``cost`` with a ``total_cost``: https://docs.perplexity.ai/api-reference/chat-completions-post.
    """
    if not isinstance(usage, dict):
        return None
    ticks = _amount(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return _up(ticks * _TICKS)
    cost = usage.get("cost")
    if isinstance(cost, dict):
        total = _amount(cost.get("total_cost"))
        return None if total is None else _up(total * _NANO)
    total = _amount(cost)
    details = usage.get("cost_details")
    known = "is_byok" in usage or "seconds" in usage or isinstance(details, dict)
    if total is None or not known:
        return None
    if usage.get("is_byok") is True:
        upstream = details.get("upstream_inference_cost") if isinstance(details, dict) else None
        beside = _amount(upstream)
        if beside is None:
            return None
        total += beside
    return _up(total * _NANO)


def paid_alone(usage: object) -> Units | None:
    """The units of a usage that says what is paid and has no count: one request. None if it says
    nothing, or 0: servers that do not count send zeros."""
    return Units(requests=1) if paid_of(usage) else None


def _amount(value: object) -> Decimal | None:
    """A number as it is written, if it can be an amount of money."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return amount if amount.is_finite() and 0 <= amount <= _MOST_USD * 10**10 else None


def _up(amount: Decimal) -> int:
    whole = int(amount)
    return whole + (amount > whole)
