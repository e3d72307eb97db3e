import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import types
from genai_prices.data import providers

from tollhouse.prices.rates import PricedModel, PricedProvider, Rates, find
from tollhouse.prices.source import PriceSourceError, convert, read, translated
from tollhouse.providers import BUILT_IN


def a_model(prices: Any, **more: Any) -> types.ModelInfo:
    return types.ModelInfo(id="m", match=types.ClauseEquals(equals="M"), prices=prices, **more)


def a_provider(*models: types.ModelInfo) -> types.Provider:
    return types.Provider(id="p", name="P", api_pattern="", models=list(models))


def test_every_model_of_the_built_in_providers_is_there(priced: dict[str, PricedProvider]) -> None:
    """Nothing is left out, and the providers that one of them falls back to come along; no others
    do."""
    known = {provider.id: provider for provider in providers}
    built_in = {provider.price_id for provider in BUILT_IN}
    fallbacks = {other for name in built_in for other in known[name].fallback_model_providers or ()}
    assert set(priced) == built_in | fallbacks
    assert {name: len(table.models) for name, table in priced.items()} == {
        name: len(known[name].models) for name in priced
    }


def test_each_unit_has_its_key() -> None:
    """Prices become rates in ninths of a femto-dollar for one: token, millisecond, character, page,
    search, request."""
    keys = {
        "input_mtok": (1, "input", 9_000_000_000),
        "output_mtok": (2, "output", 18_000_000_000),
        "cache_read_mtok": (3, "cached", 27_000_000_000),
        "cache_write_mtok": (4, "cache_write", 36_000_000_000),
        "output_reasoning_mtok": (5, "reasoning", 45_000_000_000),
        "input_audio_mtok": (6, "input_audio", 54_000_000_000),
        "output_audio_mtok": (7, "output_audio", 63_000_000_000),
        "cache_audio_read_mtok": (8, "cached_audio", 72_000_000_000),
        "input_image_mtok": (9, "input_image", 81_000_000_000),
        "output_image_mtok": (10, "output_image", 90_000_000_000),
        "audio_hours": (36, "milliseconds", 90_000_000_000),
        "input_mchars": (15, "characters", 135_000_000_000),
        "input_document_kpages": (4, "pages", 36_000_000_000_000),
        "web_searches_kcount": (10, "searches", 90_000_000_000_000),
        "requests_kcount": (5, "requests", 45_000_000_000_000),
    }
    prices = types.ModelPrice(**{key: Decimal(price) for key, (price, _, _) in keys.items()})
    table = convert([a_provider(a_model(prices, context_window=1000))], ["p"])
    rates = Rates(**{unit: rate for _, unit, rate in keys.values()})
    assert table == {
        "p": PricedProvider((), (PricedModel(("in", ("m",)), ((None, rates),), (), 1000),))
    }


def test_what_is_kept_for_an_hour_has_its_key() -> None:
    """It is a part of what is written to the cache."""
    prices = types.ModelPrice(cache_write_mtok=Decimal(5), cache_write_1h_mtok=Decimal(6))
    [model] = convert([a_provider(a_model(prices))], ["p"])["p"].models
    [(_, rates)] = model.rows
    assert rates == Rates(cache_write=45_000_000_000, cache_write_1h=54_000_000_000)


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (
            types.ModelPrice(audio_hours=Decimal(9), input_audio_hours=Decimal(1)),
            Rates(milliseconds=2_500_000_000),
        ),
        (types.ModelPrice(rerank_searches_kcount=Decimal(2)), Rates(searches=18 * 10**12)),
        (
            types.ModelPrice(storage_searches_kcount=Decimal(2), output_video_mtok=Decimal(1)),
            Rates(),
        ),
        (
            types.ModelPrice(
                input_mtok=types.TieredPrices(
                    base=Decimal(1), tiers=[types.Tier(start=200_000, price=Decimal(2))]
                )
            ),
            Rates(input=(9 * 10**9, 200_000, 18 * 10**9)),
        ),
    ],
    ids=["sound that goes in", "searches of a reranker", "what is not counted", "a tier of input"],
)
def test_rates(prices: types.ModelPrice, expected: Rates) -> None:
    """The first key that a model has decides, and what there is no unit for is left out."""
    [model] = convert([a_provider(a_model(prices))], ["p"])["p"].models
    assert model.rows == ((None, expected),)


