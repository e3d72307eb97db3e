"""What a call costs: whole nano-dollars, exact, rounded up once a charge.

The prices are the configuration's own, else those of genai-prices (see `source`), else our own table of what genai-prices
lacks (`builtin`). Providers go by their ids in genai-prices: `Provider.price_id`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.prices import builtin, factors, sums
from tollhouse.prices.factors import PLAIN, Ratio
from tollhouse.prices.itemised import PricedPart, parts
from tollhouse.prices.own import OF_NO_TOKENS, Override, OwnPrices
from tollhouse.prices.patterns import may_mean
from tollhouse.prices.rates import PricedModel, PricedProvider, Rates, find

CACHED_NAMES: Final = 2048
_LONGEST_NAME: Final = 256
_STANDARD_ONLY: Final = frozenset({"default", "standard"})
_STANDARD_TIERS: Final = _STANDARD_ONLY | {"", "auto"}
_UNSAID: Final = frozenset({"", "auto"})
"""The settings at the provider choose the tier."""
_WHATEVER: Final = frozenset({"batch", "annotated"})
"""No settings at the provider choose these."""
CONFIGURED: Final = "configured"
PAID: Final = "paid"
"""What the line calls a charge whose answer says what the account pays."""


TOOLS: Final = builtin.NAMES
"""A charge of this name is for a tool that the provider ran."""


class Found(NamedTuple):
    """The price of a model or a tool."""

    price: PricedModel
    source: str
    """What the line calls the table that it is from."""
    believed: bool = True
    """A rate of 0 is a price, and no gap in the table."""
    listed: bool = False
    """It is from genai-prices."""
    own: bool = True
    """It is the provider's own, and not of one that it falls back to."""
    scaled: bool = False
    """`factors` apply to it."""
    tool: bool = False
    tier: str = ""
    """The model is this tier of another one: it has no other rates."""


class Quote(NamedTuple):
    """A charge's price, and the name of the table that it is from."""

    nano_usd: int
    source: str


