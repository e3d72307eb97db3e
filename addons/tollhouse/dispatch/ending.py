"""How a delivery ended, by what has come of its answer or of its session."""

from __future__ import annotations

from collections.abc import Sequence

from tollhouse.dispatch.answering import Answering
from tollhouse.dispatch.upstreamed import Upstreamed
from tollhouse.outcome import Attempt, End, Outcome


def end_of(
    answering: Answering | None,
    attempts: Sequence[Attempt],
    status: int,
    left: End | None,
    *,
    in_flight: bool,
) -> End:
    """``status`` is that of the last answer, and 0 if none came. ``left`` is as of `Delivery.outcome`, ``in_flight`` as of
    `Outcome`."""
    if answering is None:
        if in_flight:
            return left or End.UNKNOWN
        if status:
            return End.ERROR
        gone = any(attempt.answered or attempt.unknown for attempt in attempts)
        return End.UNKNOWN if gone else End.NEVER_LEFT
    if not 200 <= answering.status < 300:
        return End.ERROR
    if answering.error and not answering.wrote:
        return End.ERROR
    if answering.error and answering.streamed:
        return End.FAILED
    if answering.complete:
        return End.STREAMED if answering.streamed else End.WHOLE
    return End.CUT if answering.cut else left or End.CUT


def of_session(outcome: Outcome, left: End | None, upstreamed: Upstreamed, now: float) -> Outcome:
    """``outcome`` with what the session of a WebSocket has come to by ``now``."""
    ended = End.CUT if upstreamed.cut else left or End.STREAMED
    dialogue = upstreamed.dialogue
    outcome = outcome._replace(end=ended, session=True, streamed=True)
    if dialogue is None:
        return outcome
    return outcome._replace(
        metered=True,
        meter_failed=upstreamed.meter_failed,
        charges=dialogue.charges,
        unfinished=dialogue.unfinished(now),
        requests=dialogue.requests,
        created=dialogue.created,
        first_byte=upstreamed.first_message,
    )