def test_rows_and_tiers() -> None:
    """Prices by date and by time of day, and what a tier changes: a service tier, a batch, Claude's
    speed; other contexts are left out."""
    one, two = types.ModelPrice(input_mtok=Decimal(1)), types.ModelPrice(input_mtok=Decimal(2))
    night = types.TimeOfDateConstraint(
        start_time=time(16, 30, tzinfo=UTC), end_time=time(0, 30, tzinfo=UTC)
    )
    model = a_model(
        [
            types.ConditionalPrice(prices=one),
            types.ConditionalPrice(
                constraint=types.StartDateConstraint(start_date=date(2026, 1, 2)), prices=two
            ),
            types.ConditionalPrice(constraint=night, prices=one),
        ],
        price_variants=[
            types.PriceVariant(when={"processing": "batch"}, prices=one),
            types.PriceVariant(when={"search_type": "fast"}, prices=one),
            types.PriceVariant(when={"speed": "fast"}, prices=two),
            types.PriceVariant(when={"speed": "fast", "processing": "batch"}, prices=one),
            types.PriceVariant(when={"service_tier": "priority"}, prices=two),
        ],
    )
    [made] = convert([a_provider(model)], ["p"])["p"].models
    cheap, dear = Rates(input=9 * 10**9), Rates(input=18 * 10**9)
    second_of_january = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp())
    assert made.rows == (
        (None, cheap),
        (("from", second_of_january), dear),
        (("daily", 59_400, 1_800), cheap),
    )
    assert made.tiers == (
        ("batch", None, cheap),
        ("fast", None, dear),
        ("priority", None, dear),
    )


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        (types.ClauseStartsWith(starts_with="Gpt-"), ("starts", "gpt-")),
        (types.ClauseEndsWith(ends_with="-Mini"), ("ends", "-mini")),
        (types.ClauseContains(contains="4O"), ("contains", "4o")),
        (types.ClauseRegex(regex=r"^x\d"), ("regex", r"^x\d")),
        (
            types.ClauseAnd(
                and_=[types.ClauseStartsWith(starts_with="a"), types.ClauseEndsWith(ends_with="b")]
            ),
            ("and", (("starts", "a"), ("ends", "b"))),
        ),
        (
            types.ClauseOr(or_=[types.ClauseEquals(equals="A"), types.ClauseEquals(equals="b")]),
            ("in", ("a", "b")),
        ),
        (
            types.ClauseOr(or_=[types.ClauseEquals(equals=str(n)) for n in range(9)]),
            ("in", frozenset("012345678")),
        ),
        (
            types.ClauseOr(
                or_=[types.ClauseContains(contains="c"), types.ClauseEquals(equals="a")]
            ),
            ("or", (("in", ("a",)), ("contains", "c"))),
        ),
        (
            types.ClauseOr(
                or_=[types.ClauseContains(contains="c"), types.ClauseContains(contains="d")]
            ),
            ("or", (("contains", "c"), ("contains", "d"))),
        ),
    ],
)
def test_matches(clause: Any, expected: object) -> None:
    """Every rule of genai-prices', in lower case; names that stand side by side are one rule."""
    model = types.ModelInfo(id="m", match=clause, prices=types.ModelPrice())
    [made] = convert([a_provider(model)], ["p"])["p"].models
    assert made.match == expected


class Unheard:
    """A rule or a constraint of a later release."""


