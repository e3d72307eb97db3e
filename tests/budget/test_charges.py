"""What each way to end costs, in nano-dollars: truth tables.

100 tokens of input cost 100,000 nano-dollars, and each token of output 10,000. 50 tokens of output are held, without a cap.
"""

from __future__ import annotations

import itertools
from copy import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.budget.priced import FREE, HELD, PRICES, a_call
from tests.support.calls import pending
from tests.support.values import replace

from tollhouse.budget.charges import Charged, Charges, starts_job
from tollhouse.budget.hold import CallHold
from tollhouse.call import Amount, ChargedBy, Requested
from tollhouse.families.operation import Operation
from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.ledger.limits import MAX_AMOUNT
from tollhouse.outcome import Attempt, End, LateUsage, Outcome
from tollhouse.parties import Project
from tollhouse.prices.rates import PricedModel, PricedProvider, Rates
from tollhouse.prices.source import read
from tollhouse.prices.table import PriceTable

CHARGES = Charges(PRICES)
WORST = Project("proj_1", "acme", ("10 usd/day",), estimate="worst")
TYPICAL = replace(WORST, estimate="typical")


def hold_of(requested: Requested, charges: Charges = CHARGES, *, times: int = 1) -> CallHold:
    """What the purse holds of it; at worst it may have been extended by as much again for each repeat."""
    first, priced = charges.amount(requested, requested.estimate)
    hold = CallHold(requested, requested.estimate, first)
    hold.priced = priced
    hold.amount = Amount(first.nano_usd * times, first.tokens * times, 1)
    return hold


def charged(
    outcome: Outcome,
    *,
    project: Project = TYPICAL,
    capped: bool = False,
    times: int = 1,
    choices: int = 1,
    reasons: bool = True,
) -> Charged | None:
    call = a_call(
        project=project, capped=capped, stream=outcome.streamed, choices=choices, reasons=reasons
    )
    return CHARGES.charge(hold_of(call, times=times), outcome)


def bill(into: int, out: int, model: str = "") -> tuple[Charge, ...]:
    return (Charge(model, Units(input=into, output=out, requests=1)),)


# How it ended, what was counted and what was seen.

COUNTED = {"nothing": (), "7 out": bill(90, 7), "1000 out": bill(1_000, 1_000)}
Row = tuple[int, int, ChargedBy] | None
HOLD = (600_000, 150, "hold")
NOTHING = (0, 0, "none")
# fmt: off
ENDINGS: dict[tuple[End, bool], dict[tuple[str, int], Row | tuple[Row, Row]]] = {
    # end, streamed: {counted, seen: typical and worst, or both (nano-dollars, tokens, rule)}
    (End.NEVER_LEFT, False): {("nothing", 0): None},
    (End.UNKNOWN, False):    {("nothing", 0): NOTHING},
    (End.ERROR, False):      {("nothing", 0): NOTHING, ("7 out", 0): NOTHING},
    (End.ERROR, True):       {("nothing", 0): NOTHING, ("7 out", 0): NOTHING},
    (End.WHOLE, False): {
        ("nothing", 0):   HOLD,
        ("nothing", 70):  HOLD,
        ("7 out", 0):     (160_000, 97, "usage"),
        ("7 out", 70):    (160_000, 97, "usage"),
        ("1000 out", 5):  (11_000_000, 2_000, "usage"),
    },
    (End.STREAMED, True): {
        ("nothing", 0):   HOLD,
        ("nothing", 5):   HOLD,
        ("nothing", 70):  ((800_000, 170, "estimate"), HOLD),
        ("7 out", 0):     (160_000, 97, "usage"),
        ("7 out", 70):    (160_000, 97, "usage"),
        ("1000 out", 5):  (11_000_000, 2_000, "usage"),
    },
    (End.FAILED, True): {
        ("nothing", 5):   (150_000, 105, "estimate"),
        ("nothing", 70):  ((800_000, 170, "estimate"), (600_000, 150, "estimate")),
        ("7 out", 5):     (160_000, 97, "usage"),
        ("7 out", 70):    ((790_000, 160, "estimate"), (590_000, 140, "estimate")),
        ("1000 out", 5):  (11_000_000, 2_000, "usage"),
    },
    (End.FAILED, False): {
        ("nothing", 5):   (600_000, 150, "estimate"),
        ("7 out", 5):     (600_000, 150, "estimate"),
        ("1000 out", 5):  (11_000_000, 2_000, "usage"),
    },
    (End.CUT, True): {
        ("nothing", 0):   (100_000, 100, "estimate"),
        ("nothing", 5):   (150_000, 105, "estimate"),
        ("nothing", 70):  ((800_000, 170, "estimate"), (600_000, 150, "estimate")),
        ("7 out", 0):     (160_000, 97, "usage"),
        ("7 out", 70):    ((790_000, 160, "estimate"), (590_000, 140, "estimate")),
        ("1000 out", 70): (11_000_000, 2_000, "usage"),
    },
    (End.CUT, False): {
        ("nothing", 0):   (600_000, 150, "estimate"),
        ("7 out", 0):     (600_000, 150, "estimate"),
        ("1000 out", 0):  (11_000_000, 2_000, "usage"),
    },
    (End.LEFT, True): {
        ("nothing", 0):   (100_000, 100, "disconnect"),
        ("nothing", 5):   (150_000, 105, "disconnect"),
        ("nothing", 70):  ((800_000, 170, "disconnect"), (600_000, 150, "disconnect")),
        ("7 out", 5):     (160_000, 97, "usage"),
        ("7 out", 70):    ((790_000, 160, "disconnect"), (590_000, 140, "disconnect")),
        ("1000 out", 70): (11_000_000, 2_000, "usage"),
    },
    (End.LEFT, False): {
        ("nothing", 0):   (600_000, 150, "disconnect"),
        ("7 out", 0):     (600_000, 150, "disconnect"),
        ("1000 out", 0):  (11_000_000, 2_000, "usage"),
    },
    (End.STOPPED, True): {
        ("nothing", 5):   (150_000, 105, "disconnect"),
        ("nothing", 70):  ((800_000, 170, "disconnect"), (600_000, 150, "disconnect")),
        ("7 out", 5):     (160_000, 97, "usage"),
        ("7 out", 70):    ((790_000, 160, "disconnect"), (590_000, 140, "disconnect")),
    },
    (End.STOPPED, False): {
        ("nothing", 0):   (600_000, 150, "disconnect"),
        ("1000 out", 0):  (11_000_000, 2_000, "usage"),
    },
    (End.OVER_BUDGET, True): {
        # It said nothing for as long as was held: hidden reasoning.
        ("nothing", 0):   HOLD,
        ("nothing", 5):   (150_000, 105, "estimate"),
        ("nothing", 70):  ((800_000, 170, "estimate"), (600_000, 150, "estimate")),
        ("7 out", 0):     (160_000, 97, "usage"),
        ("7 out", 70):    ((790_000, 160, "estimate"), (590_000, 140, "estimate")),
    },
    (End.OVER_BUDGET, False): {
        ("nothing", 0):   HOLD,
        ("nothing", 5):   (600_000, 150, "estimate"),
        ("1000 out", 5):  (11_000_000, 2_000, "usage"),
    },
}
# fmt: on
CASES = [
    pytest.param(
        end,
        streamed,
        counted,
        seen,
        project,
        row,
        id=f"{end}-{streamed}-{counted}-{seen}-{project.estimate}",
    )
    for (end, streamed), rows in ENDINGS.items()
    for (counted, seen), both in rows.items()
    for project, row in zip(
        (TYPICAL, WORST), both if both is not None and len(both) == 2 else (both, both), strict=True
    )
]


