import gc
import random
import re
import weakref
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from genai_prices import Usage as GenaiUsage
from genai_prices import calc_price
from genai_prices.data import providers

from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.prices.builtin import is_free
from tollhouse.prices.factors import TIERS
from tollhouse.prices.rates import PricedProvider
from tollhouse.prices.table import CACHED_NAMES, PriceTable
from tollhouse.providers import BUILT_IN, Provider

_NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
_DATES = [
    datetime(2024, 5, 1, tzinfo=UTC),
    datetime(2026, 3, 12, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 13, tzinfo=UTC),
    datetime(2026, 11, 23, 3, 59, 59, tzinfo=UTC),
    datetime(2026, 11, 23, 4, tzinfo=UTC),
    datetime(2027, 1, 1, 20, tzinfo=UTC),
]


AUDIO = frozenset({"input_audio", "output_audio", "cached_audio"})
IMAGES = frozenset({"input_image", "output_image"})


@pytest.fixture
def table(priced: dict[str, PricedProvider]) -> PriceTable:
    """The table without overrides, at a fixed time."""
    return PriceTable(priced, clock=lambda: _NOW)


def spent(model: str, tier: str = "", /, **units: int) -> Charge:
    return Charge(model, Units(**units), tier)


def held(**units: int) -> Estimate:
    return Estimate(Units(**units))


def _units(dice: random.Random, audio: bool, images: bool, cached_audio: bool) -> Units:
    size = dice.choice([10, 3_000, 99_000, 150_000, 300_000, 5_000_000])

    def some(wanted: bool = True) -> int:
        return dice.choice([0, dice.randrange(size)]) if wanted else 0

    cached, write, heard, seen = some(), some(), some(audio), some(images)
    reasoning, speech, drawn = some(), some(audio), some(images)
    return Units(
        input=dice.randrange(1, size) + cached + write + heard + seen,
        cached=cached,
        cache_write=write,
        input_audio=heard,
        cached_audio=dice.choice([0, min(cached, heard)]) if cached_audio else 0,
        input_image=seen,
        output=dice.choice([0, dice.randrange(1, size)]) + reasoning + speech + drawn,
        reasoning=reasoning,
        output_audio=speech,
        output_image=drawn,
        requests=1,
    )


def _gp(units: Units) -> Any:
    return GenaiUsage(
        input_tokens=units.input,
        cache_read_tokens=units.cached,
        cache_write_tokens=units.cache_write,
        input_audio_tokens=units.input_audio,
        cache_audio_read_tokens=units.cached_audio,
        input_image_tokens=units.input_image,
        # `Units` do not tell which cached tokens are of images: none is.
        cache_image_read_tokens=0,
        output_tokens=units.output,
        output_reasoning_tokens=units.reasoning,
        output_audio_tokens=units.output_audio,
        output_image_tokens=units.output_image,
        audio_seconds=Decimal(units.milliseconds) / 1000,
        input_audio_seconds=Decimal(units.milliseconds) / 1000,
        input_characters=units.characters,
        input_document_pages=units.pages,
        web_searches=units.searches,
    )


def _context(tier: str) -> dict[str, str] | None:
    """What a tier is called in genai-prices: ``fast`` is a service tier of OpenAI's and a speed of
    Claude's."""
    return {"service_tier": tier, **({"speed": tier} if tier == "fast" else {})} if tier else None


def _expected(provider: str, model: str, units: Units, tier: str, at: datetime) -> int | None:
    try:
        price = calc_price(
            _gp(units),
            model,
            provider_id=provider,
            genai_request_timestamp=at,
            price_context=_context(tier),
        )
    except LookupError:
        return None
    if (units.input and not price.input_price) or (units.output and not price.output_price):
        return None
    if (units.input_audio and price.model_price.input_audio_mtok is None) or (
        units.output_audio and price.model_price.output_audio_mtok is None
    ):
        return None
    return int((price.total_price * 10**9).to_integral_value(ROUND_CEILING))


