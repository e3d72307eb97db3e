"""The ledger: a hold before a call leaves, a settle after it. Each is one script and one round
trip.

The rule of a hold: for every limit of every scope, used + held + estimate <= limit. If one limit
has no room, nothing is taken at all. A settle replaces the estimate by the real cost, in the
windows in which the call was held. It may pass a limit. Every method but `Ledger.extend` may be
repeated with the same call id, and does its work once.

Past 400 lines because each script has its method here, and holds that may have been taken are given back beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.call import Amount
from tollhouse.ledger import names, records, report
from tollhouse.ledger.hold_reply import GrantedBefore, Held, Short, Unpriced, short
from tollhouse.ledger.limits import MAX_AMOUNT, SESSION, Limit, Unit
from tollhouse.ledger.names import Scope, ScopeKind
from tollhouse.ledger.report import LimitState, ScopeState, SumsBy, UsageRow
from tollhouse.ledger.store.client import LedgerUnavailable, load_script, persist, translated
from tollhouse.ledger.store.cluster_pipeline import ClusterPipeline, open_pipeline
from tollhouse.ledger.store.pipeline import Prefix, Told
from tollhouse.ledger.streams import Streams
from tollhouse.ledger.transitions import Answer, answers

__all__ = [
    "Ledger",
    "LedgerUnavailable",
    "LimitState",
    "Scope",
    "ScopeKind",
    "ScopeState",
    "UsageRow",
]

DEADLINE_S: Final = 60.0
STREAM_LENGTH: Final = 100_000
"""About how many records a tenant's stream keeps (``MAXLEN ~``)."""
_GRANTS_KEPT: Final = 1000
_MOST_PREFIXES: Final = 2_000
"""About 2 kB each. Sessions have scopes of their own, and their number has no bound."""
_SWEEP_EVERY_S: Final = 1.0
SWEEP_AT_ONCE: Final = 100
RENEW_AT_ONCE: Final = 64
"""The most holds that one script renews. Redis does nothing else meanwhile, and with the embedded
store the whole process does nothing else."""
_GIVE_BACK_DELAYS_S: Final = (0.0, 0.2, 0.5, 1.0, 2.0)
_HELD: Final = Held()
_AMPLE: Final = Held(ample=True)
_HOLD, _EXTEND, _RENEW = answers("hold"), answers("extend"), answers("renew")
_SETTLE, _RELEASE, _SWEEP = answers("settle"), answers("release"), answers("sweep")


