"""What a refusal tells a person to do: what helps, and nothing that does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.calls import requested

from tollhouse.budget.refusals import refusal, unpriced
from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import Short
from tollhouse.ledger.ledger import Scope
from tollhouse.parties import Project

RESETS_AT = 1_800_000_000.0
AT = "2027-01-15T08:00:00Z"
CAP = "ower the output cap (max_completion_tokens)"


def short(limit: str, kind: Any = "project", *, left: int = 100, **more: Any) -> Short:
    unit: Any = limit.split()[1].partition("/")[0]
    endless = unit == "concurrent" or limit.endswith(("/total", "/session"))
    resets_at, wait = (None, None) if endless else (RESETS_AT, 3600.0)
    return Short(limit, Scope(kind, "acme", "it"), unit, resets_at, wait, left, **more)


def message(
    limit: Short, *, least: int | None = None, output_cap: int = 50, clamp: bool = False
) -> str:
    project = Project("proj_1", "acme", on_shortfall="clamp" if clamp else "reject")
    return refusal(limit, project, Amount(200, 200, 1), output_cap, least=least).message


@pytest.mark.parametrize("limit", ["1 usd/day", "1000 tokens/day"])
def test_a_lower_cap_and_the_reset_are_both_named(limit: str) -> None:
    """With the time of it, in UTC."""
    told = message(short(limit), least=100)
    assert told.endswith(
        f" L{CAP}, send it again when the limit resets, at {AT}, or ask for a higher limit or a grant."
    )


def test_a_total_never_resets() -> None:
    """Nobody is told to wait for it."""
    told = message(short("1 usd/total"), least=100)
    assert (
        "This limit never resets: once it is used up, only a higher limit or a grant helps." in told
    )
    assert "again" not in told
    assert "again" not in message(short("5 requests/total"))


def test_a_session_that_is_used_up_is_named() -> None:
    """A new one has the whole limit again. Neither a time nor a grant is of any help."""
    told = refusal(
        short("2 usd/session", "session", left=0),
        Project("proj_1", "acme"),
        Amount(200, 200, 1),
        50,
        least=100,
        session="019a-1",
    )
    assert told.code == "budget_exceeded"
    assert told.headers == ()
    assert told.why == (
        "The limit 2 usd/session of session 019a-1 has not enough left; "
        "this call may cost up to 0.0000002 USD."
    )
    assert told.message.endswith(
        "The input alone costs what is left or more, so that no lower output cap helps. Send a shorter input, "
        "begin a new session, whose limit begins anew, or ask for a higher limit."
    )
    assert "grant" not in told.message


def test_a_new_session_does_not_help_where_the_call_is_beyond_the_limit() -> None:
    """It has the same limit."""
    told = message(short("2 usd/session", "session", never_fits=True), least=50)
    assert told.endswith(f" L{CAP}, or ask for a higher limit.")


@pytest.mark.parametrize("unit", ["tokens", "requests"])
def test_a_limit_of_a_session_in_tokens_or_requests(unit: str) -> None:
    """429, and no client is told to wait."""
    told = refusal(
        short(f"9 {unit}/session", "session"),
        Project("proj_1", "acme"),
        Amount(200, 200, 1),
        50,
        session="s-1",
    )
    assert (told.code, told.headers) == ("rate_limited", (("x-should-retry", "false"),))
    assert f"The limit 9 {unit}/session of session s-1 has not enough left" in told.why


def test_as_many_sessions_as_may_begin_in_a_day() -> None:
    """What is short is the ledger's own bound, by which a project's sessions are counted."""
    told = message(short("10000 requests/day", "session", others=True))
    assert (
        "As many sessions as may begin in a day (10000) have begun in project proj_1. "
        f"Go on in a session that has begun, or begin one on the next day, at {AT}." in told
    )


def test_a_call_beyond_the_whole_limit_is_not_told_to_wait() -> None:
    """The limit is as small after its reset."""
    assert AT not in message(short("1 usd/day", never_fits=True))
    assert message(short("0 concurrent", never_fits=True)).endswith("Ask for a higher limit.")


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(("limit", "verb"), [("1 usd/day", "costs"), ("1000 tokens/day", "takes")])
def test_an_input_that_does_not_fit_is_not_told_to_lower_its_cap(
    limit: str, verb: str, clamp: bool
) -> None:
    """It is told so, of a limit of its own."""
    told = message(short(limit), least=101, clamp=clamp)
    assert (
        f"The input alone {verb} what is left or more, so that no lower output cap helps. Send a shorter"
        in told
    )
    assert CAP not in told


@pytest.mark.parametrize("clamp", [False, True])
def test_a_tenants_balance_is_not_told(clamp: bool) -> None:
    """The words are the same whatever is left of it, and name no amount of it."""
    told = {
        message(short("7 usd/day", "tenant", left=left), least=101, clamp=clamp)
        for left in (0, 100, 101, 199)
    }
    assert len(told) == 1
    [text] = told
    assert "what is left" not in text
    assert "7 usd" not in text
    assert (CAP in text) is not clamp


def test_the_scope_is_the_limits_own() -> None:
    """A token's limit is not called the project's."""
    told = message(short("1 requests/hour", "token"))
    assert "limit 1 requests/hour of token it" in told
    assert "project" not in told
    assert CAP not in told
    assert "project" not in message(short("1 concurrent", "token"))


def test_what_has_no_price_is_named() -> None:
    """A model may have a price for text and none for sound: the sentence says which one is missing."""
    plain = requested()
    heard = plain._replace(
        estimate=plain.estimate._replace(asks=frozenset({"output_audio", "input_audio"}))
    )
    assert unpriced(plain).why == "The model is 'gpt-4o' of openai."
    assert unpriced(heard).why == (
        "The model is 'gpt-4o' of openai. The request asks for input_audio, output_audio, which must have a price of its own."
    )