@pytest.mark.parametrize("provider", sorted({provider.price_id for provider in BUILT_IN}))
def test_a_cost_is_genai_prices_total_rounded_up(table: PriceTable, provider: str) -> None:
    """Every model, random usages, dates and tiers: the same sum to the nano-dollar. There is no
    price where theirs would be 0, or where audio would go for text."""
    dice = random.Random(provider)
    compared = audio = 0
    for model in next(p for p in providers if p.id == provider).models:
        rows = (
            [model.prices]
            if not isinstance(model.prices, list)
            else [row.prices for row in model.prices]
        )
        # What of cached input is audio, genai-prices does not ask where it has no price of its own.
        apart = all(prices.cache_audio_read_mtok is not None for prices in rows)
        # Some models' ids are not among the names that they match.
        for name in (
            model.id,
            re.sub(r"^(?:regional|global)\.", "", model.id),
            f"{model.id}-latest",
            *((f"accounts/fireworks/models/{model.id}",) if provider == "fireworks" else ()),
        ):
            for turn in range(6):
                units, at = _units(dice, turn % 2 == 0, turn % 3 == 0, apart), dice.choice(_DATES)
                tier = dice.choice(["", "", "default", "flex", "priority", "fast", "unheard-of"])
                if (provider, tier) in TIERS:
                    tier = "flex"
                cost = table.cost(provider, Charge(name, units, tier), at=at.timestamp())
                expected = (
                    0 if is_free(provider, name) else _expected(provider, name, units, tier, at)
                )
                if provider == "openrouter" and cost is not None and expected is not None:
                    # Some of its prices are the results of a division, which are rounded up.
                    cost -= cost - expected == 1
                assert cost == expected, (name, units, tier, at)
                compared += cost is not None
                audio += cost is not None and units.input_audio > 0
    assert compared > 10
    assert audio > 5 or provider not in ("aws", "google", "openai")


@pytest.mark.parametrize(
    ("provider", "model", "units", "expected"),
    [
        ("openai", "whisper-1", Units(milliseconds=61_500), 6_150_000),
        ("openai", "gpt-live-transcribe", Units(milliseconds=1), 284),
        ("openai", "gpt-live-transcribe", Units(milliseconds=3_600_000), 1_020_000_000),
        ("openai", "gpt-transcribe", Units(milliseconds=1_000), 75_000),
        ("openai", "tts-1", Units(characters=1_000), 15_000_000),
        ("mistral", "mistral-ocr-2505", Units(pages=12), 12_000_000),
        (
            "mistral",
            "voxtral-small-24b-2507",
            Units(input=1_000, output=100, milliseconds=9_000),
            730_000,
        ),
        ("google", "gemini-2.5-flash", Units(input=1_000, output=10, searches=2), 70_325_000),
        ("google", "gemini-2.5-flash", Units(input=1_000, input_audio=1_000), 1_000_000),
        (
            "google",
            "gemini-2.5-flash-image",
            Units(input=10, output=1_300, output_image=1_290),
            38_728_000,
        ),
        (
            "openai",
            "gpt-image-1",
            Units(input=100, input_image=60, output=50, output_image=50),
            2_800_000,
        ),
        (
            "openai",
            "gpt-realtime",
            Units(input=90, input_audio=50, input_image=30, output=9, output_audio=9),
            2_366_000,
        ),
    ],
)
def test_what_units_cost(
    table: PriceTable, provider: str, model: str, units: Units, expected: int
) -> None:
    """By the prices of genai-prices: time, characters, pages, searches, audio and images; and
    genai-prices agrees."""
    at = _DATES[2]
    assert table.cost(provider, Charge(model, units), at=at.timestamp()) == expected
    assert _expected(provider, model, units, "", at) == expected
    assert (
        table.ceiling(provider, model, Estimate(units, may=AUDIO | IMAGES), at=at.timestamp())
        >= expected
    )  # type: ignore[operator]


