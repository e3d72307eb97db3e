"""The ledger's rules in plain Python, told in another way than the scripts: nothing is added up as it goes. What is taken
in a window is summed anew, each time, over all calls that were held in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tollhouse.budget.limits import Limit
from tollhouse.budget.windows import bounds
from tollhouse.call import Amount

SILENCE_S = 30.0
GRACE_S = 60.0
REMEMBERED_S = 86_400.0


@dataclass
class Entry:
    created: float
    amount: Amount
    deadline: float = 0.0
    live: bool = False
    swept: bool = False


@dataclass
class Model:
    """One tenant with one project; every call is of both."""

    limits: dict[str, tuple[Limit, ...]]
    now: float
    calls: dict[str, Entry] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    last: float | None = None
    gap: tuple[float, float] = (0.0, 0.0)
    granted: list[tuple[str, str, float, int]] = field(default_factory=list)
    """Of the project: unit, window, when, how much."""

    def tick(self) -> None:
        if self.last is not None and self.now - self.last > SILENCE_S:
            self.gap = (self.last, self.now)
        self.last = self.now

    def taken(self, limit: Limit) -> tuple[int, int]:
        """Used and held of one limit, now."""
        if limit.unit == "concurrent":
            return 0, sum(entry.live for entry in self.calls.values())
        window = bounds(limit.window, self.now)
        used = held = 0
        for entry in self.calls.values():
            if bounds(limit.window, entry.created) == window:
                part = self.part(limit, entry.amount)
                used, held = (used, held + part) if entry.live else (used + part, held)
        return used, held

    @staticmethod
    def part(limit: Limit, amount: Amount) -> int:
        return {"usd": amount.nano_usd, "tokens": amount.tokens, "requests": amount.requests, "concurrent": 1}[
            limit.unit
        ]

    def extra(self, scope: str, limit: Limit) -> int:
        """What was granted in the window that a limit is in."""
        return sum(
            amount
            for unit, window, at, amount in self.granted
            if (scope, unit, window) == ("project", limit.unit, limit.window)
            and bounds(window, at) == bounds(window, self.now)
        )

    def grant(self, unit: str, amount: int) -> int:
        self.tick()
        raised = [limit for limit in self.limits["project"] if limit.unit == unit]
        self.granted += [(unit, limit.window, self.now, amount) for limit in raised]
        return len(raised)

    def fits(self, take: Amount, *, since: float | None = None) -> bool:
        for scope, limits in self.limits.items():
            for limit in limits:
                if since is not None and (
                    limit.unit == "concurrent" or bounds(limit.window, since) != bounds(limit.window, self.now)
                ):
                    continue
                if sum(self.taken(limit)) + self.part(limit, take) > limit.amount + self.extra(scope, limit):
                    return False
        return True

    def end(self, call: str) -> None:
        """Ended ids are forgotten after a day, two at most for each that is added, the oldest first."""
        self.ended[call] = self.now
        for old, at in sorted(self.ended.items(), key=lambda pair: (pair[1], pair[0]))[:2]:
            if at < self.now - REMEMBERED_S:
                del self.ended[old]
                if old in self.calls:
                    self.calls[old].swept = False

    def begin(self, call: str, entry: Entry) -> None:
        if call in self.calls:
            self.calls[f"{call}, {len(self.calls)}"] = self.calls.pop(call)
        self.calls[call] = entry

    def hold(self, call: str, amount: Amount, deadline_s: float) -> str:
        self.tick()
        entry = self.calls.get(call)
        if entry is not None and entry.live:
            return "held"
        if call in self.ended:
            return "ended"
        if not self.fits(amount):
            return "short"
        self.begin(call, Entry(self.now, amount, self.now + deadline_s, live=True))
        return "held"

    def extend(self, call: str, more: Amount) -> str:
        self.tick()
        entry = self.calls.get(call)
        if entry is None or not (entry.live or entry.swept):
            return "nothing"
        if not self.fits(more, since=entry.created):
            return "short"
        entry.amount = add(entry.amount, more)
        return "held"

    def renew(self, call: str, deadline_s: float) -> bool:
        self.tick()
        entry = self.calls.get(call)
        if entry is None or not entry.live:
            return False
        entry.deadline = self.now + deadline_s
        return True

    def settle(self, call: str, amount: Amount) -> str:
        self.tick()
        entry = self.calls.get(call)
        if entry is not None and (entry.live or entry.swept):
            by = "hold" if entry.live else "late"
            entry.amount, entry.live, entry.swept = amount, False, False
        elif call in self.ended:
            return "duplicate"
        else:
            by = "no_hold"
            self.begin(call, Entry(self.now, amount))
        self.end(call)
        return by

    def release(self, call: str) -> bool:
        self.tick()
        entry = self.calls.get(call)
        there = entry is not None and (entry.live or entry.swept)
        done = there or call not in self.ended
        if there:
            del self.calls[call]
        self.end(call)
        return done

    def sweep(self) -> int:
        self.tick()
        late = []
        for call, entry in self.calls.items():
            waiting = self.gap[0] < entry.deadline <= self.gap[1] and self.now < self.gap[1] + GRACE_S
            if entry.live and entry.deadline < self.now and not waiting:
                late.append((entry.deadline, call, entry))
        for _, call, entry in sorted(late, key=lambda item: item[:2]):
            entry.live, entry.swept = False, True
            self.end(call)
        return len(late)

    def charged(self) -> Amount:
        """The sum of all that has ended."""
        total = Amount(0, 0, 0)
        for entry in self.calls.values():
            if not entry.live:
                total = add(total, entry.amount)
        return total


def add(one: Amount, other: Amount) -> Amount:
    return Amount(one.nano_usd + other.nano_usd, one.tokens + other.tokens, one.requests + other.requests)