def as_charged(row: Row) -> Charged | None:
    return None if row is None else (Amount(row[0], row[1], 1), row[2])


@pytest.mark.parametrize(("end", "streamed", "counted", "seen", "project", "row"), CASES)
def test_what_each_ending_is_charged(
    end: End, streamed: bool, counted: str, seen: int, project: Project, row: Row
) -> None:
    """One row for each way a call can end, by what the provider had counted and what was seen."""
    outcome = Outcome(
        end, 200, metered=True, streamed=streamed, charges=COUNTED[counted], output_seen=seen
    )
    assert charged(outcome, project=project) == as_charged(row)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "end", [End.WHOLE, End.STREAMED, End.CUT, End.LEFT, End.STOPPED, End.OVER_BUDGET]
)
def test_an_answer_that_our_meter_failed_on(end: End, streamed: bool) -> None:
    """The hold, whatever was seen; or what the provider had counted, if that is more."""
    outcome = Outcome(end, 200, metered=True, meter_failed=True, streamed=streamed, output_seen=70)
    assert charged(outcome) == as_charged(HOLD)
    assert charged(replace(outcome, charges=COUNTED["7 out"])) == as_charged(HOLD)
    assert charged(replace(outcome, charges=COUNTED["1000 out"])) == (
        Amount(11_000_000, 2_000, 1),
        "usage",
    )


def test_every_ending_is_in_the_table() -> None:
    """A new way to end has a row."""
    assert {end for end, _ in ENDINGS} == set(End)


@pytest.mark.parametrize("end", [End.CUT, End.LEFT, End.STOPPED, End.OVER_BUDGET, End.FAILED])
def test_a_cap_binds_the_provider(end: End) -> None:
    """What was seen is a rough count, and no more than the cap was written."""
    outcome = Outcome(end, 200, metered=True, streamed=True, output_seen=70)
    found = charged(outcome, capped=True)
    assert found is not None
    assert found[0] == HELD


@pytest.mark.parametrize("project", [TYPICAL, WORST])
@pytest.mark.parametrize("end", [End.CUT, End.LEFT, End.STOPPED, End.OVER_BUDGET, End.FAILED])
def test_a_cap_that_the_provider_does_not_know(end: End, project: Project) -> None:
    """Some servers know only one of its two names. What is many times the cap shows that it binds nobody."""
    outcome = Outcome(end, 200, metered=True, streamed=True, output_seen=5_000)
    capped, free = charged(outcome, capped=True, project=project), charged(outcome, capped=False)
    assert capped is not None
    assert free is not None
    assert capped[0] == free[0]
    assert capped[0].tokens > 5_000


@pytest.mark.parametrize("end", End)
def test_an_endpoint_that_costs_nothing(end: End) -> None:
    """One request is held and charged and nothing else, however it ends."""
    call = a_call("/v1/models")
    assert CHARGES.amount(call, call.estimate) == (FREE, True)
    outcome = Outcome(end, 200, charges=bill(90, 7), output_seen=5)
    expected = None if end is End.NEVER_LEFT else (FREE, "none")
    assert CHARGES.charge(hold_of(call), outcome) == expected