@pytest.mark.parametrize(
    "units",
    [
        {"milliseconds": 1},
        {"characters": 1},
        {"images": 1},
        {"pages": 1},
        {"input": 9, "input_audio": 1},
        {"output": 9, "output_audio": 1},
        {"input": 9, "cached": 5, "cached_audio": 5},
    ],
    ids=lambda units: list(units)[-1],
)
def test_a_unit_without_a_price_has_none(table: PriceTable, units: dict[str, int]) -> None:
    """A text model is not believed to know what another unit costs, neither beforehand nor
    afterwards."""
    assert table.cost("openai", spent("gpt-4o-mini", **units)) is None
    assert table.ceiling("openai", "gpt-4o-mini", held(**units)) is None


def test_what_is_asked_for_needs_a_price(table: PriceTable) -> None:
    """Audio at a text model is refused beforehand; where audio may come, it is held at its
    price."""
    units = Units(input=1_000, output=100)
    heard, spoken = (
        Estimate(units, asks=frozenset({"input_audio"})),
        Estimate(units, asks=frozenset({"output_audio"})),
    )
    assert table.ceiling("openai", "gpt-4o-mini", heard) is None
    assert table.ceiling("openai", "gpt-4o-transcribe", heard) == 1_000 * 6_000 + 100 * 10_000
    assert table.ceiling("openai", "gpt-4o-transcribe", spoken) is None
    assert table.ceiling("openai", "gpt-audio", spoken) == 1_000 * 2_500 + 100 * 64_000
    assert (
        table.ceiling("openai", "gpt-audio", Estimate(units, may=AUDIO))
        == 1_000 * 32_000 + 100 * 64_000
    )
    assert (
        table.ceiling("openai", "gpt-4o-mini", Estimate(units, may=AUDIO))
        == 1_000 * 150 + 100 * 600
    )
    drawn = Estimate(units, asks=frozenset({"output_image"}))
    assert table.ceiling("google", "gemini-2.5-flash-image", drawn) == 1_000 * 300 + 100 * 30_000
    assert table.ceiling("openai", "gpt-image-1", drawn) == 1_000 * 5_000 + 100 * 40_000


def test_the_dearest_of_a_provider(table: PriceTable) -> None:
    """The highest rate of any model: o1-pro's for text, gpt-realtime's and the preview's for audio,
    and of other units."""
    assert (
        table.dearest("openai", Units(input=1_000, output=100)) == 1_000 * 150_000 + 100 * 600_000
    )
    assert (
        table.dearest("openai", Units(input=1_000, input_audio=400)) == 600 * 150_000 + 400 * 40_000
    )
    assert table.dearest("openai", Units(output=100, output_audio=100)) == 100 * 80_000
    assert table.dearest("openai", Units(output=100, output_image=100)) == 100 * 32_000
    assert (
        table.dearest("openai", Units(milliseconds=3_600_000, characters=10))
        == 3_000_000_000 + 300_000
    )
    assert table.dearest("openai", Units(searches=2)) == 2 * 10_000_000
    assert table.dearest("openai", Units(images=1)) is None
    assert table.dearest("anthropic", Units(input=10, input_audio=5)) is None
    assert table.dearest("cohere", Units(milliseconds=1)) is None


def test_a_ceiling_is_never_below_a_cost(table: PriceTable) -> None:
    """Whatever part of the held tokens is used, cached, written or reasoned with, spoken or drawn,
    it costs no more than was held."""
    dice = random.Random(1)
    compared = 0
    for provider in ("openai", "anthropic", "google"):
        for model in next(p for p in providers if p.id == provider).models:
            for turn in range(6):
                units = _units(dice, turn % 2 == 0, turn % 3 == 0, cached_audio=True)
                tier = dice.choice(["", "flex", "priority", "auto", "scale"])
                more = Units(
                    units.input + dice.randrange(9**6),
                    units.output + dice.randrange(9**6),
                    requests=1,
                )
                estimate = Estimate(more, may=AUDIO | IMAGES)
                ceiling = table.ceiling(provider, model.id, estimate, tier=tier)
                worst = table.ceiling(provider, model.id, estimate, tier=tier, worst=True)
                # Elsewhere these two are served only to who asks for them.
                dearer = ("priority", "fast") if provider == "openai" or tier == "priority" else ()
                for served in ("default", "flex", "scale", *dearer):
                    cost = table.cost(provider, Charge(model.id, units, served))
                    assert None in (cost, worst) or cost <= worst, (model.id, units, tier, served)  # type: ignore[operator]
                for served in {"", "default", *({tier} if tier != "auto" else ())}:
                    cost = table.cost(provider, Charge(model.id, units, served))
                    if cost is None or ceiling is None:
                        continue
                    assert cost <= ceiling, (model.id, units, tier, served)
                    dearest = table.dearest(provider, more, tier=tier)
                    assert dearest is not None
                    assert ceiling <= dearest
                    compared += 1
    assert compared > 500


