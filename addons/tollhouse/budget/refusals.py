"""The refusals of calls that do not fit their budget."""

from __future__ import annotations

import math
from typing import Final, Protocol

from tollhouse.call import Amount, Requested
from tollhouse.denial import Denial
from tollhouse.families.units import TOKEN_PARTS
from tollhouse.ledger.hold_reply import Short
from tollhouse.ledger.limits import format_usd
from tollhouse.parties import Project
from tollhouse.timestamps import rfc3339

_LONGEST_RETRY_AFTER_S: Final = 5.0
"""Anthropic's SDK and several coding agents sleep for as long as they are told, in silence. A longer
wait is named in ``x-tollhouse-resets-at`` only."""


class Notices(Protocol):
    """Hears of calls that an operator can do something about. It raises nothing, and waits for nothing."""

    def short(self, short: Short, project: Project) -> None:
        """A limit had no room for a call."""

    def unpriced(self, requested: Requested) -> None:
        """What a call may cost is unknown, whether it is refused or not."""


def unpriced(requested: Requested) -> Denial:
    model, provider = requested.asked.model, requested.admitted.provider
    why = f"The model is {model[:80]!a} of {provider.name}."
    if asks := ", ".join(name for name in TOKEN_PARTS if name in requested.estimate.asks):
        why += f" The request asks for {asks}, which must have a price of its own."
    return Denial("model_unpriced", why)


def refusal(
    short: Short,
    project: Project,
    wanted: Amount,
    output: int,
    *,
    least: int | None = None,
    session: str = "",
    fixed: bool = False,
) -> Denial:
    """``wanted`` is the amount that did not fit. ``output`` is the number of output tokens in it.
    ``least`` is what the call takes with the shortest possible answer, in the unit of ``short``;
    None if it was not worked out. ``session`` is the id of the call's session. ``fixed``: nothing
    in the request changes what is held."""
    code = {"usd": "budget_exceeded", "concurrent": "concurrency_limited"}.get(
        short.unit, "rate_limited"
    )
    needs = {
        "usd": f"this call may cost up to {format_usd(wanted.nano_usd)} USD",
        "tokens": f"this call may use up to {wanted.tokens} tokens",
        "requests": "this call is one request",
        "concurrent": "this call would be one more",
    }[short.unit]
    # Other projects share a tenant's limit, so a caller is not told how large it is.
    which = "A limit" if short.scope.kind == "tenant" else f"The limit {short.limit_text}"
    whose = f"session {session}" if short.scope.kind == "session" else str(short.scope)
    why = f"{which} of {whose} has not enough left; {needs}."
    if _too_many_sessions(short):
        most = short.limit_text.partition(" ")[0]
        why = f"As many sessions as may begin in a day ({most}) have begun in project {project.id}."
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
    return Denial(
        code, why, tuple(headers), todo_override=_todo(short, project, output, least, fixed)
    )


def _too_many_sessions(short: Short) -> bool:
    """The limit that has no room is that of records of sessions which a project may begin in a day
    (ledger/scripts/hold.lua). The limits of a session itself never reset."""
    return short.scope.kind == "session" and short.resets_at is not None


def _todo(short: Short, project: Project, output: int, least: int | None, fixed: bool) -> str:
    """What helps against this limit, and nothing else. Empty: the words of the table (`denial`)
    hold."""
    if short.unit == "concurrent":
        return "Ask for a higher limit." if short.never_fits else ""
    if _too_many_sessions(short):
        tomorrow = rfc3339(short.resets_at or 0.0)
        return f"Go on in a session that has begun, or begin one on the next day, at {tomorrow}."
    before, ways = "", []
    if short.unit in ("usd", "tokens") and not fixed:
        if short.scope.kind == "tenant":
            # To say whether the input fits would tell what is left of other projects' money as
            # well. With "clamp" the refusal itself says so: no lower cap did fit.
            no_cap = not output or project.on_shortfall == "clamp"
        else:
            no_cap = least is not None and least > short.left
            if no_cap:
                verb = "costs" if short.unit == "usd" else "takes"
                before = f"The input alone {verb} what is left or more, so that no lower output cap helps. "
        ways.append(
            "send a shorter input" if no_cap else "lower the output cap (max_completion_tokens)"
        )
    if short.resets_at is not None and not short.never_fits:
        ways.append(f"send it again when the limit resets, at {rfc3339(short.resets_at)}")
    if short.scope.kind == "session":
        if not short.never_fits:
            ways.append("begin a new session, whose limit begins anew")
        ways.append("ask for a higher limit")
    else:
        ways.append("ask for a higher limit or a grant")
    if short.limit_text.endswith("/total"):
        before += (
            "This limit never resets: once it is used up, only a higher limit or a grant helps. "
        )
    text = ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])}, or {ways[-1]}"
    return f"{before}{text[0].upper()}{text[1:]}."