# Silences.


@pytest.mark.parametrize(
    ("end", "silent_s", "reasons", "choices", "row"),
    [
        (End.LEFT, 0.2, True, 1, (350_000, 125, "disconnect")),
        (End.LEFT, 0.2, True, 2, (550_000, 145, "disconnect")),
        (End.LEFT, 60.0, True, 1, (600_000, 150, "disconnect")),
        (End.LEFT, 60.0, False, 1, (150_000, 105, "disconnect")),
        (End.OVER_BUDGET, 0.2, True, 1, (350_000, 125, "estimate")),
        (End.OVER_BUDGET, 60.0, False, 1, (150_000, 105, "estimate")),
        (End.CUT, 60.0, True, 1, (150_000, 105, "estimate")),
        (End.FAILED, 60.0, True, 1, (150_000, 105, "estimate")),
        (End.STOPPED, 60.0, True, 1, (150_000, 105, "disconnect")),
    ],
)
def test_silence(end: End, silent_s: float, reasons: bool, choices: int, row: Row) -> None:
    """Where the call was ended by its client or its budget, and the model can reason: up to what is held."""
    outcome = Outcome(end, 200, metered=True, streamed=True, output_seen=5, silent_s=silent_s)
    assert charged(outcome, reasons=reasons, choices=choices) == as_charged(row)


# Attempts of unknown fate.

TIMED_OUT = Attempt("upstream_timeout", 1.0, True)
LOST = Attempt("upstream_unreachable", 1.0, True)
BROKEN = Attempt("upstream_bad_answer", 1.0, True)
NOT_CONNECTED = Attempt("upstream_unreachable", 1.0)
CANCELLED = Attempt("cancelled", 1.0, True)
FAILED = Attempt("500", 1.0)
INPUT: Row = (100_000, 100, "estimate")
USAGE: Row = (160_000, 97, "usage")
AWAY: Row = (600_000, 150, "disconnect")
UNKNOWN: dict[str, tuple[Outcome, Row, Row]] = {
    # what: how it ended, typical, worst
    "timed out": (Outcome(End.UNKNOWN, attempts=(TIMED_OUT,)), HOLD, HOLD),
    "timed out twice": (
        Outcome(End.UNKNOWN, attempts=(TIMED_OUT,) * 2),
        HOLD,
        (1_200_000, 300, "hold"),
    ),
    "lost": (Outcome(End.UNKNOWN, attempts=(LOST,)), INPUT, HOLD),
    "lost three times": (
        Outcome(End.UNKNOWN, attempts=(LOST,) * 3),
        INPUT,
        (1_800_000, 450, "hold"),
    ),
    "a broken answer": (Outcome(End.UNKNOWN, attempts=(BROKEN,)), INPUT, HOLD),
    "lost, then timed out": (
        Outcome(End.UNKNOWN, attempts=(LOST, TIMED_OUT)),
        HOLD,
        (1_200_000, 300, "hold"),
    ),
    "lost, then not connected": (Outcome(End.UNKNOWN, attempts=(LOST, NOT_CONNECTED)), INPUT, HOLD),
    "lost, then an error": (Outcome(End.ERROR, 500, attempts=(LOST, FAILED)), INPUT, HOLD),
    "timed out, then an error": (Outcome(End.ERROR, 500, attempts=(TIMED_OUT, FAILED)), HOLD, HOLD),
    "an error, and the client left": (Outcome(End.UNKNOWN, attempts=(FAILED,)), NOTHING, NOTHING),
    "an error, and the client left while it connected": (
        Outcome(End.UNKNOWN, attempts=(FAILED, CANCELLED)),
        NOTHING,
        NOTHING,
    ),
    "lost, then usage": (
        Outcome(
            End.WHOLE, 200, metered=True, charges=bill(90, 7), attempts=(LOST, Attempt("200", 1.0))
        ),
        USAGE,
        (760_000, 247, "usage"),
    ),
    "timed out, then usage": (
        Outcome(
            End.WHOLE,
            200,
            metered=True,
            charges=bill(90, 7),
            attempts=(TIMED_OUT, Attempt("200", 1.0)),
        ),
        USAGE,
        (760_000, 247, "usage"),
    ),
    "timed out, then no usage": (
        Outcome(End.WHOLE, 200, metered=True, attempts=(TIMED_OUT, Attempt("200", 1.0))),
        HOLD,
        (1_200_000, 300, "hold"),
    ),
    "timed out, then cut": (
        Outcome(End.CUT, 200, metered=True, attempts=(TIMED_OUT, Attempt("200", 1.0))),
        (600_000, 150, "estimate"),
        (1_200_000, 300, "estimate"),
    ),
    "the client left while it was away": (
        Outcome(End.LEFT, in_flight=True, attempts=(CANCELLED,)),
        AWAY,
        AWAY,
    ),
    "a fault of ours while it was away": (
        Outcome(End.UNKNOWN, in_flight=True, attempts=(CANCELLED,)),
        AWAY,
        AWAY,
    ),
    "lost, and the client left while another was away": (
        Outcome(End.LEFT, in_flight=True, attempts=(LOST, CANCELLED)),
        AWAY,
        (1_200_000, 300, "disconnect"),
    ),
    "lost, and a fault of ours while another was away": (
        Outcome(End.UNKNOWN, in_flight=True, attempts=(LOST, CANCELLED)),
        AWAY,
        (1_200_000, 300, "disconnect"),
    ),
}