class Ledger:
    """Every method raises `LedgerUnavailable` when Redis can't be asked. It raises `ValueError` for
    amounts below zero or above `limits.MAX_AMOUNT`, for ids that can't be part of a key, and for
    scopes of several tenants."""

    def __init__(
        self,
        redis: Redis,
        *,
        stream_length: int = STREAM_LENGTH,
        clock: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_swept: Callable[[Mapping[str, str]], None] = lambda record: None,
    ) -> None:
        """``on_swept`` gets the record of each hold that this ledger has swept."""
        self._redis = redis
        self._on_swept = on_swept
        self.tenants: set[str] = set()
        """The tenants whose scopes this ledger was asked about."""
        self._pipeline = open_pipeline(redis)
        self._stream_length = str(stream_length)
        self._clock = clock
        self._sleep = sleep
        self._prefixes: dict[tuple[str, str, tuple[Scope, ...]], tuple[Prefix, str]] = {}
        self._last_sweep: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.streams = Streams(redis, self.run_script)
        """The records of calls, to be read."""
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
        """Sets ``amount`` aside in every scope, or gives the limit that has no room. If this
        gateway dies, a sweep writes ``carried`` into the stream; its ``provider``, ``model`` and
        ``identity`` name the call in the sums. An ``amount`` of nothing, without a request, is a
        place: only limits of calls at the same time are asked. ``priced`` is false if the cost is
        unknown: the call is refused then where a limit is in money.

        When this method raises or is cancelled, the hold may have been taken. It is given back in
        the background. With ``give_back`` false, the caller does that after an exception
        (`Ledger.give_back`), or settles the call.
        """
        prefix, scope_names = self._prefix("hold", scopes)
        packed = records.packed(carried) if carried else ""
        arguments = [call_id, str(int(deadline_s * 1000)), *_amounts(amount), scope_names, packed]
        sessions = [scope.limits for scope in scopes if scope.kind == "session"]
        if sessions or not priced:
            arguments += ["" if priced else "unpriced", *sessions]
        try:
            reply = await self._pipeline.run(prefix, arguments)
            blocked = (
                type(reply) is list
                and _HOLD.get(reply[0]) == "short"
                and reply[2]
                and b"concurrent now" in reply
            )
            # Calls of dead gateways may take up the limit. A sweep makes room.
            if blocked:
                try:
                    if await self.sweep(scopes[0].tenant):
                        reply = await self._pipeline.run(prefix, arguments)
                except LedgerUnavailable as error:
                    # It is raised without a cause, so that it does not count as an outage: Redis
                    # has refused this hold before it was lost.
                    raise LedgerUnavailable(error.why) from None
        except (LedgerUnavailable, asyncio.CancelledError) as error:
            if give_back or isinstance(error, asyncio.CancelledError):
                self.give_back(call_id, scopes)
            raise
        if type(reply) is int:
            if reply % 2:
                self._sweep_soon(scopes[0].tenant)
            return _AMPLE if reply & 16 else _HELD
        if reply[0] == b"unpriced":
            return Unpriced(scopes[reply[1]])
        if reply[0] == b"unlimited":
            raise LedgerUnavailable(
                f"Redis holds no limits record of {scopes[reply[1]].name}: was it emptied?"
            )
        if _HOLD[reply[0]] == "short":
            if reply[2]:
                self._sweep_soon(scopes[0].tenant)
            return short(reply, scopes, amount)
        raise ValueError(f"{call_id} has ended: a call id is held once")

    async def extend(self, call_id: str, scopes: Sequence[Scope], more: Amount) -> Held | Short:
        """Adds ``more`` to the hold, under the same rule, in the windows that run now. From then on
        these windows belong to the hold beside its earlier ones. It is not idempotent: when it
        raises, the hold may be larger than the caller knows, and the settle corrects that. Raises
        `ValueError` when there is no such hold."""
        prefix, scope_names = self._prefix("extend", scopes)
        reply = await self._pipeline.run(prefix, [call_id, *_amounts(more), scope_names])
        answer = _EXTEND[reply[0]]
        if answer == "held":
            return Held()
        if answer == "short":
            return short(reply, scopes, more)
        raise ValueError(f"{call_id} holds nothing")

    async def renew(
        self, call_id: str, scopes: Sequence[Scope], deadline_s: float = DEADLINE_S
    ) -> bool:
        """Moves the deadline to ``deadline_s`` from now. False when there is no live hold: it was
        swept or settled, or is unknown."""
        return await self.renew_all(scopes[0].tenant, (call_id,), deadline_s) == 1

    async def renew_all(
        self, tenant: str, call_ids: Sequence[str], deadline_s: float = DEADLINE_S
    ) -> int:
        """Does `renew` for several calls of ``tenant``, at most `RENEW_AT_ONCE`. Gives how many of
        them have a live hold."""
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
        told: Told | None = None,
    ) -> Answer:
        """Charges ``amount`` in place of the hold. The hold's windows are filled in their order,
        each up to the amount that was held there; the rest goes to the last window. ``record`` (the
        call's line, flat; cut by `records.bounded`) goes into the tenant's stream with a field
        ``settled_by``, and the sums of the day grow. The record's ``provider``, ``model`` and
        ``identity`` name the sums by model and token.

        ``told`` is called once the command is written to Redis. ``tried_at`` is when the settle was
        first tried, in seconds since the epoch, if that was not just now. The answer is ``hold``
        (the usual one), ``late`` (it corrects the charge of a sweep), ``no_hold`` (the hold is
        unknown: lost in a failover), ``duplicate`` (the call had ended before) or ``forgotten`` (it
        may have ended before). With the last two nothing was done; see `transitions.Need`."""
        prefix, scope_names = self._prefix("settle", scopes)
        model, token, session = records.sums_of(scopes, record, amount.nano_usd or amount.tokens)
        tried = "" if tried_at is None else str(int(tried_at * 1000))
        head = [
            call_id,
            *_amounts(amount),
            scope_names,
            "settle",
            self._stream_length,
            model,
            token,
            session,
            tried,
        ]
        arguments = [*head, *records.flat(record)]
        return _SETTLE[await self._pipeline.run(prefix, arguments, told)]

    async def settled(self, tenant: str, call_id: str) -> bool:
        """Whether the call has ended by its own settle, and not by a sweep. Raises `LedgerUnavailable`."""
        if not tenant:
            return False
        own = names.script_keys(tenant, ())
        with translated():
            ended = await self._redis.zscore(own[3], call_id)
            swept = await self._redis.hexists(own[4], call_id)
        return ended is not None and not swept

    async def release(
        self, call_id: str, scopes: Sequence[Scope], record: Mapping[str, str] | None = None
    ) -> bool:
        """Gives the whole hold back, its request too: the call never left. False when the call had
        ended before. A hold with this id that arrives later is refused. If a sweep had charged the
        call, ``record`` goes into the stream behind the sweep's record."""
        prefix, scope_names = self._prefix("settle", scopes)
        said = record or {
            "call_id": call_id,
            **records.whose(scopes),
            "charged_by": "none",
            "cost_usd": "0",
        }
        arguments = [
            call_id,
            "0",
            "0",
            "0",
            scope_names,
            "release",
            self._stream_length,
            "-",
            "",
            "",
            "",
        ]
        return (
            _RELEASE[await self._pipeline.run(prefix, [*arguments, *records.flat(said)])]
            == "released"
        )

    async def charge_lost(
        self, call_id: str, scopes: Sequence[Scope], amount: Amount, carried: Mapping[str, str]
    ) -> None:
        """Charges ``amount`` for a call whose gateway died and which perhaps had no hold. It does
        what a sweep does with a hold, and ``on_swept`` gets the record that is made of ``carried``.
        Nothing happens if the call has ended."""
        record = records.swept(call_id, scopes, amount.nano_usd, carried)
        if await self.settle(call_id, scopes, amount, record=record) != "duplicate":
            self._on_swept(record)

    async def sweep(self, tenant: str, at_most: int = SWEEP_AT_ONCE) -> int:
        """Charges in full the holds whose deadline has passed, the oldest first. Gives their
        number. A record of each is made of what the hold carries (``charged_by`` = ``sweep``). A
        late settle still corrects each charge. A hold without a request is a place: it is given
        back and leaves no record."""
        prefix, _ = self._prefix("overdue", (), tenant)
        found: list[bytes] = await self._pipeline.run(prefix, [str(at_most)])
        swept = await asyncio.gather(
            *(
                self.sweep_one(tenant, call_id.decode(), text.decode())
                for call_id, text in zip(found[::2], found[1::2], strict=True)
            )
        )
        return sum(swept)

    async def set_limits(self, scope: Scope, limits: Sequence[Limit]) -> None:
        """Replaces the limits of ``scope``. Used amounts stay counted. An empty list means no
        limit. Limits by session are none of the scope's own: each hold names them."""
        if any(not 0 <= limit.amount <= MAX_AMOUNT for limit in limits):
            raise ValueError(f"a limit is between 0 and {MAX_AMOUNT}")
        prefix, name = self._prefix("limits", (scope,))
        parts = [
            part
            for limit in limits
            if limit.window != SESSION
            for part in (limit.unit, limit.window or "now", str(limit.amount))
        ]
        await self._pipeline.run(prefix, [name, *parts])
        persist(self._redis)

    async def grant(
        self, project: Scope, unit: Unit, amount: int, record: Mapping[str, str], grant_id: str = ""
    ) -> int | GrantedBefore:
        """Adds ``amount`` to every limit of ``unit`` that ``project`` has, for its current window
        only. ``record`` is kept. Gives the number of these limits; if it is 0, nothing is kept.
        With ``grant_id``, which becomes the record's ``id``, the grant is made once, as long as its
        record is among the project's last 1,000. Without it the method is not idempotent. Raises
        `ValueError` where a limit would become too large."""
        if not 0 < amount <= MAX_AMOUNT:
            raise ValueError(f"what is granted is between 1 and {MAX_AMOUNT}")
        script_keys = [
            *names.script_keys(project.tenant, (project,)),
            names.grants_key(project.tenant, project.id),
        ]
        prefix = Prefix(load_script("grant", self._clock), script_keys)
        # Inside a text of the record each quotation mark has a backslash before it, so only the
        # field itself is found.
        needle = [f'"id": {json.dumps(names.check_id("grant", grant_id))}'] if grant_id else []
        text = json.dumps({**record, **({"id": grant_id} if grant_id else {})}, ensure_ascii=False)
        count = await self._pipeline.run(
            prefix, [unit, str(amount), str(_GRANTS_KEPT), text, *needle]
        )
        if isinstance(count, bytes):
            return GrantedBefore(json.loads(count))
        if count < 0:
            raise ValueError(
                f"with it a limit would be more than {MAX_AMOUNT}, which is more than the ledger can count: add less"
            )
        if count:
            persist(self._redis)
        return int(count)

    async def grants(self, project: Scope) -> list[dict[str, str]]:
        """The records of the project's grants, the oldest first."""
        with translated():
            found: Any = await self._redis.lrange(
                names.grants_key(project.tenant, project.id), 0, -1
            )
        return [json.loads(text) for text in found]

    async def run_script(
        self, name: str, script_keys: Sequence[str], arguments: Sequence[str]
    ) -> Any:
        """The reply of one of ledger/scripts, over the ledger's own connections. Its keys are of
        one slot and belong to no call."""
        return await self._pipeline.run(
            Prefix(load_script(name, self._clock), script_keys), arguments
        )

    async def show(self, scopes: Sequence[Scope]) -> list[ScopeState]:
        """Each scope's limits, with the used, held and left amounts of the current window by
        Redis's clock."""
        prefix, scope_names = self._prefix("show", scopes)
        return report.scope_states(scopes, await self._pipeline.run(prefix, scope_names.split()))

    async def usage(
        self,
        tenant: str,
        project: str,
        since: date | None = None,
        by: SumsBy = "day",
        *,
        daily: bool = False,
    ) -> list[UsageRow]:
        """The project's sums from the day ``since`` (UTC) on, by day, model, provider, token or session,
        sorted by that; ``daily``: each with what was spent on each day. A model is ``provider/model``.
        Calls that cost nothing are under ``-``.
        By session there are only calls that named one and cost something, of the last 31 days."""
        with translated():
            found: Any = await self._redis.hgetall(names.usage_key(tenant, project))
        return report.usage_rows(found, since, by, daily=daily)

    @property
    def divided(self) -> bool:
        """Whether the tenants are on several masters, so that only some tenants may be away."""
        return isinstance(self._pipeline, ClusterPipeline)

    async def ping(self) -> None:
        """Raises `LedgerUnavailable` unless all of Redis answers. Of a Cluster that is every
        master, because any slot may be that of a tenant. Calls of tenants whose master answers go
        on all the same."""
        with translated():
            await self._redis.ping()

    async def close(self) -> None:
        """Ends the tasks in the background and closes the connections. Holds that could not be
        given back are swept later."""
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
            if len(self._prefixes) >= _MOST_PREFIXES:
                self._prefixes.clear()
            tenant = tenant or scopes[0].tenant
            packed = Prefix(load_script(script, self._clock), names.script_keys(tenant, scopes))
            self.tenants.add(tenant)
            found = self._prefixes[key] = (packed, " ".join(scope.name for scope in scopes))
        return found

    async def sweep_one(self, tenant: str, call_id: str, text: str) -> bool:
        amounts, scope_names, packed = text.split("\n", 2)
        scopes = names.parse_scopes(tenant, scope_names)
        _, nano_usd, tokens, requests = map(int, amounts.split())
        record = records.swept(call_id, scopes, nano_usd, records.unpacked(packed))
        sums = records.sums_of(scopes, record, nano_usd or tokens)
        prefix, _ = self._prefix("sweep", scopes)
        arguments = [call_id, scope_names, self._stream_length, *sums, *records.flat(record)]
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
        """Releases a hold that perhaps was taken. It is tried in the background until Redis says
        that it is released. After that a call with this id can't be charged."""
        self._give_back.append((call_id, tuple(scopes)))
        if self._giving_back is None or self._giving_back.done():
            self._giving_back = self._spawn(self._release_all())

    async def _release_all(self) -> None:
        """Releases the holds of `give_back`, whose calls never left, until Redis says that they are
        released. On a Cluster the server of one tenant may be away: each tenant is asked once in a
        round, and the others do not wait."""
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
        0 <= amount.nano_usd <= MAX_AMOUNT
        and 0 <= amount.tokens <= MAX_AMOUNT
        and 0 <= amount.requests <= MAX_AMOUNT
    ):
        raise ValueError(
            f"an amount is between 0 and {MAX_AMOUNT}, so that the ledger can add it exactly; this is {amount}"
        )
    return str(amount.nano_usd), str(amount.tokens), str(amount.requests)
