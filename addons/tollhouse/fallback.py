"""A call that its provider could not serve, as its fallback is asked: the same judgement, another provider.

A fallback gets only what can be asked of it in the provider's place: a metered call that makes
nothing and names nothing that is kept. Every gate that goes by the provider is passed again: the
path, the body, the project's list of models, the hold, the key. Where one of them refuses, there is
no fallback, and the client gets the first provider's answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from tollhouse.admit.authority import base_host
from tollhouse.call import Admitted, Covered, Requested
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.denial import Refused
from tollhouse.dispatch.answering import Answering
from tollhouse.dispatch.delivery import Delivery
from tollhouse.dispatch.relay import Relay
from tollhouse.dispatch.retry import SDK_STOPS
from tollhouse.dispatch.sign import check_lease
from tollhouse.dispatch.upstreamed import Upstreamed
from tollhouse.frames import Room
from tollhouse.providers import Catalog, Provider
from tollhouse.trip import Trip

log = logging.getLogger(__name__)


class Reads(Protocol):
    """The gate that reads a body (`admit`): ``again`` reads that of a call for another provider. Raises `Refused`."""

    def again(self, requested: Requested, admitted: Admitted, /) -> Awaitable[Requested]: ...


class Judges(Protocol):
    """The gate that compares the call's models with the project's list. There is no client to talk to a second time, so
    ``exchange`` is None. Raises `Refused`."""

    def __call__(self, requested: Requested, exchange: object, /) -> Awaitable[Requested]: ...


class FallsBack(Protocol):
    """The purse: ``fall_back`` enlarges the call's hold to the fallback's price. None: the budget does not cover that. With
    ``unknown`` the first provider may charge for the call as well."""

    def fall_back(
        self, call_id: str, requested: Requested, /, *, unknown: bool
    ) -> Awaitable[Covered | None]: ...


class Keys(Protocol):
    """The store of the providers' keys. Raises `CredentialUnavailable`."""

    async def get(self, provider: str, tenant: str, project: str) -> Lease: ...


class Fallbacks:
    """``read`` and ``models`` are the gates of the road, ``purse`` has the call's hold."""

    def __init__(
        self, catalog: Catalog, read: Reads, models: Judges, purse: FallsBack, keys: Keys
    ) -> None:
        self._catalog = catalog
        self._read = read
        self._models = models
        self._purse = purse
        self._keys = keys

    async def clearance(self, requested: Requested, *, unknown: bool) -> Clearance | None:
        """The proof that the call passes every gate at its fallback too; None if it does not.
        ``requested`` is the call as its body was read, before anything in it was changed. With
        ``unknown`` an attempt of unknown fate was made. Raises nothing but a cancellation."""
        admitted = requested.admitted
        provider = self._catalog.by_name(admitted.provider.fallback)
        if provider is None or not _stateless(requested):
            return None
        try:
            there = _admitted_at(provider, admitted)
            if there is None:
                return None
            reread = await self._models(await self._read.again(requested, there), None)
            if not _stateless(reread):
                return None
            project = admitted.project
            lease = await self._keys.get(provider.name, project.tenant, project.id)
            check_lease(lease, provider)
            covered = await self._purse.fall_back(admitted.id, reread, unknown=unknown)
        except Refused as refusal:
            log.warning(
                "call %s is not sent to %s (%s)", admitted.id, provider.name, refusal.denial.code
            )
            return None
        except CredentialUnavailable as error:
            log.warning("call %s is not sent to %s (%s)", admitted.id, provider.name, error.why)
            return None
        except Exception:
            log.exception("call %s is not sent to %s", admitted.id, provider.name)
            return None
        return None if covered is None else Clearance(covered, lease, covered.requested.body)


async def answered(
    trip: Trip, delivery: Delivery, relay: Relay, fallbacks: Fallbacks | None
) -> Answering:
    """The answer of the provider, or of its fallback where the provider does not serve the call and the fallback does."""
    return await _served(trip, delivery, relay, fallbacks, Delivery.answer)