def test_a_cheap_token_costs_its_nano_dollars(table: PriceTable) -> None:
    """An embedding token costs 20 nano-dollars, and a fraction is rounded up once a call."""
    assert table.cost("openai", spent("text-embedding-3-small", input=1)) == 20
    assert table.cost("anthropic", spent("claude-haiku-5-5", input=3, cached=3), at=_NOW) == 30
    nano = {"openai/tiny": {"input": "0.0005"}}
    assert PriceTable({}, nano).cost("openai", spent("tiny", input=1)) == 1
    assert PriceTable({}, nano).cost("openai", spent("tiny", input=2)) == 1
    assert PriceTable({}, nano).cost("openai", spent("tiny", input=3)) == 2


def test_a_tier_of_input_is_a_cliff(table: PriceTable) -> None:
    """One token above the start moves the whole call to the higher rate; a ceiling that reaches it
    is held at it."""
    below = table.cost("openai", spent("gpt-5.5", input=272_000, output=1), at=_NOW)
    above = table.cost("openai", spent("gpt-5.5", input=272_001, output=1), at=_NOW)
    assert below is not None
    assert above is not None
    assert above > 1.9 * below
    assert table.ceiling("openai", "gpt-5.5", held(input=272_001, output=1)) == above


def test_prices_change_by_date(table: PriceTable) -> None:
    """The price is that of the call's time, not of today."""
    old = table.cost(
        "openai", spent("o3", input=1_000_000), at=datetime(2025, 6, 9, tzinfo=UTC).timestamp()
    )
    new = table.cost(
        "openai", spent("o3", input=1_000_000), at=datetime(2025, 6, 10, tzinfo=UTC).timestamp()
    )
    assert old is not None
    assert new is not None
    assert old > new


def test_a_dearer_tier_is_held_for_and_a_cheaper_one_is_not_believed(table: PriceTable) -> None:
    """For priority: its rate. For flex: the standard one, as it may be served as standard. Unknown:
    the dearest."""
    most = {
        t: table.ceiling("openai", "gpt-5.4-mini", held(input=10**6), tier=t)
        for t in ("", "auto", "flex", "priority", "scale")
    }
    assert most == {
        "": 750_000_000,
        "auto": 750_000_000,
        "flex": 750_000_000,
        "priority": 1_500_000_000,
        "scale": 1_500_000_000,
    }


def test_the_dearest_tier_is_held_for_where_the_providers_settings_choose(
    table: PriceTable,
) -> None:
    """At worst: only who asks for the standard tier is sure to get it."""
    most = {
        t: table.ceiling("openai", "gpt-5.4-mini", held(input=10**6), tier=t, worst=True)
        for t in ("", "auto", "flex", "priority", "default", "standard")
    }
    assert most == {
        **dict.fromkeys(most, 1_500_000_000),
        "default": 750_000_000,
        "standard": 750_000_000,
    }


def test_what_is_written_to_the_cache_is_held_for(table: PriceTable) -> None:
    """Where it is dearer than other input."""
    written = table.cost("openai", spent("gpt-6-sol", input=1000, cache_write=1000), at=_NOW)
    assert written == 2_500_000
    assert table.ceiling("openai", "gpt-6-sol", held(input=1000), at=_NOW) == written


