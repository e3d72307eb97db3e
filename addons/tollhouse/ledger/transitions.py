"""The life of a call in the ledger, as one table. Pure. The scripts do in Redis what the rows say.
tests/ledger drives the table and the scripts through the same schedules, with each row among them,
and compares the whole state of Redis after each step.

A call id is in one of four states, by what Redis has of it:

========  ==============================================================================================
unknown   nothing: it was never held, or it ended so long ago that it is forgotten, or a failover lost it
held      what it holds, and the deadline after which it may be swept
swept     what it was charged when its deadline had passed, and where that was booked
ended     that it ended, and when. The swept are among these
========  ==============================================================================================

Two rules keep money whole.

A hold knows each window in which something was held for it, and how much: its first windows, and
those that ran when it was extended. A replacement, or an amount that is given back, goes to these
windows, and only to those that have not ended. The part of a window that has ended is added to no
other window.

A call that has ended is in the sums of exactly one day, with exactly the amount that it is charged.

An id is forgotten 24 h after the end of its call. If the call held and cost nothing but its
request, the id is forgotten after 2 h: there is no money in such calls, and a workload may make
very many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

State = Literal["unknown", "held", "swept", "ended"]

Event = Literal["hold", "extend", "renew", "release", "settle", "sweep", "forget"]
"""``sweep`` is tried for a hold that was seen past its deadline; ``forget`` comes 24 h or 2 h after
the end, with the end of some other call. The rest are methods of the ledger."""

Counters = Literal["", "take", "add", "replace", "give back", "charge"]
"""What becomes of used + held of each limit, in its unit:

take       the estimate is added, in the present windows, which become the hold's own
add        more is added, in the present windows, which become the hold's own behind those that it has
replace    what was held (or charged by a sweep) is replaced by what the call came to: the hold's own
           windows of a limit are filled in the order in which they were held, each up to what was
           held there, and what is more goes to the last
give back  what was held (or charged by a sweep) is taken off, the request too: of each of the hold's
           own windows what was held there
charge     what the call came to is added, in the present windows: there is no hold whose windows could be known
"""

Sums = Literal["", "book", "add", "rebook", "unbook"]
"""What becomes of the sums by day, model and token:

book    what is charged is added to today's, under the call's model and token
add     more is added to where the sweep had booked
rebook  the sweep's booking is taken back, and what the call came to is added to the same day, under its own model and token
unbook  the sweep's booking is taken back
"""

SettledBy = Literal["hold", "late", "no_hold", "sweep"]
"""A record's field of this name in the stream ``toll:{tenant}:calls``. A ``late`` one has three more of what it takes back:
``corrects_nano_usd``, ``corrects_day`` (days since the epoch) and ``corrects_model``, as the sums have it."""

Need = Literal["fits", "overdue", "recent"]
"""What has to be true besides, or nothing happens:

fits     used + held + what is asked for is within every limit, in the present windows. An extension
         is not asked about calls at the same time
overdue  the deadline has passed. One that passed while nobody spoke to Redis, 30 s or longer, has passed only 60 s after that
         silence: live calls need that time to renew
recent   the settle was first tried less than 23 h ago, or 1 h if the call cost neither money nor
         tokens, so that its call cannot have ended here and be forgotten: an hour less than ids are
         kept, for clocks that differ, and for calls that were cut off from Redis before they ended
"""

Answer = Literal[
    "held",
    "short",
    "ended",
    "nothing",
    "renewed",
    "released",
    "hold",
    "late",
    "no_hold",
    "duplicate",
    "forgotten",
    "swept",
]
"""What the caller is told. ``short``: it does not fit. ``ended``: the id is spent. ``nothing``: there is no such hold.
``duplicate``: it was told before. ``forgotten``: nobody can say whether it was."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row. ``under_way`` is what is added to the calls under way (`concurrent`)."""

    then: State
    answer: Answer
    counters: Counters = ""
    under_way: Literal[-1, 0, 1] = 0
    sums: Sums = ""
    record: SettledBy | None = None
    needs: Need | None = None


