"""The ledger: hold before a call leaves, settle after it; each one script and one round trip.

The rule of a hold: for every limit of every scope, used + held + estimate <= limit, or nothing is
taken at all. A settle replaces the estimate by what the call came to, in the windows in which it
was held, and may pass a limit. Every method but `Ledger.extend` may be repeated with the same call
id and does its work once.

Past 400 lines because each script has its method here, beside the values that it answers with.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, Literal

from redis.asyncio import Redis

from tollhouse.call import Amount
from tollhouse.ledger import names as keys
from tollhouse.ledger import records, report
from tollhouse.ledger.limits import MAX_AMOUNT, Limit, Unit, format_limit
from tollhouse.ledger.names import Scope, ScopeKind
from tollhouse.ledger.report import PAIRS, LimitState, ScopeState, UsageRow
from tollhouse.ledger.store.client import LedgerUnavailable, load_script, persist, translated
from tollhouse.ledger.store.cluster_pipeline import Lanes, open_pipeline
from tollhouse.ledger.store.pipeline import Prefix
from tollhouse.ledger.transitions import Answer, answers
from tollhouse.ledger.windows import bounds

__all__ = [
    "GrantedBefore",
    "Held",
    "Ledger",
    "LedgerUnavailable",
    "LimitState",
    "Scope",
    "ScopeKind",
    "ScopeState",
    "Short",
    "Unpriced",
    "UsageRow",
]

DEADLINE_S: Final = 60.0
STREAM_LENGTH: Final = 100_000
"""About how many records a tenant's stream keeps (``MAXLEN ~``)."""
_GRANTS_KEPT: Final = 1000
_SWEEP_EVERY_S: Final = 1.0
SWEEP_AT_ONCE: Final = 100
RENEW_AT_ONCE: Final = 64
"""Redis does nothing else meanwhile, nor does the process that has its store embedded."""
_GIVE_BACK_DELAYS_S: Final = (0.0, 0.2, 0.5, 1.0, 2.0)
_HOLD, _EXTEND, _RENEW = answers("hold"), answers("extend"), answers("renew")
_SETTLE, _RELEASE, _SWEEP = answers("settle"), answers("release"), answers("sweep")


@dataclass(frozen=True, slots=True)
class Held:
    """The hold was taken, or was there."""


