"""The ledger told in another way than the scripts: what becomes of a call is read from the table of `transitions`, and nothing
is added up as it goes. What is taken in a window, and what a day comes to, is summed anew each time over all calls there ever
were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from tollhouse.call import Amount
from tollhouse.ledger.limits import Limit, format_limit, format_usd
from tollhouse.ledger.names import Scope
from tollhouse.ledger.transitions import TRANSITIONS, UNMET, Answer, Event, Need, State
from tollhouse.ledger.windows import bounds

SILENCE_S = 30.0
GRACE_S = 60.0
REMEMBERED_S = 86_400.0
FREE_S = 7_200.0
"""How long an id is remembered that held and cost nothing but its request."""
SURE_S = 3_600.0
"""A settle is told so long before its id could be forgotten."""
MENDED_S = 3_600.0
NOTHING = Amount(0, 0, 0)
UNITS = ("usd", "tokens", "requests")


@dataclass
class Entry:
    """What one call took, for as long as anything counts it."""

    created: float
    scopes: tuple[Scope, ...]
    taken: list[tuple[float, Amount]]
    """When something was taken, and how much of it counts now."""
    carried: Mapping[str, str]
    under_way: bool = False
    booked: tuple[int, str, str, str] | None = None
    """The day, model, token and session under which it is in the sums."""
    named: int = 0
    """Nano-dollars that the record of its sweep names."""

    @property
    def amount(self) -> Amount:
        return reduce(add, (amount for _, amount in self.taken), NOTHING)

    def refill(self, amount: Amount) -> None:
        """Puts ``amount`` in the place of what was taken: each time up to what was taken then, and
        the rest the last time."""
        *first, (last, _) = self.taken
        refilled = []
        for at, taken in first:
            part = Amount(
                *(
                    min(have, left)
                    for have, left in zip(_counts(taken), _counts(amount), strict=True)
                )
            )
            amount = Amount(
                *(left - gone for left, gone in zip(_counts(amount), _counts(part), strict=True))
            )
            refilled.append((at, part))
        self.taken = [*refilled, (last, amount)]

    @property
    def project(self) -> str:
        return next(scope.id for scope in self.scopes if scope.kind == "project")


@dataclass
class Model:
    """One tenant. ``limits`` has every scope that a call may be of."""

    limits: dict[Scope, tuple[Limit, ...]]
    server: float
    """What the server's clock says; `now` is what the ledger makes of it."""
    calls: dict[str, State] = field(default_factory=dict)
    """The state of each call id, if it is not unknown."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """Of those that are held or swept, by call id."""
    begun: set[Scope] = field(default_factory=set)
    """The sessions that the ledger has a record of."""
    past: list[Entry] = field(default_factory=list)
    """Of those that no id leads to any more."""
    deadlines: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    records: list[dict[str, str]] = field(default_factory=list)
    granted: list[tuple[Scope, str, str, float, int]] = field(default_factory=list)
    """Whom, unit, window, when, how much."""
    last: float | None = None
    gap: tuple[float, float] = (0.0, 0.0)
    seen: set[tuple[State, Event, bool]] = field(default_factory=set)
    """The rows that it went through, and whether what they need was so."""

    @property
    def now(self) -> float:
        if self.last is not None and self.server < self.last <= self.server + MENDED_S:
            return self.last
        return self.server

    def tick(self) -> None:
        if self.last is not None and self.now - self.last > SILENCE_S:
            self.gap = (self.last, self.now)
        self.last = self.now

    # What is counted.

    def counted(self, scope: Scope) -> list[Entry]:
        return [entry for entry in (*self.past, *self.entries.values()) if scope in entry.scopes]

    def taken(self, scope: Scope, limit: Limit) -> tuple[int, int]:
        """Used and held of one limit, now."""
        if limit.unit == "concurrent":
            return 0, sum(entry.under_way for entry in self.counted(scope))
        # A session has no edge in the calendar.
        name = "total" if limit.window == "session" else limit.window
        window = bounds(name, self.now)
        used = held = 0
        for entry in self.counted(scope):
            for at, amount in entry.taken:
                if bounds(name, at) == window:
                    part = parts(amount)[limit.unit]
                    used, held = (used, held + part) if entry.under_way else (used + part, held)
        return used, held

    def extra(self, scope: Scope, limit: Limit) -> int:
        """What was granted in the window that a limit is in."""
        return sum(
            amount
            for whom, unit, window, at, amount in self.granted
            if (whom, unit, window) == (scope, limit.unit, limit.window)
            and bounds(window, at) == bounds(window, self.now)
        )

    def blocking(
        self, scopes: tuple[Scope, ...], take: Amount, more: bool = False
    ) -> list[tuple[Scope, str, str, int]]:
        """Every limit that ``take`` does not fit into: whose, its text, its unit, what is left.
        ``more``: of a hold that is there."""
        found = []
        for scope in scopes:
            for limit in self.limits[scope]:
                if more and limit.unit == "concurrent":
                    continue
                most = limit.amount + self.extra(scope, limit)
                taken = sum(self.taken(scope, limit))
                if taken + parts(take)[limit.unit] > most:
                    text = format_limit(limit.unit, most, limit.window)
                    found.append((scope, text, limit.unit, max(most - taken, 0)))
        return found

    def sums(self) -> dict[str, Counter[str]]:
        """By project: the fields of its usage hash, without those that are 0."""
        found: dict[str, Counter[str]] = {}
        for entry in (*self.past, *self.entries.values()):
            if entry.booked is not None:
                day, model, token, session = entry.booked
                sums = found.setdefault(entry.project, Counter())
                by = ["day", f"model {model}", f"token {token}"]
                for unit in UNITS:
                    for name in [*by, f"session {session}"] if session else by:
                        sums[f"{day} {unit} {name}"] += parts(entry.amount)[unit]
        return {project: +sums for project, sums in found.items()}

    # What happens.

    def grant(self, project: Scope, unit: str, amount: int) -> int:
        self.tick()
        raised = [limit for limit in self.limits[project] if limit.unit == unit]
        self.granted += [(project, unit, limit.window, self.now, amount) for limit in raised]
        return len(raised)

    def sweep(self) -> int:
        """Of every hold that is overdue, the oldest deadline first."""
        self.tick()
        late = sorted(
            (at, call) for call, at in self.deadlines.items() if self.meets("overdue", call)
        )
        for _, call in late:
            self.apply("sweep", call, self.entries[call].scopes)
        return len(late)

    def apply(
        self,
        event: Event,
        call: str,
        scopes: tuple[Scope, ...],
        amount: Amount = NOTHING,
        *,
        deadline_s: float = 0.0,
        record: Mapping[str, str] | None = None,
        tried_at: float | None = None,
    ) -> Answer:
        """``record`` is what a hold carries, or the line of a settle or release."""
        self.tick()
        found = self.calls.get(call, "unknown")
        row = TRANSITIONS[found, event]
        met = row.needs is None or self.meets(row.needs, call, scopes, amount, tried_at)
        self.seen.add((found, event, met))
        if row.needs is not None and not met:
            return UNMET[row.needs]
        entry = self.entries.get(call)
        free = (
            found == "held"
            and event == "settle"
            and worth_nothing(amount)
            and entry
            and worth_nothing(entry.amount)
        )
        self.count(row.counters, call, scopes, amount, record or {})
        if row.under_way:
            self.entries[call].under_way = row.under_way > 0
        corrects = self.corrects(call) if row.record == "late" else {}
        self.book(row.sums, call, record or {})
        if row.record is not None:
            line = self.swept(call) if row.record == "sweep" else dict(record or {})
            self.records.append({"settled_by": row.record, **corrects, **line})
        if row.counters == "take" or row.answer == "renewed":
            self.deadlines[call] = self.now + deadline_s
        self.move(call, row.then, bool(free))
        return row.answer

    def meets(
        self,
        need: Need,
        call: str,
        scopes: tuple[Scope, ...] = (),
        amount: Amount = NOTHING,
        tried_at: float | None = None,
    ) -> bool:
        match need:
            case "fits":
                return not self.blocking(scopes, amount, more=call in self.entries)
            case "overdue":
                at = self.deadlines[call]
                waiting = self.gap[0] < at <= self.gap[1] and self.now < self.gap[1] + GRACE_S
                return at < self.now and not waiting
            case "recent":
                remembered = FREE_S if worth_nothing(amount) else REMEMBERED_S
                return tried_at is None or self.now - tried_at < remembered - SURE_S

    def count(
        self,
        what: str,
        call: str,
        scopes: tuple[Scope, ...],
        amount: Amount,
        record: Mapping[str, str],
    ) -> None:
        match what:
            case "take":
                self.begun.update(scope for scope in scopes if scope.kind == "session")
                self.entries[call] = Entry(self.now, scopes, [(self.now, amount)], record)
            case "charge":
                # What has no hold begins no record of a session.
                known = tuple(s for s in scopes if s.kind != "session" or s in self.begun)
                self.entries[call] = Entry(self.now, known, [(self.now, amount)], record)
            case "add":
                self.entries[call].taken.append((self.now, amount))
            case "replace":
                self.entries[call].refill(amount)
            case "give back":
                self.entries[call].refill(NOTHING)

    def book(self, what: str, call: str, record: Mapping[str, str]) -> None:
        entry = self.entries.get(call)
        if entry is None or what in ("", "add"):
            return
        entry.booked = None if what == "unbook" else (self.day(entry, what), *names(entry, record))

    def day(self, entry: Entry, what: str) -> int:
        if what == "rebook":
            assert entry.booked is not None
            return entry.booked[0]
        return int(self.now // 86_400)

    def move(self, call: str, then: State, free: bool = False) -> None:
        before = self.calls.pop(call, "unknown")
        if then != "unknown":
            self.calls[call] = then
        if then != "held":
            self.deadlines.pop(call, None)
        if then in ("unknown", "ended") and call in self.entries:
            self.past.append(self.entries.pop(call))
        if then == "unknown":
            self.ended.pop(call, None)
        elif then in ("swept", "ended") and then != before:
            # As if it had ended so much earlier.
            self.ended[call] = self.now - (REMEMBERED_S - FREE_S if free else 0.0)
            self.forget()

    def forget(self) -> None:
        """Ended ids are forgotten after a day, two at most for each that is added, the oldest first."""
        for old, at in sorted(self.ended.items(), key=lambda pair: (pair[1], pair[0]))[:2]:
            if at < self.now - REMEMBERED_S:
                row = TRANSITIONS[self.calls[old], "forget"]
                self.seen.add((self.calls[old], "forget", True))
                self.move(old, row.then)

    def corrects(self, call: str) -> dict[str, str]:
        """What a late record takes back: what the record of the sweep named."""
        entry = self.entries[call]
        assert entry.booked is not None
        day, model, *_ = entry.booked
        return {
            "corrects_nano_usd": str(entry.named),
            "corrects_day": str(day),
            "corrects_model": model,
        }

    def swept(self, call: str) -> dict[str, str]:
        """What a sweep writes of a call."""
        entry = self.entries[call]
        entry.named = entry.amount.nano_usd
        cost = format_usd(entry.named)
        whose = {"tenant": entry.scopes[0].id, "project": entry.project}
        return {
            **entry.carried,
            "call_id": call,
            **whose,
            "charged_by": "sweep",
            "cost_usd": cost,
            "held_usd": cost,
        }


def names(entry: Entry, record: Mapping[str, str]) -> tuple[str, str, str]:
    """The model, token and session of the sums: what cost nothing is of no model and no session."""
    token = next(scope.id for scope in entry.scopes if scope.kind == "token")
    said = record or entry.carried
    if worth_nothing(entry.amount):
        return "-", token, ""
    return f"openai/{said['model']}", token, said.get("session", "")


def parts(amount: Amount) -> dict[str, Any]:
    return {
        "usd": amount.nano_usd,
        "tokens": amount.tokens,
        "requests": amount.requests,
        "concurrent": 1,
    }


def worth_nothing(amount: Amount) -> bool:
    return amount.nano_usd == 0 and amount.tokens == 0


def add(one: Amount, other: Amount) -> Amount:
    return Amount(
        one.nano_usd + other.nano_usd, one.tokens + other.tokens, one.requests + other.requests
    )


def _counts(amount: Amount) -> tuple[int, int, int]:
    return amount.nano_usd, amount.tokens, amount.requests