@pytest.mark.parametrize("project", [TYPICAL, WORST], ids=["typical", "worst"])
@pytest.mark.parametrize("what", UNKNOWN)
def test_attempts_of_unknown_fate(what: str, project: Project) -> None:
    """Once a call when it is given up; with `worst` each of them, for which another hold was taken before it was repeated."""
    outcome, typical, worst = UNKNOWN[what]
    unknown = sum(attempt.unknown for attempt in outcome.attempts)
    times = max(unknown, 1) if project is WORST else 1
    assert charged(outcome, project=project, times=times) == as_charged(
        worst if project is WORST else typical
    )


# The fallback of a provider, at twice its price.

BOTH = PriceTable(
    {},
    {
        "openai/priced": {"input": "1", "output": "10"},
        "second/priced": {"input": "2", "output": "20"},
    },
)
THERE: dict[str, Attempt] = {
    "200": Attempt("200", 1.0, provider="second"),
    "500": Attempt("500", 1.0, provider="second"),
    "lost": Attempt("upstream_unreachable", 1.0, True, "second"),
    "timed out": Attempt("upstream_timeout", 1.0, True, "second"),
    "cancelled": Attempt("cancelled", 1.0, True, "second"),
}
FELL_BACK: dict[tuple[str, str], tuple[Row, Row]] = {
    # the provider, its fallback: typical, worst
    ("500", "200"): ((320_000, 97, "usage"), (320_000, 97, "usage")),
    ("lost", "200"): ((320_000, 97, "usage"), (920_000, 247, "usage")),
    ("timed out", "200"): ((320_000, 97, "usage"), (920_000, 247, "usage")),
    ("500", "500"): (NOTHING, NOTHING),
    ("lost", "500"): (INPUT, HOLD),
    ("500", "lost"): ((200_000, 100, "estimate"), (1_200_000, 150, "hold")),
    ("lost", "lost"): ((200_000, 100, "estimate"), (1_800_000, 300, "hold")),
    ("timed out", "lost"): (HOLD, (1_800_000, 300, "hold")),
    ("lost", "timed out"): ((1_200_000, 150, "hold"), (1_800_000, 300, "hold")),
    ("timed out", "timed out"): ((1_200_000, 150, "hold"), (1_800_000, 300, "hold")),
    ("500", "cancelled"): ((1_200_000, 150, "disconnect"), (1_200_000, 150, "disconnect")),
    ("lost", "cancelled"): ((1_200_000, 150, "disconnect"), (1_800_000, 300, "disconnect")),
}


@pytest.mark.parametrize("project", [TYPICAL, WORST], ids=["typical", "worst"])
@pytest.mark.parametrize(("here", "there"), FELL_BACK)
def test_a_fallback(here: str, there: str, project: Project) -> None:
    """Each attempt at the price of the provider that it was made to; and never more than is held."""
    charges = Charges(BOTH)
    hold = hold_of(a_call(project=project), charges)
    hold.before = copy(hold)
    at = hold.requested.admitted
    provider = replace(at.provider, name="second", prices_from="")
    hold.requested = replace(hold.requested, admitted=replace(at, provider=provider))
    hold.first, _ = charges.amount(hold.requested, hold.estimate)
    first = {"500": FAILED, "lost": LOST, "timed out": TIMED_OUT}[here]
    more = hold.amount if project is WORST and first.unknown else Amount()
    hold.amount = Amount(hold.first.nano_usd + more.nano_usd, hold.first.tokens + more.tokens, 1)
    attempts = (first, THERE[there])
    outcome = {
        "200": Outcome(End.WHOLE, 200, metered=True, charges=bill(90, 7), attempts=attempts),
        "cancelled": Outcome(End.LEFT, in_flight=True, attempts=attempts),
        "500": Outcome(End.ERROR, 500, attempts=attempts),
    }.get(there, Outcome(End.UNKNOWN, attempts=attempts))
    found = charges.charge(hold, outcome)
    assert found == as_charged(FELL_BACK[here, there][project is WORST])
    assert found[0].nano_usd <= hold.amount.nano_usd
    assert found[0].tokens <= hold.amount.tokens


def test_a_time_out_is_charged_what_is_held_by_then() -> None:
    """The hold of a stream that reasons has grown while its answer was waited for."""
    hold = hold_of(a_call(stream=True, capped=False), times=3)
    outcome = Outcome(End.UNKNOWN, attempts=(TIMED_OUT,))
    assert CHARGES.charge(hold, outcome) == (Amount(1_800_000, 450, 1), "hold")


# Counts.


def test_a_served_model_without_a_price() -> None:
    """The price of the model that was asked for stands in."""
    outcome = Outcome(End.WHOLE, 200, metered=True, charges=bill(90, 7, "priced-2026-01-01"))
    assert charged(outcome) == (Amount(160_000, 97, 1), "usage")


