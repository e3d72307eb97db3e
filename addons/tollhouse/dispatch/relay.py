"""What the deliveries of all calls share: connections, breakers, keys, and each provider's retry policy."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from tollhouse.call import Requested
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import Lease
from tollhouse.dispatch.attempts import REAL, Timing
from tollhouse.dispatch.breaker import Breaker, Breakers
from tollhouse.dispatch.delivery import Delivery
from tollhouse.dispatch.latest import kept
from tollhouse.dispatch.retry import RetryPolicy
from tollhouse.dispatch.retry_budget import ProviderRetries
from tollhouse.dispatch.upstream import Upstream
from tollhouse.providers import Provider

_POLICIES: Final = 4096
"""Of all tenants at all providers: so many are kept."""


class KeyKeeper(Protocol):
    """Who is told what a provider says of a key, and can say whether there is another one to go on with."""

    async def refused(self, lease: Lease) -> Lease | None: ...
    def cooling(self, lease: Lease, seconds: float | None) -> Lease | None: ...
    def exhausted(self, lease: Lease) -> Lease | None: ...


class Relay:
    """What all deliveries share."""

    def __init__(
        self,
        upstream: Upstream,
        breakers: Breakers,
        keys: KeyKeeper,
        *,
        abandoned_read_s: float,
        retries_a_second: float = 1.0,
        timing: Timing = REAL,
        priced_as: Callable[[str, str], int] = lambda price_id, model: 0,
    ) -> None:
        """``retries_a_second`` are the least that a provider gets: this process's part of those of the gateway.
        ``priced_as`` is `PriceTable.entry`."""
        self.upstream = upstream
        self.breakers = breakers
        self.keys = keys
        self.abandoned_read_s = abandoned_read_s
        self.timing = timing
        self._retries_a_second = retries_a_second
        self._retries: dict[str, ProviderRetries] = {}
        """By provider."""
        self._priced_as = priced_as
        self.meter_faults: Counter[str] = Counter()
        """Answers whose meter failed, by provider: since the start."""
        self._policies: OrderedDict[tuple[str, str], RetryPolicy] = OrderedDict()

    def policy(self, provider: Provider, tenant: str) -> RetryPolicy:
        """With ``tenant``'s part of the provider's budget of retries."""
        key = (provider.name, tenant)
        if key in self._policies:
            # Each call asks: a function to make one would cost as much as the look.
            self._policies.move_to_end(key)
            return self._policies[key]
        return kept(self._policies, key, lambda: self._new_policy(provider, tenant), _POLICIES)

    def _new_policy(self, provider: Provider, tenant: str) -> RetryPolicy:
        retries = self._retries.get(provider.name)
        if retries is None:
            retries = self._retries[provider.name] = ProviderRetries(
                self.timing.clock, a_second=self._retries_a_second
            )
            # A count of faults that begins with the first one looks like none to `increase()`.
            self.meter_faults[provider.name] += 0
        return RetryPolicy.of(provider, retries.of(tenant))

    def breaker(self, requested: Requested, host: str, lease: Lease) -> Breaker:
        """The one that pauses this call."""
        admitted, model = requested.admitted, requested.asked.model
        provider, label = admitted.provider, 0
        if model:
            label = self._priced_as(provider.price_id, model)
        name = ""
        if model and not label:
            # Only names that an operator has written: a client could think of any number.
            listed = admitted.project.models
            known = model in provider.models.values() or model in listed
            name = model if known or f"{provider.name}/{model}" in listed else ""
        return self.breakers.of(host, lease.secret.digest, label or name, admitted.project.tenant)

    def delivery(self, clearance: Clearance, before: Delivery | None = None) -> Delivery:
        """``before`` is that of the call's own provider, where ``clearance`` is for its fallback. Raises TypeError for
        anything but a `Clearance`: nothing leaves without one."""
        if not isinstance(clearance, Clearance):
            raise TypeError("dispatch takes a Clearance and nothing else")
        return Delivery(self, clearance, before)