async def connected(
    trip: Trip,
    delivery: Delivery,
    relay: Relay,
    fallbacks: Fallbacks | None,
    longest: int,
    room: Room,
) -> Upstreamed | Answering:
    """The same for a WebSocket: no message has passed yet."""
    return await _served(trip, delivery, relay, fallbacks, lambda one: one.connect(longest, room))


async def _served[T: Answering | Upstreamed](
    trip: Trip,
    delivery: Delivery,
    relay: Relay,
    fallbacks: Fallbacks | None,
    ask: Callable[[Delivery], Awaitable[T]],
) -> T:
    """What ``ask`` gives of ``delivery``, or of the fallback's. Raises `Refused`."""
    first = await _result(ask, delivery)
    # An answer may stream for hours, and nobody needs the body that was read any more.
    read, trip.read = trip.read, None
    if read is not None and fallbacks is not None and delivery.may_fall_back:
        await delivery.keep()
        clearance = await fallbacks.clearance(read, unknown=delivery.unknown > 0)
        if clearance is not None:
            # If the client leaves now, its end is what counts.
            trip.delivery = other = relay.delivery(clearance, delivery)
            second = await _result(ask, other)
            if isinstance(second, Upstreamed) or (
                isinstance(second, Answering) and second.status < 400
            ):
                await delivery.close()
                trip.stage, trip.fallback_from = clearance.covered, read.admitted.provider.name
                there = clearance.covered.requested.admitted.provider
                trip.notes_objects = clearance.lease.shared and not there.share_objects
                return second
            await _go_back(trip, delivery, first, second)
    if isinstance(first, Refused):
        raise first
    return first


async def _result[T](ask: Callable[[Delivery], Awaitable[T]], delivery: Delivery) -> T | Refused:
    """What ``ask`` gives, or the refusal that it raises."""
    try:
        return await ask(delivery)
    except Refused as refused:
        return refused


async def _go_back(
    trip: Trip,
    delivery: Delivery,
    first: Upstreamed | Answering | Refused,
    second: Upstreamed | Answering | Refused,
) -> None:
    """The client gets what the first provider gave, because the fallback gave an error or no answer. The call keeps what the
    fallback has cost: its attempts and the time that was waited for it."""
    if isinstance(second, Refused):
        log.warning("call %s: its fallback does not serve it (%s)", trip.id, second.denial.code)
    elif isinstance(second, Answering):
        await second.close()
    assert trip.delivery is not None
    if trip.delivery.sdk_stops:
        # An SDK that asks the first one again asks the fallback again as well.
        if isinstance(first, Answering):
            first.stop_sdk()
        elif isinstance(first, Refused) and SDK_STOPS not in first.denial.headers:
            first.denial = replace(first.denial, headers=(*first.denial.headers, SDK_STOPS))
    delivery.take_wait_of(trip.delivery)
    trip.delivery = delivery


def _stateless(requested: Requested) -> bool:
    """Whether another provider can be asked for the call. It is metered, it creates nothing, it names no object, and its body
    can be sent again."""
    admitted, body = requested.admitted, requested.body
    if body is not None and not isinstance(body, bytes) and not body.repeatable:
        return False
    named = admitted.objects or requested.asked.objects or requested.pending is not None
    return admitted.operation.metered and not requested.creates and not named


def _admitted_at(provider: Provider, admitted: Admitted) -> Admitted | None:
    """The same call, at ``provider``; None if it has no such endpoint."""
    host, path = base_host(provider), admitted.path
    ours, theirs = admitted.provider.openai_path, provider.openai_path
    if ours is not None and theirs is not None and path.startswith(f"{ours}/"):
        path = theirs + path.removeprefix(ours)
    matched = provider.family.match(
        admitted.arrival.head.method, path, admitted.query, host, socket=admitted.operation.socket
    )
    if matched is None or matched.operation.kind != admitted.operation.kind:
        return None
    return admitted._replace(
        provider=provider,
        host=host,
        path=path,
        operation=matched.operation,
        objects=matched.objects,
    )