def test_several_items_are_one_sum() -> None:
    """Each by its own model."""
    prices = PriceTable(
        {}, {"openai/priced": {"input": "1", "output": "10"}, "openai/other": {"input": "2"}}
    )
    charges = Charges(prices)
    items = (*bill(90, 7), Charge("other", Units(input=50)))
    hold = hold_of(a_call(), charges)
    outcome = Outcome(End.WHOLE, 200, metered=True, charges=items)
    assert charges.charge(hold, outcome) == (Amount(160_000 + 100_000, 147, 1), "usage")


@pytest.mark.parametrize(("end", "rule"), [(End.WHOLE, "hold"), (End.CUT, "estimate")])
def test_usage_that_cannot_be_true(end: End, rule: ChargedBy) -> None:
    """The hold is charged for it."""
    assert charged(Outcome(end, 200, metered=True, charges=bill(10**30, 0))) == (HELD, rule)


@pytest.mark.parametrize(
    ("limits", "unpriced", "held", "cost"),
    [
        (("5 requests/day",), "refuse", 0, 0),
        (("5 requests/day",), "dearest", 600_000, 160_000),
        (("10 usd/day",), "dearest", 600_000, 160_000),
    ],
    ids=["no money limit", "dearest", "dearest with a money limit"],
)
def test_a_model_without_a_price(
    limits: tuple[str, ...], unpriced: str, held: int, cost: int
) -> None:
    """It costs nothing where no money is limited, or the dearest price by what it used."""
    project = replace(Project("proj_1", "acme", limits), unpriced=unpriced)  # type: ignore[arg-type]
    hold = hold_of(a_call(model="unknown", project=project))
    assert hold.amount == Amount(held, 150, 1)
    outcome = Outcome(End.WHOLE, 200, metered=True, charges=bill(90, 7))
    assert CHARGES.charge(hold, outcome) == (Amount(cost, 97, 1), "usage")


def test_an_item_without_a_price_costs_at_least_the_hold() -> None:
    """And the others cost what they cost, if that is more."""
    hold = hold_of(a_call())
    few, many = Charge("", Units(input=90, output=7)), Charge("", Units(output=1_000))
    song = Charge("", Units(milliseconds=1))
    for items, cost in (((few, song), 600_000), ((song, many), 10_000_000)):
        found = CHARGES.charge(hold, Outcome(End.WHOLE, 200, metered=True, charges=items))
        assert found is not None
        assert found[0].nano_usd == cost


# What is held.


def test_an_estimate_is_an_amount_that_the_ledger_takes() -> None:
    """The largest is the largest limit."""
    call = a_call(out=10**30)
    assert CHARGES.amount(call, call.estimate) == (Amount(MAX_AMOUNT, MAX_AMOUNT, 1), True)


def test_the_price_held_is_that_of_the_calls_time() -> None:
    """As the charge is: a price that falls between the two would be charged above the hold."""
    rates = [Rates(input=rate * 9 * 10**9, output=9 * 10**9) for rate in (2, 1)]
    model = PricedModel(
        ("in", ("timed",)), ((None, rates[0]), (("from", 1_800_000_001), rates[1])), ()
    )
    table = PriceTable({"openai": PricedProvider((), (model,))}, clock=lambda: 1_800_000_002.0)
    charges = Charges(table)
    hold = hold_of(a_call(model="timed"), charges)
    assert hold.amount == Amount(100 * 2_000 + 50 * 1_000, 150, 1)
    outcome = Outcome(End.WHOLE, 200, metered=True, charges=bill(100, 50))
    assert charges.charge(hold, outcome) == (hold.amount, "usage")


def test_at_worst_the_providers_settings_choose_the_tier() -> None:
    """The dearest there is, unless the standard one is asked for by name."""
    rates = [Rates(input=rate * 9 * 10**9, output=9 * 10**9) for rate in (1, 3)]
    model = PricedModel(("in", ("tiered",)), ((None, rates[0]),), (("priority", None, rates[1]),))
    charges = Charges(PriceTable({"openai": PricedProvider((), (model,))}))
    for project, tier, rate in (
        (TYPICAL, "", 1),
        (WORST, "", 3),
        (WORST, "auto", 3),
        (WORST, "default", 1),
    ):
        hold = hold_of(a_call(model="tiered", project=project, tier=tier), charges)
        assert hold.amount.nano_usd == 100 * rate * 1_000 + 50 * 1_000


# Whatever the numbers are.

COUNT = st.integers(0, 10**6)
UNFINISHED = st.sampled_from([End.FAILED, End.CUT, End.LEFT, End.OVER_BUDGET, End.STOPPED])


@given(
    end=UNFINISHED,
    streamed=st.booleans(),
    counted=st.none() | st.tuples(COUNT, COUNT),
    seen=COUNT,
    silent_s=st.floats(0, 10**6),
    project=st.sampled_from([TYPICAL, WORST]),
    capped=st.booleans(),
    out=st.integers(1, 10**6),
)
def test_what_is_not_whole_is_never_charged_below_what_is_known(
    end: End,
    streamed: bool,
    counted: tuple[int, int] | None,
    seen: int,
    silent_s: float,
    project: Project,
    capped: bool,
    out: int,
) -> None:
    """The larger of the count and of what was seen, as far as the provider could write it."""
    call = a_call(project=project, stream=streamed, capped=capped, out=out)
    outcome = Outcome(
        end,
        200,
        metered=True,
        streamed=streamed,
        charges=bill(*counted) if counted is not None else (),
        output_seen=seen,
        silent_s=silent_s,
    )
    found = CHARGES.charge(hold_of(call), outcome)
    assert found is not None
    if capped or project is WORST:
        seen = min(seen, out)
    into, written = counted or (0, 0)
    if streamed:
        written = max(written, seen)
    amount = found[0]
    assert amount.nano_usd >= (into or 100 if streamed else into) * 1_000 + written * 10_000 >= 0
    assert amount.tokens >= into + written
    assert amount.requests == 1


