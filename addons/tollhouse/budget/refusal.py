"""What a call is told that its budget does not let through."""

from __future__ import annotations

import math
from typing import Final

from tollhouse.budget.ledger import Short
from tollhouse.budget.limits import format_usd
from tollhouse.call import Call
from tollhouse.denial import Denial

_LONGEST_RETRY_AFTER_S: Final = 60.0
"""Anthropic's SDK sleeps for as long as it is told, so a longer wait is named in ``x-tollhouse-resets-at`` only."""


def unpriced(call: Call) -> Denial:
    assert call.provider is not None
    return Denial("model_unpriced", f"The model is {call.model[:80]!a} of {call.provider.name}.")


def refusal(short: Short, call: Call) -> Denial:
    assert call.project is not None
    code = {"usd": "budget_exceeded", "concurrent": "concurrency_limited"}.get(short.unit, "rate_limited")
    needs = {
        "usd": f"this call may cost up to {format_usd(call.estimate.nano_usd)} USD",
        "tokens": f"this call may use up to {call.estimate.tokens} tokens",
        "requests": "this call is one request",
        "concurrent": "this call would be one more",
    }[short.unit]
    # A tenant's limit is shared with projects that are not the caller's: its size is not told.
    which = "A limit" if short.scope.kind == "tenant" else f"The limit {short.limit_text}"
    why = f"{which} of {short.scope.kind} {short.scope.id} has not enough left; {needs}."
    headers: list[tuple[str, str]] = []
    if short.never_fits:
        headers.append(("x-should-retry", "false"))
    elif short.resets_at is not None:
        headers.append(("x-tollhouse-resets-at", f"{short.resets_at:.0f}"))
    if code == "rate_limited" and not short.never_fits:
        if short.retry_after_s is not None and short.retry_after_s <= _LONGEST_RETRY_AFTER_S:
            headers.append(("retry-after", f"{max(1, math.ceil(short.retry_after_s))}"))
        else:
            headers.append(("x-should-retry", "false"))
    return Denial(code, why, tuple(headers))
