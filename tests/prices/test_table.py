import random
import re
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import pytest

from tollhouse.call import Usage
from tollhouse.prices.file import PricedProvider
from tollhouse.prices.table import PriceTable
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


@pytest.fixture
def table(priced: dict[str, PricedProvider]) -> PriceTable:
    """The table without overrides, at a fixed time."""
    return PriceTable(priced, clock=lambda: _NOW)


def _usage(dice: random.Random) -> Usage:
    size = dice.choice([10, 3_000, 99_000, 150_000, 300_000, 5_000_000])
    cached, write, audio = (dice.choice([0, dice.randrange(size)]) for _ in range(3))
    reasoning, speech = (dice.choice([0, dice.randrange(size)]) for _ in range(2))
    return Usage(
        input=dice.randrange(1, size) + cached + write + audio,
        cached=cached,
        cache_write=write,
        input_audio=audio,
        cached_audio=dice.choice([0, min(cached, audio)]),
        output=dice.choice([0, dice.randrange(1, size)]) + reasoning + speech,
        reasoning=reasoning,
        output_audio=speech,
    )


def _gp(usage: Usage) -> Any:
    from genai_prices import Usage as GenaiUsage

    return GenaiUsage(
        input_tokens=usage.input,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.cache_write,
        input_audio_tokens=usage.input_audio,
        cache_audio_read_tokens=usage.cached_audio,
        output_tokens=usage.output,
        output_reasoning_tokens=usage.reasoning,
        output_audio_tokens=usage.output_audio,
    )


def _expected(provider: str, model: str, usage: Usage, tier: str, at: datetime) -> int | None:
    from genai_prices import calc_price

    try:
        price = calc_price(
            _gp(usage),
            model,
            provider_id=provider,
            genai_request_timestamp=at,
            price_context={"service_tier": tier} if tier else None,
        )
    except LookupError:
        return None
    if (usage.input and not price.input_price) or (usage.output and not price.output_price):
        return None
    return int((price.total_price * 10**9).to_integral_value(ROUND_CEILING))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "azure", "aws", "mistral", "cohere"])
def test_a_cost_is_genai_prices_total_rounded_up(table: PriceTable, provider: str):
    """Every model, random usages, dates and tiers: the same sum to the nano-dollar; no price where it would be 0."""
    from genai_prices.data import providers

    dice = random.Random(provider)
    compared = 0
    for model in next(p for p in providers if p.id == provider).models:
        # Some models' ids are not among the names that they match.
        for name in (model.id, re.sub(r"^(?:regional|global)\.", "", model.id), f"{model.id}-latest"):
            for _ in range(6):
                usage, at = _usage(dice), dice.choice(_DATES)
                tier = dice.choice(["", "", "default", "flex", "priority", "fast", "unheard-of"])
                cost = table.cost(provider, name, usage, tier, at.timestamp())
                assert cost == _expected(provider, name, usage, tier, at), (name, usage, tier, at)
                compared += cost is not None
    assert compared > 10


def test_a_ceiling_is_never_below_a_cost(table: PriceTable):
    """Whatever part of the held tokens is used, cached, written or reasoned with, it costs no more than was held."""
    from genai_prices.data import providers

    dice = random.Random(1)
    compared = 0
    for provider in ("openai", "anthropic", "google"):
        for model in next(p for p in providers if p.id == provider).models:
            for _ in range(6):
                usage = _usage(dice)
                tier = dice.choice(["", "flex", "priority", "auto", "scale"])
                more_in, more_out = usage.input + dice.randrange(9**6), usage.output + dice.randrange(9**6)
                ceiling = table.ceiling(provider, model.id, more_in, more_out, tier=tier, audio=True)
                worst = table.ceiling(provider, model.id, more_in, more_out, tier=tier, audio=True, worst=True)
                for served in ("default", "flex", "priority", "fast", "scale"):
                    cost = table.cost(provider, model.id, usage, served)
                    assert None in (cost, worst) or cost <= worst, (model.id, usage, tier, served)
                for served in {"", "default", *({tier} if tier != "auto" else ())}:
                    cost = table.cost(provider, model.id, usage, served)
                    if cost is None or ceiling is None:
                        continue
                    assert cost <= ceiling, (model.id, usage, tier, served)
                    dearest = table.dearest(provider, more_in, more_out)
                    assert dearest is not None
                    assert ceiling <= dearest
                    compared += 1
    assert compared > 500