@given(
    end=st.sampled_from([End.WHOLE, End.STREAMED]),
    counted=st.tuples(COUNT, COUNT),
    seen=COUNT,
    project=st.sampled_from([TYPICAL, WORST]),
    capped=st.booleans(),
)
def test_a_whole_answer_is_charged_exactly_its_usage(
    end: End, counted: tuple[int, int], seen: int, project: Project, capped: bool
) -> None:
    """Whatever was held and seen."""
    outcome = Outcome(
        end,
        200,
        metered=True,
        streamed=end is End.STREAMED,
        charges=bill(*counted),
        output_seen=seen,
    )
    into, out = counted
    assert charged(outcome, project=project, capped=capped) == (
        Amount(into * 1_000 + out * 10_000, into + out, 1),
        "usage",
    )


@pytest.mark.parametrize(("end", "in_flight"), list(itertools.product(End, (False, True))))
def test_no_ending_is_charged_without_a_request(end: End, in_flight: bool) -> None:
    """What left counts as one request, and what did not as none."""
    found = charged(Outcome(end, in_flight=in_flight, metered=True, streamed=True))
    assert (found is None) is (end is End.NEVER_LEFT)
    assert found is None or found[0].requests == 1


# What the configuration fixes: an endpoint that no family knows, and a job.

DOLLAR = 1_000_000_000
NEW_PATH = Operation("unknown", "metered", reads_body=True)
JOB = Operation("race", "job", reads_body=True)


def fixed(operation: Operation, project: Project = TYPICAL, method: str = "POST") -> Requested:
    """Of a model whose tokens have a price."""
    call = a_call(project=project)
    provider = replace(call.admitted.provider, unknown_hold=DOLLAR, job_hold=5 * DOLLAR)
    head = replace(call.admitted.arrival.head, method=method)
    arrival = replace(call.admitted.arrival, head=head)
    at = replace(call.admitted, operation=operation, provider=provider, arrival=arrival)
    return replace(call, admitted=at, estimate=Estimate(Units(requests=1)))


@pytest.mark.parametrize("model", ["priced", "unpriced", ""])
@pytest.mark.parametrize(
    ("operation", "method", "held"),
    [
        (NEW_PATH, "POST", DOLLAR),
        (NEW_PATH, "GET", DOLLAR),
        (JOB, "POST", 5 * DOLLAR),
        (JOB, "GET", 0),
        (JOB, "DELETE", 0),
        (Operation("unknown", "free"), "POST", 0),
    ],
)
def test_what_is_held_by_the_configuration(
    operation: Operation, method: str, held: int, model: str
) -> None:
    """Whatever the model costs. Looking at a job costs a request."""
    call = fixed(operation, method=method)
    call = replace(call, asked=replace(call.asked, model=model))
    assert CHARGES.amount(call, call.estimate) == (Amount(held, 0, 1), True)


MAYBE = Attempt("upstream_timeout", 1.0, unknown=True)
GONE = Attempt("upstream_bad_answer", 1.0, unknown=True)


@pytest.mark.parametrize("project", [TYPICAL, WORST], ids=["typical", "worst"])
@pytest.mark.parametrize(
    ("outcome", "unknown", "job"),
    [
        (Outcome(End.NEVER_LEFT), None, None),
        (Outcome(End.ERROR, 400), NOTHING, NOTHING),
        (Outcome(End.UNKNOWN, in_flight=True), "disconnect", "disconnect"),
        (Outcome(End.UNKNOWN, attempts=(MAYBE,)), "hold", "hold"),
        (Outcome(End.UNKNOWN, attempts=(GONE,)), "hold", "hold"),
        (Outcome(End.WHOLE, 200, metered=True), "hold", "hold"),
        (Outcome(End.STREAMED, 200, metered=True, streamed=True, output_seen=9), "hold", "hold"),
        (
            Outcome(End.WHOLE, 200, metered=True, charges=bill(90, 7)),
            (160_000, 97, "usage"),
            "hold",
        ),
        (
            Outcome(End.STREAMED, 200, metered=True, streamed=True, charges=bill(90, 7)),
            (160_000, 97, "usage"),
            "hold",
        ),
        (Outcome(End.LEFT, 200, metered=True, streamed=True), "disconnect", "hold"),
        (Outcome(End.CUT, 200, metered=True, streamed=True), "estimate", "hold"),
        (Outcome(End.LEFT, 200, metered=True), "disconnect", "hold"),
        (Outcome(End.STOPPED, 200, metered=True, streamed=True), "disconnect", "hold"),
        (Outcome(End.WHOLE, 200, metered=True, meter_failed=True), "hold", "hold"),
    ],
)
def test_what_is_charged_by_the_configuration(
    outcome: Outcome, unknown: Row | ChargedBy, job: Row | ChargedBy, project: Project
) -> None:
    """All that is held, where the answer does not say it itself: nobody leaves before the usage has come, and pays nothing."""
    for operation, held, wanted in ((NEW_PATH, DOLLAR, unknown), (JOB, 5 * DOLLAR, job)):
        said = outcome if operation is NEW_PATH else replace(outcome, metered=False)
        row = (held, 0, wanted) if isinstance(wanted, str) else wanted
        found = CHARGES.charge(hold_of(fixed(operation, project)), said)
        assert found == (None if row is None else (Amount(row[0], row[1], 1), row[2]))