# fmt: off
TRANSITIONS: Final[Mapping[tuple[State, Event], Transition]] = MappingProxyType({
    # found      event                   then       answer       counters     under way  sums     record     needs
    ("unknown", "hold"):     Transition("held",    "held",      "take",      +1,        "",       None,     "fits"),
    ("unknown", "extend"):   Transition("unknown", "nothing"),
    ("unknown", "renew"):    Transition("unknown", "nothing"),
    # A hold whose answer was lost is released, and may arrive after its release: it is refused then.
    ("unknown", "release"):  Transition("ended",   "released"),
    # The hold was lost in a failover, or never taken while Redis was away. Where it may as well have been forgotten, as one
    # that was settled or swept, it is not charged: rather once than twice.
    ("unknown", "settle"):   Transition("ended",   "no_hold",   "charge",     0,        "book",   "no_hold", "recent"),
    ("unknown", "sweep"):    Transition("unknown", "nothing"),

    ("held", "hold"):        Transition("held",    "held"),
    # Not idempotent: a repeated one adds twice, and the settle corrects it.
    ("held", "extend"):      Transition("held",    "held",      "add",        0,        "",       None,     "fits"),
    ("held", "renew"):       Transition("held",    "renewed"),
    # The call never left. It is not counted and leaves no record.
    ("held", "release"):     Transition("ended",   "released",  "give back", -1),
    # The charge may pass a limit: a debt is carried, not forgiven.
    ("held", "settle"):      Transition("ended",   "hold",      "replace",   -1,        "book",   "hold"),
    # Its gateway died. The hold becomes the charge, in the windows in which it stands.
    ("held", "sweep"):       Transition("swept",   "swept",     "",          -1,        "book",   "sweep",  "overdue"),

    ("swept", "hold"):       Transition("swept",   "ended"),
    # Its gateway lives after all. The record of the sweep does not have the added amount. The
    # record of the settle that comes will have all of it.
    ("swept", "extend"):     Transition("swept",   "held",      "add",        0,        "add",    None,     "fits"),
    # The hold must not come back to life: another call may have its place in the limits by now.
    ("swept", "renew"):      Transition("swept",   "nothing"),
    # The record of the sweep named a cost. This record takes it back.
    ("swept", "release"):    Transition("ended",   "released",  "give back",  0,        "unbook", "late"),
    ("swept", "settle"):     Transition("ended",   "late",      "replace",    0,        "rebook", "late"),
    # Two gateways saw it overdue, or it was renewed, released or settled in the meantime; so for the others.
    ("swept", "sweep"):      Transition("swept",   "nothing"),
    ("swept", "forget"):     Transition("unknown", "nothing"),

    ("ended", "hold"):       Transition("ended",   "ended"),
    ("ended", "extend"):     Transition("ended",   "nothing"),
    ("ended", "renew"):      Transition("ended",   "nothing"),
    ("ended", "release"):    Transition("ended",   "duplicate"),
    ("ended", "settle"):     Transition("ended",   "duplicate"),
    ("ended", "sweep"):      Transition("ended",   "nothing"),
    ("ended", "forget"):     Transition("unknown", "nothing"),
})
# fmt: on
"""Every pair that can happen; any other is a bug and raises KeyError.

A hold and a renewal set the deadline, which is gone with the state ``held``. Coming to ``swept`` or ``ended`` from another state
sets the time from which the 24 h or 2 h count. A row whose need is not met changes nothing, and answers by `UNMET`."""

UNMET: Final[Mapping[Need, Answer]] = MappingProxyType(
    {"fits": "short", "overdue": "nothing", "recent": "forgotten"}
)

CODES: Final[Mapping[State, int]] = MappingProxyType(
    {"unknown": 1, "held": 2, "swept": 3, "ended": 4}
)
"""By which a script says in which state it found the call: the code, or its negative where the row's need was not met. The same
numbers are in scripts/common.lua."""


def answers(event: Event) -> dict[int, Answer]:
    """What each reply of the event's script means."""
    found = {CODES[state]: row for (state, of), row in TRANSITIONS.items() if of == event}
    unmet = {-code: UNMET[row.needs] for code, row in found.items() if row.needs is not None}
    return {code: row.answer for code, row in found.items()} | unmet