@pytest.mark.parametrize(
    ("wanted", "model", "said"),
    [
        ("other", a_model(types.ModelPrice()), "KeyError: 'other'"),
        ("p", a_model([]), "the model m has no row of prices"),
        ("p", a_model(types.ModelPrice(), context_window=0), "a context window of 0"),
        (
            "p",
            a_model(types.ModelPrice(input_mtok=Decimal("0.0000000001"))),
            "more decimals than can be kept",
        ),
        (
            "p",
            a_model([types.ConditionalPrice(constraint=Unheard(), prices=types.ModelPrice())]),
            "Unheard",
        ),  # type: ignore[arg-type]
        (
            "p",
            types.ModelInfo(id="m", match=Unheard(), prices=types.ModelPrice()),
            "unknown match Unheard",
        ),  # type: ignore[arg-type]
    ],
    ids=[
        "a provider that is gone",
        "no prices",
        "no window",
        "not exact",
        "a constraint",
        "a match",
    ],
)
def test_what_is_not_understood_stops_the_start(
    wanted: str, model: types.ModelInfo, said: str
) -> None:
    """It says what, and what to do; no price is guessed."""
    with pytest.raises(
        PriceSourceError, match=r"genai-prices [\d.]+ cannot be read: .*install tollhouse anew"
    ) as error:
        translated(lambda: convert([a_provider(model)], [wanted]))
    assert said in str(error.value)


def test_a_library_that_is_not_there_says_so() -> None:
    """The same error as for one that is not understood."""

    def missing() -> dict[str, PricedProvider]:
        raise ModuleNotFoundError("No module named 'genai_prices'")

    with pytest.raises(PriceSourceError, match="No module named 'genai_prices'"):
        translated(missing)


def test_the_data_of_genai_prices_is_let_go_of() -> None:
    """A process that has read the prices keeps its own rates alone, and who wants genai-prices'
    data can have them."""
    code = (
        "import gc, sys; from tollhouse.prices.source import read; table = read(); again = read();"
        "import genai_prices; from genai_prices.types import ModelInfo;"
        "print('genai_prices.data' in sys.modules, hasattr(genai_prices, 'data'), table == again,"
        " sum(isinstance(thing, ModelInfo) for thing in gc.get_objects()));"
        "from genai_prices.data import providers; print(len(providers) > 20, read() == table, len(providers) > 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "0", "True", "True", "True"]


def test_reading_twice_gives_the_same(priced: dict[str, PricedProvider]) -> None:
    """Nothing of the first reading is used up."""
    assert read() == priced


def test_names_are_looked_up_as_genai_prices_does(priced: dict[str, PricedProvider]) -> None:
    """Every id and alias finds the model that genai-prices finds, also through another provider and
    a compact date."""
    known = {provider.id: provider for provider in providers}
    common = {
        "GPT-4o",
        "claude-opus-5-20260101",
        "gpt-5.4-20260305",
        "gpt-5.6-luna-2026-07-30",
        "nonsense",
        "-",
        " gpt-4o",
    }
    common |= {
        f"{name}-{date}"
        for name in ("gpt-4o", "o3")
        for date in ("20260231", "20240806", "20240229", "20230229")
    }
    for provider_id, table in priced.items():
        names = common | {model.id for model in known[provider_id].models}
        names |= {
            text
            for other in (provider_id, *table.fallback)
            for m in priced[other].models
            for text in _texts(m.match)
        }
        names |= {name.replace("-2026-", "-2026").replace("-2025-", "-2025") for name in names}
        provider = known[provider_id]
        own = {id(model): entry for model, entry in zip(provider.models, table.models, strict=True)}
        fallen = {
            id(model): entry
            for other in table.fallback
            for model, entry in zip(known[other].models, priced[other].models, strict=True)
        }
        for name in names:
            expected = provider.find_model(name, all_providers=providers)
            found = find(priced, provider_id, name)
            if expected is None:
                assert found is None, (provider_id, name)
            else:
                assert found is not None, (provider_id, name)
                assert found[0] is (own | fallen)[id(expected)], (provider_id, name)
                assert found[1] is (id(expected) in own)


def _texts(match: tuple[str, Any]) -> list[str]:
    kind, what = match
    if kind in ("or", "and"):
        return [text for part in what for text in _texts(part)]
    if kind == "in":
        return list(what)
    return [] if kind == "regex" else [str(what), f"{what}x", f"x{what}"]