def test_a_cheap_token_costs_its_nano_dollars(table: PriceTable):
    """An embedding token costs 20 nano-dollars, and a fraction is rounded up once a call."""
    assert table.cost("openai", "text-embedding-3-small", Usage(input=1)) == 20
    assert table.cost("anthropic", "claude-haiku-5-5", Usage(input=3, cached=3), at=_NOW) == 30
    nano = {"openai/tiny": {"input": "0.0005"}}
    assert PriceTable({}, nano).cost("openai", "tiny", Usage(input=1)) == 1
    assert PriceTable({}, nano).cost("openai", "tiny", Usage(input=2)) == 1
    assert PriceTable({}, nano).cost("openai", "tiny", Usage(input=3)) == 2


def test_a_tier_of_input_is_a_cliff(table: PriceTable):
    """One token above the start moves the whole call to the higher rate; a ceiling that reaches it is held at it."""
    below = table.cost("openai", "gpt-5.5", Usage(input=272_000, output=1), at=_NOW)
    above = table.cost("openai", "gpt-5.5", Usage(input=272_001, output=1), at=_NOW)
    assert below is not None
    assert above is not None
    assert above > 1.9 * below
    assert table.ceiling("openai", "gpt-5.5", 272_001, 1) == above


def test_prices_change_by_date(table: PriceTable):
    """The price is that of the call's time, not of today."""
    old = table.cost("openai", "o3", Usage(input=1_000_000), at=datetime(2025, 6, 9, tzinfo=UTC).timestamp())
    new = table.cost("openai", "o3", Usage(input=1_000_000), at=datetime(2025, 6, 10, tzinfo=UTC).timestamp())
    assert old is not None
    assert new is not None
    assert old > new


def test_a_dearer_tier_is_held_for_and_a_cheaper_one_is_not_believed(table: PriceTable):
    """For priority: its rate. For flex: the standard one, as it may be served as standard. Unknown: the dearest."""
    held = {
        t: table.ceiling("openai", "gpt-5.4-mini", 10**6, 0, tier=t) for t in ("", "auto", "flex", "priority", "scale")
    }
    assert held == {
        "": 750_000_000,
        "auto": 750_000_000,
        "flex": 750_000_000,
        "priority": 1_500_000_000,
        "scale": 1_500_000_000,
    }


def test_the_dearest_tier_is_held_for_where_the_providers_settings_choose(table: PriceTable):
    """At worst: only who asks for the standard tier is sure to get it."""
    held = {
        t: table.ceiling("openai", "gpt-5.4-mini", 10**6, 0, tier=t, worst=True)
        for t in ("", "auto", "flex", "priority", "default", "standard")
    }
    assert held == {**dict.fromkeys(held, 1_500_000_000), "default": 750_000_000, "standard": 750_000_000}


def test_what_is_written_to_the_cache_is_held_for(table: PriceTable):
    """Where it is dearer than other input."""
    written = table.cost("openai", "gpt-6-sol", Usage(input=1000, cache_write=1000), at=_NOW)
    assert written == 2_500_000
    assert table.ceiling("openai", "gpt-6-sol", 1000, 0, at=_NOW) == written


def test_context_windows(table: PriceTable):
    """Of the models that have one in the table, by either name of the provider; a configured price changes nothing."""
    assert table.window("openai", "gpt-4o-2024-08-06") == 128_000
    assert table.window("openai", "gpt-5.4") == 1_050_000
    assert table.window("gemini", "claude-4-opus") == table.window("google", "claude-4-opus") == 200_000
    assert [table.window(*what) for what in (("openai", "nobody"), ("vllm", "gpt-4o"), ("openai", "gpt-4o" * 99))] == [
        None,
        None,
        None,
    ]
    mine = PriceTable(table._table, {"openai/gpt-4o": {"input": "1"}})
    assert mine.window("openai", "gpt-4o") == 128_000


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.name)
def test_no_window_of_a_provider_is_longer_than_its_default(table: PriceTable, provider: Provider):
    """What is held for a model that the table does not know is not less than for one that it does."""
    owner = table._table[provider.price_id]
    every = [model for name in (provider.price_id, *owner.fallback) for model in table._table[name].models]
    assert max(model.window or 0 for model in every) <= provider.most_input(None)