def test_more_than_was_held_for_an_unknown_endpoint() -> None:
    """What its answer counted before it was cut, if that is more."""
    cut = Outcome(End.CUT, 200, metered=True, streamed=True, charges=bill(0, 200_000))
    found = CHARGES.charge(hold_of(fixed(NEW_PATH)), cut)
    assert found == (Amount(2 * DOLLAR, 200_000, 1), "usage")


def test_looking_at_a_job_costs_a_request() -> None:
    """However it ends."""
    for end in (End.WHOLE, End.LEFT, End.CUT):
        found = CHARGES.charge(hold_of(fixed(JOB, method="GET")), Outcome(end, 200))
        assert found == (FREE, "none")


def test_which_calls_start_a_job() -> None:
    """Those of the methods that have a body."""
    started = {m: starts_job(fixed(JOB, method=m)) for m in ("POST", "PUT", "GET", "DELETE")}
    assert started == {"POST": True, "PUT": True, "GET": False, "DELETE": False}
    assert not starts_job(fixed(NEW_PATH))


# By whose prices


@pytest.fixture(scope="module")
def priced() -> PriceTable:
    """The table of the installed genai-prices in November 2026."""
    return PriceTable(read())


REAL = PriceTable(
    {
        "openai": PricedProvider(
            (), (PricedModel(("in", ("m",)), ((None, Rates(input=9 * 10**9)),), ()),)
        )
    },
    {"openai/priced": {"input": "1", "output": "10"}},
    name="genai-prices 0.2.3",
)
TOOL = Charge("web_search", Units(requests=2))


def line_of(
    *charges: Charge, end: End = End.WHOLE, project: Project = TYPICAL, **asked: Any
) -> Amount:
    prices = Charges(REAL)
    call = a_call(project=project, **asked)
    done = prices.charge(hold_of(call, prices), Outcome(end, 200, metered=True, charges=charges))
    assert done is not None
    return done[0]


@pytest.mark.parametrize(
    ("charges", "nano_usd", "price"),
    [
        (bill(90, 7), 160_000, "configured"),
        ((*bill(90, 7), TOOL), 20_160_000, "configured, built-in 2026-11"),
        ((TOOL, TOOL), 40_000_000, "built-in 2026-11"),
        ((Charge("m", Units(input=10), paid=77),), 77, "paid"),
        ((Charge("nobody-knows", Units(input=10), paid=0),), 0, "paid"),
        ((*bill(90, 7), TOOL._replace(paid=5)), 160_005, "configured, paid"),
    ],
)
def test_the_line_is_told_by_whose_prices(
    charges: tuple[Charge, ...], nano_usd: int, price: str
) -> None:
    """Each table once. What the answer says that the account pays goes before any price."""
    amount = line_of(*charges)
    assert (amount.nano_usd, amount.price) == (nano_usd, price)


def test_the_line_is_told_of_genai_prices() -> None:
    """With the release, or the file, that they are from."""
    amount = line_of(Charge("m", Units(input=10)), model="m")
    assert (amount.nano_usd, amount.price) == (10_000, "genai-prices 0.2.3")


