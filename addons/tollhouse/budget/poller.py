"""Asks providers for answers whose usage comes later, so that a call is charged also if its client never asks.

Of all gateways on one Redis one asks, by a lease. Its own requests cost nothing and have no line.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from tollhouse.budget.afterwards import KEPT_S, Afterwards
from tollhouse.call import Pending
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.redact import Redactor
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.breaker import Breaker, Breakers
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.sign import check_lease
from tollhouse.families.meters import AnswerHead, LateMeter
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.outcome import LateUsage
from tollhouse.providers import Catalog, Provider

log = logging.getLogger(__name__)

FIRST_S: Final = 5.0
"""From the time at which a call is known to wait to the first request for its answer."""
SHARE: Final = 0.2
"""Of the time that a call has waited: how long its answer is left alone."""
LONGEST_S: Final = 600.0
AT_ONCE: Final = 8
LIST_EVERY_S: Final = 2.0
_LEASE_MS: Final = 60_000
_LIST_S: Final = 10.0
SILENCE_S: Final = 30.0
"""To the head of an answer, and from one piece of it to the next."""
TURN_S: Final = 30.0
"""How long a turn waits for those that it has started. With `_LIST_S` it is less than the lease."""
_WHOLE_S: Final = 1_800.0
"""To the end of an answer: the results of a batch have gigabytes."""
_MOST_KNOWN: Final = 100_000
_HEADERS: Final = (("accept", "application/json"), ("user-agent", "tollhouse"))


class PollerKeys(Protocol):
    async def get(self, provider: str, tenant: str, project: str) -> Lease: ...


class Sender(Protocol):
    """`dispatch.upstream.Upstream`."""

    async def send(self, outgoing: Outgoing, *, budget_s: float) -> Answer: ...


class Poller:
    """``tenants`` gives the names of all tenants; ``clock`` never goes back, ``now`` is seconds since the epoch. Only the
    task that calls `turn` changes it."""

    def __init__(
        self,
        afterwards: Afterwards,
        ledger: Ledger,
        catalog: Catalog,
        keys: PollerKeys,
        upstream: Sender,
        breakers: Breakers,
        tenants: Callable[[], Awaitable[Iterable[str]]],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        first_s: float = FIRST_S,
    ) -> None:
        self._afterwards = afterwards
        self._ledger = ledger
        self._catalog = catalog
        self._keys = keys
        self._upstream = upstream
        self._breakers = breakers
        self._tenants = tenants
        self._clock = clock
        self._now = now
        self._first_s = first_s
        self._name = secrets.token_hex(16)
        self._listed = float("-inf")
        self.due: dict[tuple[str, str], float] = {}
        """Tenant and name of each call that waits -> when its answer is asked for. It is empty in a gateway without the
        lease."""
        self.turn_s = TURN_S
        self._looks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def turn(self) -> None:
        """Called about once a second. Raises nothing but a cancellation."""
        try:
            if not await self._lease(_LEASE_MS):
                self.due.clear()
                await self._stop_looking()
                return
            async with asyncio.timeout(_LIST_S):
                await self._list()
            if started := self._start_looking():
                # A long answer goes on in the turns that follow.
                await asyncio.wait(started, timeout=self.turn_s)
        except LedgerUnavailable as error:
            log.warning("answers in the background are not asked for (%s)", error)
        except TimeoutError:
            log.warning(
                "Redis did not say in time which calls wait for an answer in the background"
            )
        except Exception:
            log.exception("answers in the background could not be asked for; it is tried again")

    async def stop(self) -> None:
        """Stops those that it asks for, and gives the lease back."""
        await self._stop_looking()
        try:
            await self._lease(0)
        except LedgerUnavailable as error:
            log.warning("the lease of the poller ends by itself (%s)", error)

    async def _lease(self, for_ms: int) -> bool:
        arguments = [self._name, str(for_ms)]
        return bool(await self._ledger.run_script("lease", [names.POLLER], arguments))

    async def _list(self) -> None:
        """New calls that wait, and those that do no more."""
        now = self._clock()
        if now - self._listed < LIST_EVERY_S:
            return
        self._listed = now
        tenants = sorted({*await self._tenants(), *self._ledger.tenants})
        found = await asyncio.gather(
            *(self._afterwards.waiting(tenant) for tenant in tenants), return_exceptions=True
        )
        there: set[tuple[str, str]] = set()
        lost: set[str] = set()
        for tenant, fields in zip(tenants, found, strict=True):
            if isinstance(fields, LedgerUnavailable):
                lost.add(tenant)
            elif isinstance(fields, BaseException):
                raise fields
            else:
                there.update((tenant, field) for field in fields)
        for key in [key for key in self.due if key not in there and key[0] not in lost]:
            del self.due[key]
        for key in there:
            if len(self.due) < _MOST_KNOWN:
                self.due.setdefault(key, now + self._first_s)

    def _start_looking(self) -> list[asyncio.Task[None]]:
        now = self._clock()
        late = sorted(
            (at, key) for key, at in self.due.items() if at <= now and key not in self._looks
        )
        started = []
        for _, key in late[: AT_ONCE - len(self._looks)]:
            self._looks[key] = task = asyncio.create_task(self._look_safely(key))
            started.append(task)
        return started

    async def _stop_looking(self) -> None:
        tasks = list(self._looks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_safely(self, key: tuple[str, str]) -> None:
        try:
            await self._look(*key)
        except LedgerUnavailable as error:
            log.warning("an answer in the background is asked for later (%s)", error)
        except Exception:
            log.exception("an answer in the background could not be asked for; it is tried again")
        finally:
            del self._looks[key]

    async def _look(self, tenant: str, field: str) -> None:
        """Asks for one answer. Whatever goes wrong, it is asked for again later."""
        key = (tenant, field)
        self.due[key] = self._clock() + LONGEST_S
        pending = await self._afterwards.at(tenant, field)
        if pending is None:
            # Settled meanwhile, or written by a version whose record says nothing here.
            return
        waited = max(self._now() - pending.since, 0.0)
        if waited >= KEPT_S:
            # The ledger sweeps its hold.
            await self._afterwards.forget(pending)
            return
        self.due[key] = self._clock() + min(max(self._first_s, SHARE * waited), LONGEST_S)
        seen = await self._ask(pending)
        if seen is not None:
            await self._afterwards.settle(pending, seen)
            self.due.pop(key, None)
        else:
            await self._afterwards.renew(pending)

    async def _ask(self, pending: Pending) -> LateUsage | None:
        """What the provider says of the answer now; None if it is not over, or can't be had."""
        provider = self._catalog.by_name(pending.provider)
        if provider is None or provider.family.late_meter is None:
            return None
        try:
            lease = await self._keys.get(provider.name, pending.tenant, pending.project)
            check_lease(lease, provider)
            breaker = self._breakers.of(pending.host, lease.secret.digest, tenant=pending.tenant)
            breaker.enter()
        except (CredentialUnavailable, Refused) as error:
            log.warning("the answer of call %s is asked for later (%s)", pending.call_id, error)
            return None
        try:
            async with asyncio.timeout(SILENCE_S) as limit:
                return await self._answered(pending, provider, lease, breaker, limit)
        except UpstreamError as error:
            breaker.failure()
            log.warning("the answer of call %s is asked for later (%s)", pending.call_id, error.why)
        except (AnswerCut, CredentialUnavailable, TimeoutError) as error:
            breaker.neither()
            log.warning("the answer of call %s is asked for later (%s)", pending.call_id, error)
        except BaseException:
            breaker.neither()
            raise
        return None

    async def _answered(
        self,
        pending: Pending,
        provider: Provider,
        lease: Lease,
        breaker: Breaker,
        limit: asyncio.Timeout,
    ) -> LateUsage | None:
        headers = (*_HEADERS, *provider.free_call_headers)
        outgoing = Outgoing(provider, pending.host, "GET", pending.path, headers, None, lease)
        answer = await self._upstream.send(outgoing, budget_s=provider.deadline_s)
        try:
            if answer.status >= 500:
                breaker.failure()
            elif answer.status in (408, 429):
                breaker.neither()
            else:
                breaker.success()
            make = provider.family.late_meter
            if answer.status != 200 or make is None:
                log.warning(
                    "the answer of call %s: %d; it is asked for later",
                    pending.call_id,
                    answer.status,
                )
                return None
            meter: LateMeter = make(pending.later, AnswerHead(answer.status, answer.headers))
            redactor = Redactor([lease.secret])
            now = asyncio.get_running_loop().time
            end = now() + _WHOLE_S
            async for chunk in answer.chunks():
                limit.reschedule(min(now() + SILENCE_S, end))
                meter.feed(redactor.feed(chunk))
            meter.feed(redactor.finish())
            meter.flush()
            return LateUsage(meter.finish(), meter.error, meter.later) if meter.ended else None
        finally:
            await answer.close()