class PriceTable:
    """Prices by a provider's price id and model.

    Every answer is in nano-dollars. None is "no price known": the model is unknown, has no rate
    above 0 for a side (input, output) on which there are tokens, or has none for another unit that
    is counted (see `sums`). A configured price is believed as it stands, also if it is 0.
    """

    def __init__(
        self,
        providers: Mapping[str, PricedProvider],
        overrides: Mapping[str, Override] | None = None,
        clock: Callable[[], float] = time.time,
        name: str = "genai-prices",
    ) -> None:
        """``overrides`` go before ``providers``: ``{"price id/model": {"input": "2.50", "output":
        "10"}}`` (`own`). Without ``output`` there is no price for output. ``name`` is what the line
        calls ``providers``.

        Raises ValueError for an override that is not an exact price.
        """
        self._table = dict(providers)
        self._clock = clock
        self.name = name
        self.own = OwnPrices(overrides or {})
        self._found = lru_cache(CACHED_NAMES)(self._find)
        self._listed = lru_cache(CACHED_NAMES)(self._find_listed)
        self._highest = lru_cache(64)(self._find_highest)

    def renew(self, providers: Mapping[str, PricedProvider], name: str) -> None:
        """Puts ``providers`` in the place of those that it had. Calls that come later are priced by
        them."""
        self._table, self.name = dict(providers), name
        for cached in (self._found, self._listed, self._highest):
            cached.cache_clear()

    def cost(
        self,
        provider_id: str,
        charge: Charge,
        *,
        at: float | None = None,
        requested: str = "",
        host: str = "",
    ) -> int | None:
        """The price of `quote`."""
        quoted = self.quote(provider_id, charge, at=at, requested=requested, host=host)
        return None if quoted is None else quoted.nano_usd

    def quote(
        self,
        provider_id: str,
        charge: Charge,
        *,
        at: float | None = None,
        requested: str = "",
        host: str = "",
    ) -> Quote | None:
        """What ``charge`` costs at ``at`` (seconds since the epoch, default now), and by which
        table.

        ``requested``, the model that was asked for, is looked for where the model that served has
        no price, and its configured price goes before the table's. For a tool it is the model that
        used it. ``host`` is where the call went.
        """
        found = self._found(provider_id, charge.model, requested)
        if found is None:
            return None
        units, tier = charge.units, charge.tier
        tiers = tuple(tier.split("+")) if "+" in tier else (tier,)
        rates, factor = self._resolved(found, provider_id, tiers, at)
        if found.tool and units.requests > 0 and rates.requests is None:
            return None
        source = found.source
        if found.scaled:
            there = factors.regional(provider_id, host, charge.model or requested, tiers)
            if there is not PLAIN or factor is not PLAIN:
                factor = factors.times(factor, there)
                source = f"{source} {factors.shown(factor)}".rstrip()
        nano_usd = sums.charge(rates, units, found.believed, factor, charge.calls)
        return None if nano_usd is None else Quote(nano_usd, source)

    def itemised(
        self,
        provider_id: str,
        charge: Charge,
        *,
        at: float | None = None,
        requested: str = "",
        host: str = "",
    ) -> list[PricedPart] | None:
        """What `quote` adds up, unit by unit. None where it has no price."""
        found = self._found(provider_id, charge.model, requested)
        if (
            found is None
            or self.quote(provider_id, charge, at=at, requested=requested, host=host) is None
        ):
            return None
        tiers = tuple(charge.tier.split("+"))
        rates, factor = self._resolved(found, provider_id, tiers, at)
        if found.scaled:
            there = factors.regional(provider_id, host, charge.model or requested, tiers)
            factor = factors.times(factor, there)
        return parts(rates, charge.units, factor, charge.calls)

    def ceiling(
        self,
        provider_id: str,
        model: str,
        estimate: Estimate,
        *,
        tier: str = "",
        at: float | None = None,
        worst: bool = False,
        host: str = "",
    ) -> int | None:
        """The most that a call of ``estimate`` can cost: the dearest of the rates that fewer tokens
        could meet, input counted as written to the cache where that is dearer. None as well where
        there is no price for audio that it asks for.

        ``tier`` is the ``service_tier`` asked for: its rate if it is dearer than the standard one
        (a tier may be served as standard). Of a tier that the table has not for any model, the
        dearest. With ``worst`` the dearest of all, unless the standard one is asked for by name:
        ``auto``, or none, is what the settings at the provider say
        (https://platform.openai.com/docs/api-reference/chat/create#chat-create-service_tier).
        """
        found = self._found(provider_id, model, "")
        if found is None:
            return None
        asked = tuple(tier.split("+"))
        there = PLAIN
        if found.scaled:
            there = factors.regional(provider_id, host, model, asked, worst=worst)
        highest: int | None = None
        for tiers in self._tiers_to_hold(found, provider_id, asked, worst):
            rates, factor = self._resolved(found, provider_id, tiers, at)
            if found.tool and estimate.units.requests > 0 and rates.requests is None:
                return None
            amount = sums.most(rates, estimate, found.believed, factors.times(factor, there))
            if amount is None:
                return None
            highest = amount if highest is None else max(highest, amount)
        return highest

    @staticmethod
    def _tiers_to_hold(
        found: Found, provider_id: str, asked: tuple[str, ...], worst: bool
    ) -> list[tuple[str, ...]]:
        """The tiers that a call may be served at: the standard one, those that it may get, and all
        words that it asks for together."""
        choices: list[str] = []
        known = dict.fromkeys(name for name, _, _ in found.price.tiers)
        standard = _STANDARD_ONLY if worst and not found.tool else _STANDARD_TIERS
        for name in asked:
            if name in standard or name in factors.WORDS.get(provider_id, ()):
                continue
            if name in _UNSAID:
                choices += [other for other in known if other not in _asked_only(known)]
            elif name in known and not worst:
                choices.append(name)
            elif (provider_id, name) in factors.TIERS and name not in known:
                choices += [name, *known]
            else:
                choices += known
        return [(), *((name,) for name in choices), *([asked] if len(asked) > 1 else ())]

    def entry(self, provider_id: str, model: str) -> int:
        """A number for the entry that has the price of ``model``: two names that are priced alike have the same. 0 if it has
        no price."""
        found = self._found(provider_id, model, "")
        return 0 if found is None else id(found.price)

    def window(self, provider_id: str, model: str) -> int | None:
        """The context window of a model of the table in tokens; None if it is not known."""
        name = builtin.of_fast(provider_id, model) or model
        listed = self._listed(provider_id, name) if len(name) <= _LONGEST_NAME else None
        return None if listed is None else listed[0].window

    def dearest(
        self, provider_id: str, units: Units, *, tier: str = "", host: str = ""
    ) -> int | None:
        """``units`` at the highest rates of any model of the provider, whatever its tier and date,
        times the factors of ``tier`` and ``host``; for calls to a model without a price where the
        project says ``unpriced = "dearest"``. Audio and images count at the highest rate of their
        kind, all other tokens at the highest of any.
        None if the provider has no prices at all, or none for a unit beside the tokens or for audio
        that is counted."""
        tiers = tuple(tier.split("+"))
        factor = factors.regional(provider_id, host, "", tiers)
        for name in tiers:
            over, _ = factors.TIERS.get((provider_id, name), (PLAIN, ""))
            if over[0] > over[1]:
                factor = factors.times(factor, over)
        return sums.dearest(self._highest(provider_id), units, factor)

    def found(self, provider_id: str, model: str, requested: str = "") -> Found | None:
        """The price of ``model``, or of ``requested`` where it has none; of a tool as ``requested``
        uses it."""
        return self._found(provider_id, model, requested)

    def fits(self, provider_id: str, pattern: str) -> bool:
        """Whether any model that ``pattern`` fits can have a price, as far as names are known."""
        pattern = pattern.lower()
        if self.own.fits(provider_id, pattern) or builtin.fits(provider_id, pattern):
            return True
        start = self._table.get(provider_id)
        owners = () if start is None else (provider_id, *start.fallback)
        return any(
            may_mean(model.match, pattern)
            for owner in owners
            if owner in self._table
            for model in self._table[owner].models
        )

    def _find(self, provider: str, model: str, requested: str) -> Found | None:
        if model in TOOLS:
            return self._find_tool(provider, model, requested)
        names = [name for name in (model, requested) if name and len(name) <= _LONGEST_NAME]
        if builtin.of_fast(provider, requested):
            # The answer may name the model without its speed.
            names.reverse()
        for name in names if self.own else ():
            if (configured := self.own.find(provider, name)) is not None:
                return Found(configured, CONFIGURED)
        for name in names:
            if (free := builtin.free(provider, name)) is not None:
                return Found(free, builtin.NAME)
            plain = builtin.of_fast(provider, name)
            if (listed := self._listed(provider, plain or name)) is not None:
                price, own = listed
                tier = "fast" if plain else ""
                if tier and all(tier != other for other, _, _ in price.tiers):
                    continue
                return Found(
                    price,
                    self.name,
                    believed=False,
                    listed=True,
                    own=own or builtin.has_their_tiers(provider, name),
                    scaled=True,
                    tier=tier,
                )
            if (built_in := builtin.model(provider, name)) is not None:
                return Found(built_in, builtin.NAME, scaled=True)
        return None

    def _find_tool(self, provider: str, tool: str, model: str) -> Found | None:
        """A configured entry for many models (``openai/*``) is no tool's price if it has tokens
        alone."""
        configured = self.own.find(provider, tool) if self.own else None
        if configured is not None:
            [(_, rates)] = configured.rows
            if any(getattr(rates, unit) is not None for unit in OF_NO_TOKENS):
                return Found(configured, CONFIGURED, tool=True)
        built_in = builtin.tool(provider, tool, model)
        return None if built_in is None else Found(built_in, builtin.NAME, tool=True)

    def _find_listed(self, provider: str, model: str) -> tuple[PricedModel, bool] | None:
        return find(self._table, provider, model)

    def _resolved(
        self, found: Found, provider: str, tiers: tuple[str, ...], at: float | None
    ) -> tuple[Rates, Ratio]:
        """The rates that hold, and the factor of a tier that they have no row of."""
        price = found.price
        if at is None and (len(price.rows) > 1 or price.tiers):
            at = self._clock()
        now = at or 0.0
        rates, factor = sums.resolve(price, found.tier, now), PLAIN
        for tier in tiers:
            if not tier or tier == found.tier:
                continue
            # A model of a provider that is fallen back to has no tiers here: genai_prices drops the context in that case.
            for name, constraint, _ in price.tiers if found.own else ():
                if name == tier and sums.holds(constraint, now):
                    rates = sums.served_at(rates, price, tier, now)
                    break
            else:
                if found.scaled and (provider, tier) in factors.TIERS:
                    factor = factors.times(factor, factors.TIERS[provider, tier][0])
        return rates, factor

    def _find_highest(self, provider: str) -> Rates:
        start = self._table.get(provider)
        owners = (
            ()
            if start is None
            else (start, *(self._table[name] for name in start.fallback if name in self._table))
        )
        every = [rates for owner in owners for model in owner.models for rates in _all_rates(model)]
        # A 0 of the table is a gap; a configured one is a price.
        every = [Rates(*(rate or None for rate in rates)) for rates in every]
        return sums.highest([*every, *self.own.of(provider)])


def _asked_only(known: Iterable[str]) -> frozenset[str]:
    """Tiers that a call gets only if it asks for them. ``fast`` is Claude's ``speed`` where there is
    no ``priority``, and else OpenAI's other name for that one."""
    return frozenset({*_WHATEVER, *(() if "priority" in known else ("fast",))})


def _all_rates(model: PricedModel) -> Iterable[Rates]:
    yield from (rates for _, rates in model.rows)
    yield from (rates for _, _, rates in model.tiers)