def test_context_windows(table: PriceTable, priced: dict[str, PricedProvider]) -> None:
    """Of the models that have one in the table; a configured price changes nothing."""
    assert table.window("openai", "gpt-4o-2024-08-06") == 128_000
    assert table.window("openai", "gpt-5.4") == 1_050_000
    assert table.window("google", "claude-4-opus") == 200_000
    assert [
        table.window(*what)
        for what in (("openai", "nobody"), ("vllm", "gpt-4o"), ("openai", "gpt-4o" * 99))
    ] == [
        None,
        None,
        None,
    ]
    mine = PriceTable(priced, {"openai/gpt-4o": {"input": "1"}})
    assert mine.window("openai", "gpt-4o") == 128_000


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.name)
def test_no_window_of_a_provider_is_longer_than_its_default(
    priced: dict[str, PricedProvider], provider: Provider
) -> None:
    """What is held for a model that the table does not know is not less than for one that it
    does."""
    owner = priced[provider.price_id]
    every = [
        model for name in (provider.price_id, *owner.fallback) for model in priced[name].models
    ]
    assert max(model.window or 0 for model in every) <= provider.most_input(None)


@pytest.mark.parametrize(
    "model",
    ["", "nonsense", "dall-e-3", "moderation", "tts-1", "whisper-1", "x" * 300, "gpt-4o" * 50],
)
def test_without_a_price_there_is_none(table: PriceTable, model: str) -> None:
    """Unknown, priced in other units, free by omission, or too long a name: None, never 0."""
    assert table.cost("openai", spent(model, input=5, output=5)) is None
    assert table.ceiling("openai", model, held(input=5, output=5)) is None
    assert table.cost("nobody", spent("gpt-4o", input=5)) is None
    assert table.dearest("nobody", Units(input=5, output=5)) is None


def test_output_of_a_model_without_a_price_for_output_is_unpriced(table: PriceTable) -> None:
    """An embeddings model cannot be charged for a chat."""
    assert table.ceiling("openai", "text-embedding-3-small", held(input=5)) == 100
    assert table.ceiling("openai", "text-embedding-3-small", held(input=5, output=5)) is None
    assert table.cost("openai", spent("text-embedding-3-small", input=5, output=5)) is None


def test_the_configuration_has_the_last_word(priced: dict[str, PricedProvider]) -> None:
    """An override replaces the price whole; without cached the input's rate holds; 0 is believed; a
    glob fits many."""
    overrides: dict[str, dict[str, str | None]] = {
        "openai/gpt-4o": {"input": "1", "output": "2", "cached": None},
        "vllm/*": {"input": "0", "output": "0"},
        "vllm/llama-*": {"input": "0.1", "output": "0.2", "cached": "0.05"},
        "vllm/embed": {"input": "3"},
    }
    table = PriceTable(priced, overrides, clock=lambda: _NOW)

    def cost(provider: str, model: str, tier: str = "", requested: str = "") -> int | None:
        charge = spent(model, tier, input=1000, cached=400, output=100)
        return table.cost(provider, charge, requested=requested)

    assert cost("openai", "GPT-4o", "priority") == 1_200_000
    assert cost("openai", "gpt-4o-2024-08-06") == 3_000_000
    assert cost("openai", "gpt-4o-2024-08-06", requested="gpt-4o") == 1_200_000
    assert cost("openai", "not-known", requested="gpt-4o-2024-08-06") == 3_000_000
    assert cost("vllm", "anything") == 0
    assert table.ceiling("vllm", "anything", held(input=10, output=10)) == 0
    assert cost("vllm", "llama-9") == 600 * 100 + 400 * 50 + 100 * 200
    assert table.ceiling("vllm", "embed", held(input=10)) == 30_000
    assert table.ceiling("vllm", "embed", held(input=10, output=1)) is None
    assert table.dearest("vllm", Units(input=1, output=1)) == 3_000 + 200