@dataclass(frozen=True, slots=True)
class Short:
    """A hold that does not fit: the limit that takes longest to reset of those in the way. Nothing was taken.

    ``left`` is in the limit's unit (nano-dollars for ``usd``). ``resets_at`` is seconds since the epoch by Redis's
    clock, ``retry_after_s`` the same from now; both None for ``total`` and ``concurrent``. ``never_fits``: the call
    alone is more than the limit, so waiting does not help.
    """

    limit_text: str
    scope: Scope
    unit: Unit
    resets_at: float | None
    retry_after_s: float | None
    left: int
    never_fits: bool = False
    left_usd: int | None = None
    """The least that is left in the limits in the way that are in money, in nano-dollars; None if none is."""
    left_tokens: int | None = None
    others: bool = False
    """A limit in requests or of calls at the same time is in the way as well."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A hold of unknown cost, and ``scope`` has a limit in money. Nothing was taken."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class GrantedBefore:
    """A grant of this id was made before: its record. Nothing was done."""

    record: Mapping[str, str]


class Ledger:
    """One a process. Every method raises `LedgerUnavailable` when Redis can't be asked, and `ValueError` for amounts
    below zero or above `limits.MAX_AMOUNT`, ids that can't be part of a key, and scopes of several tenants."""

    def __init__(
        self,
        redis: Redis,
        *,
        stream_length: int = STREAM_LENGTH,
        clock: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_swept: Callable[[Mapping[str, str]], None] = lambda record: None,
    ) -> None:
        """``on_swept`` is told the record of each hold that this ledger has swept."""
        self._redis = redis
        self._on_swept = on_swept
        self.tenants: set[str] = set()
        """Those whose scopes it was asked about."""
        self._pipeline = open_pipeline(redis)
        self._stream_length = str(stream_length)
        self._clock = clock
        self._sleep = sleep
        self._prefixes: dict[tuple[str, str, tuple[Scope, ...]], tuple[Prefix, str]] = {}
        self._last_sweep: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._give_back: deque[tuple[str, tuple[Scope, ...]]] = deque(maxlen=100_000)
        self._giving_back: asyncio.Task[None] | None = None

    async def hold(
        self,
        call_id: str,
        scopes: Sequence[Scope],
        amount: Amount,
        *,
        deadline_s: float = DEADLINE_S,
        carried: Mapping[str, str] | None = None,
        priced: bool = True,
        give_back: bool = True,
    ) -> Held | Short | Unpriced:
        """Sets ``amount`` aside in every scope, or says what is in the way. ``carried`` is what a sweep writes into the
        stream if this gateway dies; its ``provider``, ``model`` and ``identity`` name the call in the sums. An ``amount`` of
        nothing, no request either, is a place: only limits of calls at the same time are in its way. Not ``priced``: what it
        will cost is not known, so that it is refused where a limit is in money.

        When it raises, or is cancelled, it is unknown whether the hold was taken: it is given back in the background. Not
        ``give_back``: when it raises that is left to the caller (`give_back`), who may settle the call instead.
        """
        prefix, names = self._prefix("hold", scopes)
        packed = records.packed(carried) if carried else ""
        arguments = [call_id, str(int(deadline_s * 1000)), *_amounts(amount), names, packed]
        if not priced:
            arguments.append("unpriced")
        try:
            reply = await self._pipeline.run(prefix, arguments)
            blocked = type(reply) is list and _HOLD.get(reply[0]) == "short" and reply[2] and b"concurrent now" in reply
            # The places of calls that died are free once they are swept.
            if blocked:
                try:
                    if await self.sweep(scopes[0].tenant):
                        reply = await self._pipeline.run(prefix, arguments)
                except LedgerUnavailable as error:
                    # Without a cause: Redis has said no, and that it is away now makes no yes of it.
                    raise LedgerUnavailable(error.why) from None
        except (LedgerUnavailable, asyncio.CancelledError) as error:
            if give_back or isinstance(error, asyncio.CancelledError):
                self.give_back(call_id, scopes)
            raise
        if type(reply) is int:
            if reply % 2:
                self._sweep_soon(scopes[0].tenant)
            return Held()
        if reply[0] == b"unpriced":
            return Unpriced(scopes[reply[1]])
        if reply[0] == b"unlimited":
            raise LedgerUnavailable(f"Redis holds no limits record of {scopes[reply[1]].name}: was it emptied?")
        if _HOLD[reply[0]] == "short":
            if reply[2]:
                self._sweep_soon(scopes[0].tenant)
            return _short(reply, scopes, amount)
        raise ValueError(f"{call_id} has ended: a call id is held once")

    async def extend(self, call_id: str, scopes: Sequence[Scope], more: Amount) -> Held | Short:
        """Adds ``more`` to the hold, under the same rule, in the windows that run now: they are the
        hold's own from then on, beside those that it had. Not idempotent: when it raises, the hold
        may be larger than the caller knows; the settle corrects it. `ValueError` when there is no
        such hold."""
        prefix, names = self._prefix("extend", scopes)
        reply = await self._pipeline.run(prefix, [call_id, *_amounts(more), names])
        answer = _EXTEND[reply[0]]
        if answer == "held":
            return Held()
        if answer == "short":
            return _short(reply, scopes, more)
        raise ValueError(f"{call_id} holds nothing")

    async def renew(self, call_id: str, scopes: Sequence[Scope], deadline_s: float = DEADLINE_S) -> bool:
        """Moves the deadline to ``deadline_s`` from now. False when there is no live hold: swept, settled or
        unknown."""
        return await self.renew_all(scopes[0].tenant, (call_id,), deadline_s) == 1

    async def renew_all(self, tenant: str, call_ids: Sequence[str], deadline_s: float = DEADLINE_S) -> int:
        """`renew` for several calls of ``tenant``, `RENEW_AT_ONCE` at most; how many have a live
        hold."""
        prefix, _ = self._prefix("renew", (), tenant)
        codes = await self._pipeline.run(prefix, [str(int(deadline_s * 1000)), *call_ids])
        return sum(_RENEW[code] == "renewed" for code in codes)

    async def settle(
        self,
        call_id: str,
        scopes: Sequence[Scope],
        amount: Amount,
        *,
        record: Mapping[str, str],
        tried_at: float | None = None,
    ) -> Answer:
        """Charges ``amount`` instead of what was held, in the hold's windows in their order: each
        up to what was held there, and what is more in the last. Adds ``record`` (the call's line,
        flat; cut by `records.bounded`) to the tenant's stream with a field ``settled_by``, and adds
        to the sums of the day. ``record``'s ``provider``, ``model`` and ``identity`` name the sums
        by model and token.

        ``tried_at``: when it was first tried, in seconds since the epoch, if that was not just now. The answer is ``hold``;
        ``late``, it corrects what a sweep had charged; ``no_hold``, the hold is unknown (lost in a failover); ``duplicate``, the
        call had ended before; ``forgotten``, it may have: nothing was done in these two, see `transitions.Need`."""
        prefix, names = self._prefix("settle", scopes)
        model, token = records.sums_of(scopes, record, amount.nano_usd or amount.tokens)
        tried = "" if tried_at is None else str(int(tried_at * 1000))
        head = [call_id, *_amounts(amount), names, "settle", self._stream_length, model, token, tried]
        return _SETTLE[await self._pipeline.run(prefix, [*head, *records.flat(record)])]

    async def release(self, call_id: str, scopes: Sequence[Scope], record: Mapping[str, str] | None = None) -> bool:
        """Gives all back, the request count too: the call never left. False when the call had ended before. A hold of
        this id that arrives later is refused. Where a sweep had charged it, ``record`` goes into the stream behind the
        sweep's."""
        prefix, names = self._prefix("settle", scopes)
        said = record or {"call_id": call_id, **records.whose(scopes), "charged_by": "none", "cost_usd": "0"}
        arguments = [call_id, "0", "0", "0", names, "release", self._stream_length, "-", "", ""]
        return _RELEASE[await self._pipeline.run(prefix, [*arguments, *records.flat(said)])] == "released"

    async def charge_lost(
        self, call_id: str, scopes: Sequence[Scope], amount: Amount, carried: Mapping[str, str]
    ) -> None:
        """Charges ``amount`` for a call whose gateway died and which was not held, or may not have been, as a sweep charges a
        hold: ``on_swept`` is told what ``carried`` makes of its record. Nothing happens if the call has ended."""
        record = records.swept(call_id, scopes, amount.nano_usd, carried)
        if await self.settle(call_id, scopes, amount, record=record) != "duplicate":
            self._on_swept(record)

    async def sweep(self, tenant: str, at_most: int = SWEEP_AT_ONCE) -> int:
        """Charges in full the holds whose deadline has passed, the oldest first, and writes a record of each from what
        it carries (``charged_by`` = ``sweep``); how many. A late settle still corrects each. A hold of no request is a
        place that is given back, and leaves no record."""
        prefix, _ = self._prefix("overdue", (), tenant)
        found: list[bytes] = await self._pipeline.run(prefix, [str(at_most)])
        swept = await asyncio.gather(
            *(
                self._sweep_one(tenant, call_id.decode(), text.decode())
                for call_id, text in zip(found[::2], found[1::2], strict=True)
            )
        )
        return sum(swept)

    async def set_limits(self, scope: Scope, limits: Sequence[Limit]) -> None:
        """Replaces the limits of ``scope``; what was used stays counted. An empty list means no limit."""
        if any(not 0 <= limit.amount <= MAX_AMOUNT for limit in limits):
            raise ValueError(f"a limit is between 0 and {MAX_AMOUNT}")
        prefix, name = self._prefix("limits", (scope,))
        parts = [part for limit in limits for part in (limit.unit, limit.window or "now", str(limit.amount))]
        await self._pipeline.run(prefix, [name, *parts])
        persist(self._redis)

    async def grant(
        self, project: Scope, unit: Unit, amount: int, record: Mapping[str, str], grant_id: str = ""
    ) -> int | GrantedBefore:
        """Gives every limit of ``unit`` that ``project`` has ``amount`` more, in the window that it
        is in now and never again; ``record`` is kept beside it. How many limits; 0 if the project
        has none of that unit, and nothing is kept then. With ``grant_id``, which is kept as the
        record's ``id``, it is done once, as long as the record is among the project's last 1,000;
        without one it is not idempotent. `ValueError` where a limit would become too large."""
        if not 0 < amount <= MAX_AMOUNT:
            raise ValueError(f"what is granted is between 1 and {MAX_AMOUNT}")
        script_keys = [*keys.script_keys(project.tenant, (project,)), keys.grants_key(project.tenant, project.id)]
        prefix = Prefix(load_script("grant", self._clock), script_keys)
        # Within a text of the record each quotation mark is behind a backslash: only the field itself is found.
        needle = [f'"id": {json.dumps(keys.check_id("grant", grant_id))}'] if grant_id else []
        text = json.dumps({**record, **({"id": grant_id} if grant_id else {})}, ensure_ascii=False)
        count = await self._pipeline.run(prefix, [unit, str(amount), str(_GRANTS_KEPT), text, *needle])
        if isinstance(count, bytes):
            return GrantedBefore(json.loads(count))
        if count < 0:
            raise ValueError(
                f"with it a limit would be more than {MAX_AMOUNT}, which is more than the ledger can count"
            )
        if count:
            persist(self._redis)
        return int(count)

    async def grants(self, project: Scope) -> list[dict[str, str]]:
        """The records of the project's grants, the oldest first."""
        with translated():
            found: Any = await self._redis.lrange(keys.grants_key(project.tenant, project.id), 0, -1)
        return [json.loads(text) for text in found]

    async def run_script(self, name: str, script_keys: Sequence[str], arguments: Sequence[str]) -> Any:
        """The reply of one of scripts/ whose keys are of one slot and of no call, over the ledger's
        own connections."""
        return await self._pipeline.run(Prefix(load_script(name, self._clock), script_keys), arguments)

    async def show(self, scopes: Sequence[Scope]) -> list[ScopeState]:
        """Each scope's limits with what is used, held and left in the window that Redis's clock is in."""
        prefix, names = self._prefix("show", scopes)
        return report.scope_states(scopes, await self._pipeline.run(prefix, names.split()))

    async def usage(
        self, tenant: str, project: str, since: date | None = None, by: Literal["day", "model", "token"] = "day"
    ) -> list[UsageRow]:
        """The project's sums from the day ``since`` (UTC) on, by day, model or token, in order of the key. A model is
        ``provider/model``; calls that cost nothing are under ``-``."""
        with translated():
            found: Any = await self._redis.hgetall(keys.usage_key(tenant, project))
        return report.usage_rows(found, since, by)

    @property
    def divided(self) -> bool:
        """Whether tenants are at several masters, so that some may be away and others not."""
        return isinstance(self._pipeline, Lanes)

    async def ping(self) -> None:
        """Raises `LedgerUnavailable` unless all of Redis is there: of a Cluster every master, for every slot may be some
        tenant's, though calls of tenants whose master answers go on without the others."""
        with translated():
            await self._redis.ping()

    async def close(self) -> None:
        """Ends what runs in the background, and the connections. Holds that could not be given back are left to a
        sweep."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pipeline.close()
        with contextlib.suppress(LedgerUnavailable), translated():
            await self._redis.aclose()

    def _prefix(self, script: str, scopes: Sequence[Scope], tenant: str = "") -> tuple[Prefix, str]:
        key = (script, tenant, tuple(scopes))
        found = self._prefixes.get(key)
        if found is None:
            if not scopes and not tenant:
                raise ValueError("a call charges at least one scope")
            if len(self._prefixes) > 10_000:
                self._prefixes.clear()
            tenant = tenant or scopes[0].tenant
            packed = Prefix(load_script(script, self._clock), keys.script_keys(tenant, scopes))
            self.tenants.add(tenant)
            found = self._prefixes[key] = (packed, " ".join(scope.name for scope in scopes))
        return found

    async def _sweep_one(self, tenant: str, call_id: str, text: str) -> bool:
        amounts, names, packed = text.split("\n", 2)
        scopes = keys.parse_scopes(tenant, names)
        _, nano_usd, tokens, requests = map(int, amounts.split())
        record = records.swept(call_id, scopes, nano_usd, records.unpacked(packed))
        model, token = records.sums_of(scopes, record, nano_usd or tokens)
        prefix, _ = self._prefix("sweep", scopes)
        arguments = [call_id, names, self._stream_length, model, token, *records.flat(record)]
        swept = _SWEEP[await self._pipeline.run(prefix, arguments)] == "swept"
        if swept and requests:
            self._on_swept(record)
        return swept

    def _sweep_soon(self, tenant: str) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._last_sweep.get(tenant, -_SWEEP_EVERY_S) < _SWEEP_EVERY_S:
            return
        self._last_sweep[tenant] = loop.time()

        async def sweep() -> None:
            with contextlib.suppress(LedgerUnavailable):
                await self.sweep(tenant)

        self._spawn(sweep())

    def give_back(self, call_id: str, scopes: Sequence[Scope]) -> None:
        """Releases in the background a hold of unknown fate, until Redis says that it is; a call of this id can't be charged
        after that."""
        self._give_back.append((call_id, tuple(scopes)))
        if self._giving_back is None or self._giving_back.done():
            self._giving_back = self._spawn(self._release_all())

    async def _release_all(self) -> None:
        """A hold of unknown fate is released until Redis says that it is: its call never left. On a Cluster the server of one
        tenant may be away: each is asked once in a round, and the others' holds go on."""
        tried = 0
        while self._give_back:
            await self._sleep(_GIVE_BACK_DELAYS_S[min(tried, len(_GIVE_BACK_DELAYS_S) - 1)])
            lost: set[str] = set()
            for _ in range(len(self._give_back)):
                call_id, scopes = self._give_back.popleft()
                if scopes[0].tenant not in lost:
                    try:
                        await self.release(call_id, scopes)
                        continue
                    except LedgerUnavailable:
                        lost.add(scopes[0].tenant)
                self._give_back.append((call_id, scopes))
            tried = tried + 1 if lost else 0

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _amounts(amount: Amount) -> tuple[str, str, str]:
    if not (
        0 <= amount.nano_usd <= MAX_AMOUNT and 0 <= amount.tokens <= MAX_AMOUNT and 0 <= amount.requests <= MAX_AMOUNT
    ):
        raise ValueError(
            f"an amount is between 0 and {MAX_AMOUNT}, so that the ledger can add it exactly; this is {amount}"
        )
    return str(amount.nano_usd), str(amount.tokens), str(amount.requests)


def _short(reply: list[Any], scopes: Sequence[Scope], amount: Amount) -> Short:
    now_s = reply[1] / 1000
    found: list[tuple[float, Short]] = []
    for i in range(3, len(reply), 4):
        index, pair, limit, left = reply[i : i + 4]
        unit, window = PAIRS[pair]
        most = int(limit)
        wanted = {"usd": amount.nano_usd, "tokens": amount.tokens, "requests": amount.requests, "concurrent": 1}[unit]
        end = bounds(window, now_s)[1] if window else None
        short = Short(
            format_limit(unit, most, window),
            scopes[index],
            unit,
            end,
            None if end is None else end - now_s,
            int(left),
            wanted > most,
        )
        # Concurrency ends with any call, a total never.
        found.append((now_s if unit == "concurrent" else end or float("inf"), short))
    worst = max(found, key=lambda pair: pair[0])[1]
    left = {unit: min((s.left for _, s in found if s.unit == unit), default=None) for unit in ("usd", "tokens")}
    others = any(s.unit not in left for _, s in found)
    return replace(worst, left_usd=left["usd"], left_tokens=left["tokens"], others=others)