@pytest.mark.parametrize(
    "model", ["", "nonsense", "dall-e-3", "moderation", "tts-1", "whisper-1", "x" * 300, "gpt-4o" * 50]
)
def test_without_a_price_there_is_none(table: PriceTable, model: str):
    """Unknown, priced in other units, free by omission, or too long a name: None, never 0."""
    assert table.cost("openai", model, Usage(input=5, output=5)) is None
    assert table.ceiling("openai", model, 5, 5) is None
    assert table.cost("nobody", "gpt-4o", Usage(input=5)) is None
    assert table.dearest("nobody", 5, 5) is None


def test_output_of_a_model_without_a_price_for_output_is_unpriced(table: PriceTable):
    """An embeddings model cannot be charged for a chat."""
    assert table.ceiling("openai", "text-embedding-3-small", 5, 0) == 100
    assert table.ceiling("openai", "text-embedding-3-small", 5, 5) is None
    assert table.cost("openai", "text-embedding-3-small", Usage(input=5, output=5)) is None


def test_providers_go_by_either_name(table: PriceTable):
    """The configuration's name and genai-prices' mean the same prices."""
    usage = Usage(input=1000, output=1000)
    assert table.cost("gemini", "gemini-2.5-pro", usage) == table.cost("google", "gemini-2.5-pro", usage) is not None
    assert table.cost("bedrock", "amazon.nova-micro-v1:0", usage) is not None


def test_the_configuration_has_the_last_word(priced: dict[str, PricedProvider]):
    """An override replaces the price whole; without cached the input's rate holds; 0 is believed; a glob fits many."""
    overrides: dict[str, dict[str, str | None]] = {
        "openai/gpt-4o": {"input": "1", "output": "2", "cached": None},
        "vllm/*": {"input": "0", "output": "0"},
        "vllm/llama-*": {"input": "0.1", "output": "0.2", "cached": "0.05"},
        "vllm/embed": {"input": "3"},
    }
    table = PriceTable(priced, overrides, clock=lambda: _NOW)
    usage = Usage(input=1000, cached=400, output=100)
    assert table.cost("openai", "GPT-4o", usage, "priority") == 1_200_000
    assert table.cost("openai", "gpt-4o-2024-08-06", usage) == 3_000_000
    assert table.cost("openai", "gpt-4o-2024-08-06", usage, requested="gpt-4o") == 1_200_000
    assert table.cost("openai", "not-known", usage, requested="gpt-4o-2024-08-06") == 3_000_000
    assert table.cost("vllm", "anything", usage) == 0
    assert table.ceiling("vllm", "anything", 10, 10) == 0
    assert table.cost("vllm", "llama-9", usage) == 600 * 100 + 400 * 50 + 100 * 200
    assert table.ceiling("vllm", "embed", 10, 0) == 30_000
    assert table.ceiling("vllm", "embed", 10, 1) is None
    assert table.dearest("vllm", 1, 1) == 3_000 + 200


@pytest.mark.parametrize("text", ["", "free", "-1", "NaN", "Infinity", "0.0000000001", "1e-12"])
def test_an_override_that_is_no_exact_price_is_an_error(text: str):
    """The error names the entry and shows how a price is written."""
    with pytest.raises(ValueError, match=r'prices\."openai/x".*input.*2\.50'):
        PriceTable({}, {"openai/x": {"input": text}})
    with pytest.raises(ValueError, match="imput"):
        PriceTable({}, {"openai/x": {"imput": "1"}})


def test_contradictory_counts_never_lower_a_price(table: PriceTable):
    """More cached than there was input costs at least what the parts cost."""
    assert table.cost("openai", "gpt-4o", Usage(input=10, cached=1000, output=0)) == 1_250_000


def test_lookups_are_remembered_within_bounds(table: PriceTable):
    """A name that is not found is remembered too, and no stream of new names grows the memory."""
    for number in range(5000):
        assert table.cost("openai", f"nonsense-{number % 2500}", Usage(input=1)) is None
    info = table._listed.cache_info()
    assert info.currsize == info.maxsize == 2048
    hits = info.hits
    table.cost("openai", "nonsense-2499", Usage(input=1))
    assert table._listed.cache_info().hits == hits + 1


def test_the_table_loads_from_a_state_directory(price_directory: Path):
    """The one call that the gateway makes."""
    table = PriceTable.load(price_directory, {"openai/mine": {"input": "2.50", "output": "10"}})
    assert table.cost("openai", "mine", Usage(input=4, output=1)) == 20_000
    assert table.cost("openai", "gpt-4o", Usage(input=4, output=1)) == int(Decimal("2.5") * 4000 + 10_000)