OWN = {
    "input": "1",
    "output": "2",
    "cached": "0.5",
    "cache_write": "1.5",
    "reasoning": "3",
    "input_audio": "10",
    "output_audio": "20",
    "cached_audio": "4",
    "input_image": "5",
    "output_image": "6",
    "characters": "15",
    "second": "0.000000001",
    "image": "0.04",
    "page": "0.002",
    "search": "0.01",
    "request": "0.000005",
}


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (Units(input=10, cached=4), 6_000 + 2_000),
        (Units(input=10, cache_write=4), 6_000 + 6_000),
        (Units(input=10, input_audio=4), 6_000 + 40_000),
        (Units(input=10, cached=4, input_audio=4, cached_audio=4), 6_000 + 16_000),
        (Units(input=10, input_image=4), 6_000 + 20_000),
        (Units(output=10, reasoning=4), 12_000 + 12_000),
        (Units(output=10, output_audio=4), 12_000 + 80_000),
        (Units(output=10, output_image=4), 12_000 + 24_000),
        (Units(characters=3), 45_000),
        (Units(milliseconds=1), 1),
        (Units(milliseconds=2_500), 3),
        (Units(milliseconds=2_000_000), 2_000),
        (Units(images=2), 80_000_000),
        (Units(pages=3), 6_000_000),
        (Units(searches=1), 10_000_000),
        (Units(requests=2), 10_000),
    ],
)
def test_each_price_of_the_configuration(units: Units, expected: int) -> None:
    """In USD for a million tokens or characters, and for one of anything else: exact, rounded up
    once."""
    table = PriceTable({}, {"vllm/all": OWN})
    assert table.cost("vllm", Charge("all", units)) == expected
    assert table.dearest("vllm", units) is not None


def test_a_configured_price_is_all_of_a_models_price(priced: dict[str, PricedProvider]) -> None:
    """What the table knows besides is not mixed in; requests alone are free without a price."""
    table = PriceTable(
        priced, {"google/gemini-2.5-flash": {"input": "1", "output": "2", "search": "0"}}
    )

    def cost(**units: int) -> int | None:
        return table.cost("google", spent("gemini-2.5-flash", **units))

    assert cost(input=10, searches=3, requests=1) == 10_000
    assert cost(input=10, input_audio=1) is None
    assert cost(input=10, milliseconds=1) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("second", "free", "USD for one second"),
        ("image", "-1", "USD for one image"),
        ("characters", "0.0000000001", "USD for a million"),
        (
            "seconds",
            "1",
            "seconds is not a price; there are input, .*second, image, page, search, request",
        ),
    ],
)
def test_a_price_of_a_unit_that_is_none_is_an_error(name: str, text: str, said: str) -> None:
    """It names the entry, and for how many of what a price is."""
    with pytest.raises(ValueError, match=rf'prices\."openai/x".*{said}'):
        PriceTable({}, {"openai/x": {name: text}})


@pytest.mark.parametrize("text", ["", "free", "-1", "NaN", "Infinity", "0.0000000001", "1e-12"])
def test_an_override_that_is_no_exact_price_is_an_error(text: str) -> None:
    """The error names the entry and shows how a price is written."""
    with pytest.raises(ValueError, match=r'prices\."openai/x".*input.*2\.50'):
        PriceTable({}, {"openai/x": {"input": text}})
    with pytest.raises(ValueError, match="imput"):
        PriceTable({}, {"openai/x": {"imput": "1"}})


def test_contradictory_counts_never_lower_a_price(table: PriceTable) -> None:
    """More cached than there was input costs at least what the parts cost."""
    assert table.cost("openai", spent("gpt-4o", input=10, cached=1000)) == 1_250_000


class Name(str):
    """A model's name, of which a test can see whether anybody keeps it."""


def test_lookups_are_remembered_within_bounds(table: PriceTable) -> None:
    """A name that is not found is remembered too, and no stream of new names grows the memory."""
    kept: weakref.WeakSet[Name] = weakref.WeakSet()
    for number in range(3 * CACHED_NAMES):
        name = Name(f"nonsense-{number}")
        kept.add(name)
        assert table.cost("openai", spent(name, input=1)) is None
    del name
    gc.collect()
    assert CACHED_NAMES <= len(kept) <= CACHED_NAMES + 1