def test_where_and_at_which_tier_a_call_was_served(priced: PriceTable) -> None:
    """gpt-5.4 in the EU costs a tenth more, held and charged. The tier that was served counts, and
    not the one that was asked for; the dearer one is held for."""
    charges = Charges(priced)
    for host, factor in (("api.openai.com", 100), ("eu.api.openai.com", 110)):
        call = a_call(model="gpt-5.4", tier="priority")
        call = replace(call, admitted=replace(call.admitted, host=host))
        for tier, per_million_usd in (("default", "2.50"), ("priority", "5")):
            used = Charge("gpt-5.4", Units(input=1_000_000 // 10), tier)
            done = charges.charge(
                hold_of(call, charges), Outcome(End.WHOLE, 200, metered=True, charges=(used,))
            )
            assert done is not None
            nano_usd = int(float(per_million_usd) * 10**8) * factor // 100
            assert (done[0].nano_usd, done[1]) == (nano_usd, "usage")
        held = charges.ceiling(call, call.estimate, 50)
        # 100 tokens of input at 5 USD a million, 50 of output at 30.
        assert held == (100 * 5_000 + 50 * 30_000) * factor // 100


def test_what_is_paid_changes_nothing_beforehand() -> None:
    """An estimate is worked out by prices: no answer has said anything yet."""
    call = a_call()
    paid = replace(call, estimate=call.estimate._replace(beside=(TOOL._replace(paid=5),)))
    assert Charges(REAL).amount(call, call.estimate)[0].nano_usd == HELD.nano_usd
    assert Charges(REAL).amount(paid, paid.estimate)[0].nano_usd == HELD.nano_usd + 20_000_000


def test_a_hold_is_told_by_whose_prices() -> None:
    """The model's, and those of the tools that it may use; a call that costs nothing names none."""
    amount = line_of(beside=(TOOL,))
    assert (amount.nano_usd, amount.price) == (
        HELD.nano_usd + 20_000_000,
        "configured, built-in 2026-11",
    )
    assert line_of(end=End.ERROR).price == ""


def test_tools_are_held_for_beside_the_model() -> None:
    """Two searches of 0.01 USD; a tool without a price leaves the call without one, also where the
    dearest model's price would do for a model."""
    dearest = replace(TYPICAL, unpriced="dearest")
    unknown = Charge("document_library", Units(requests=1))
    for project, beside, expected in (
        (TYPICAL, TOOL, HELD.nano_usd + 20_000_000),
        (dearest, TOOL, HELD.nano_usd + 20_000_000),
        (TYPICAL, unknown, None),
        (dearest, unknown, None),
        (TYPICAL, Charge("nobody-knows", Units(input=1)), None),
    ):
        call = a_call(project=project)
        estimate = call.estimate._replace(beside=(beside,))
        assert Charges(REAL).ceiling(call, estimate, 50) == expected


def test_the_dearest_is_held_for_with_the_tools_beside_it() -> None:
    """gpt-nobody at the dearest rates that there are, and two searches."""
    call = a_call(project=replace(TYPICAL, unpriced="dearest"), model="nobody-knows")
    estimate = call.estimate._replace(beside=(TOOL,))
    assert Charges(REAL).ceiling(call, estimate, 50) == 100 * 1_000 + 50 * 10_000 + 20_000_000
    amount = line_of(
        Charge("nobody", Units(input=10)), model="nobody", project=call.admitted.project
    )
    assert (amount.nano_usd, amount.price) == (10_000, "dearest of genai-prices 0.2.3")


def test_a_use_of_an_unknown_tool_costs_at_least_the_hold() -> None:
    """It does not go for nothing, at the price of the model that used it. Tokens of a second model
    whose name nobody knows go by the model that was asked for."""
    used, second = Charge("visit", Units(requests=1)), Charge("visit", Units(input=10))
    assert line_of(*bill(90, 7), used).nano_usd == HELD.nano_usd
    assert line_of(*bill(90, 7), second).nano_usd == 170_000


def test_whole_answers_without_usage_are_counted() -> None:
    """By provider: a whole answer and a whole stream that were charged without one."""
    prices = Charges(REAL)
    hold = hold_of(a_call(stream=True), prices)
    for end, charges in (
        (End.WHOLE, ()),
        (End.STREAMED, ()),
        (End.WHOLE, bill(1, 1)),
        (End.CUT, ()),
        (End.ERROR, ()),
    ):
        prices.charge(hold, Outcome(end, 200, metered=True, streamed=True, charges=charges))
    assert prices.without_usage == {"openai": 2}


def test_a_usage_that_does_not_come_to_its_total(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted by provider each time, and said once for each model; also one that comes later."""
    prices = Charges(REAL)
    hold = hold_of(a_call(), prices)
    [own] = bill(7, 2)
    odd = own._replace(uneven=True)
    for charge in (own, odd, odd, odd._replace(model="other")):
        prices.charge(hold, Outcome(End.WHOLE, 200, metered=True, charges=(charge,)))
    prices.late(pending("/v1/responses/resp_1"), LateUsage((odd,)))
    assert prices.totals.uneven == {"openai": 4}
    assert len(caplog.messages) == 3
    assert "7 tokens of input and 2 of output" in caplog.messages[0]


def test_a_deployment_costs_what_its_model_costs(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the answer calls it; another model than the configuration's is said once. A tool keeps its own name."""
    prices = PriceTable(
        {},
        {
            "openai/priced": {"input": "1", "output": "10"},
            "openai/other": {"input": "100", "output": "100"},
            "openai/web_search": {"input": "0", "output": "0", "request": "0.01"},
        },
    )
    charges = Charges(prices)
    hold = hold_of(a_call(deployment="mine"), charges)
    tool = Charge("web_search", Units(requests=2))
    for served in ("mine", "priced-2024-08-06", "", "other", "other"):
        used = (Charge(served, Units(input=100, output=10, requests=1)), tool)
        charged = charges.charge(hold, Outcome(End.WHOLE, metered=True, charges=used))
        assert charged == (Amount(100 * 1_000 + 10 * 10_000 + 20_000_000, 110, 1), "usage")
        # Claude's summary of its context is a charge of its own, of the same model.
        for name in (served, "mine"):
            summed = (*used, Charge(name, Units(input=1, output=1, requests=1)))
            charged = charges.charge(hold, Outcome(End.WHOLE, metered=True, charges=summed))
            assert charged == (Amount(101 * 1_000 + 11 * 10_000 + 20_000_000, 112, 1), "usage")
    adviser = (used[0]._replace(model="mine"), Charge("other", Units(input=1, requests=1)))
    charged = charges.charge(hold, Outcome(End.WHOLE, metered=True, charges=adviser))
    assert charged == (Amount(100 * 1_000 + 10 * 10_000 + 100_000, 111, 1), "usage")
    [record] = caplog.records
    assert "[providers.openai.models] says that 'mine' is 'priced'" in record.getMessage()
    assert "answers as 'other'" in record.getMessage()
