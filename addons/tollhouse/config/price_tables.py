"""The tables of prices in tollhouse.toml: ``[prices."provider/model"]``, and what stands below it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tollhouse.config.models import Table
from tollhouse.config.values import (
    CharacterPrice,
    ImagePrice,
    List,
    PagePrice,
    Price,
    RequestPrice,
    SearchPrice,
    SecondPrice,
    Text,
)


class PriceAboveConfig(Table):
    """What a call with more than ``tokens`` of input costs, all of it. A price that is not here stays as it is below."""

    tokens: Annotated[int, Field(ge=1, le=1_000_000_000)]
    input: Price | None = None
    output: Price | None = None
    cached: Price | None = None
    cache_write: Price | None = None
    reasoning: Price | None = None
    input_image: Price | None = None
    output_image: Price | None = None
    input_audio: Price | None = None
    output_audio: Price | None = None
    cached_audio: Price | None = None


class PriceTierConfig(Table):
    """What a service tier changes, once it was served at that tier."""

    input: Price | None = None
    output: Price | None = None
    cached: Price | None = None
    cache_write: Price | None = None
    reasoning: Price | None = None
    input_image: Price | None = None
    output_image: Price | None = None
    input_audio: Price | None = None
    output_audio: Price | None = None
    cached_audio: Price | None = None
    characters: CharacterPrice | None = None
    second: SecondPrice | None = None
    image: ImagePrice | None = None
    page: PagePrice | None = None
    search: SearchPrice | None = None
    request: RequestPrice | None = None


class PriceConfig(Table):
    """USD as decimal strings: per million tokens or characters, and for one of what has its name.

    The entry is the whole price of a model, or of a tool by its name: a counted unit without a price here is unpriced. The
    keys are those of `prices.own`. An entry that prices tokens has to price input and output: without the latter answers
    would be free (`price_rules`).
    """

    input: Price | None = None
    output: Price | None = None
    cached: Price | None = None
    """None for this and the next four: such tokens cost what input, or output, costs."""
    cache_write: Price | None = None
    reasoning: Price | None = None
    input_image: Price | None = None
    output_image: Price | None = None
    input_audio: Price | None = None
    output_audio: Price | None = None
    cached_audio: Price | None = None
    """None: what input_audio costs."""
    characters: CharacterPrice | None = None
    second: SecondPrice | None = None
    """Of sound or video."""
    image: ImagePrice | None = None
    page: PagePrice | None = None
    search: SearchPrice | None = None
    request: RequestPrice | None = None
    """Beside all else; None: nothing."""
    above: Annotated[tuple[PriceAboveConfig, ...], List, Field(min_length=1)] | None = None
    """In ascending order of ``tokens``."""
    tier: dict[Text, PriceTierConfig] | None = None
