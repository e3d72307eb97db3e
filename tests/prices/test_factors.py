"""Regions and tiers: which call they hold for, and what they make of a price."""

import pytest

from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.prices.factors import PLAIN, REGIONAL, TIERS, regional, shown, times
from tollhouse.prices.rates import PricedProvider
from tollhouse.prices.table import PriceTable, Quote

_NOW = 1_795_435_200.0
"""2026-11-23, 12:00 UTC."""
MILLION = Units(input=10**6)


@pytest.fixture
def table(priced: dict[str, PricedProvider]) -> PriceTable:
    return PriceTable(priced, clock=lambda: _NOW)


@pytest.mark.parametrize(
    ("host", "model", "expected"),
    [
        ("api.openai.com", "gpt-5.4", PLAIN),
        ("eu.api.openai.com", "gpt-5.4", (11, 10)),
        ("us.api.openai.com", "GPT-6-astra", (11, 10)),
        ("mtls-eu.api.openai.com", "gpt-5.10", (11, 10)),
        ("mtls.api.openai.com", "gpt-5.4", PLAIN),
        ("eu.api.openai.com", "gpt-5.3-codex", PLAIN),
        ("eu.api.openai.com", "gpt-5", PLAIN),
        ("eu.api.openai.com", "gpt-4o-mini", PLAIN),
        ("eu.api.openai.com", "ft:gpt-4o-mini:acme", PLAIN),
        ("eu.api.openai.com", "o3-mini", PLAIN),
        ("eu.api.openai.com", "text-embedding-3-small", PLAIN),
        ("eu.api.openai.com", "gpt-4o-2026-03-05", (11, 10)),
        ("eu.api.openai.com", "gpt-9-2026-03-04", PLAIN),
        ("eu.api.openai.com", "gpt-9-20260304", PLAIN),
        ("eu.api.openai.com", "gpt-realtime", PLAIN),
        ("eu.api.openai.com", "gpt-realtime-2", (11, 10)),
        ("eu.api.openai.com", "gpt-image-1.5", PLAIN),
        ("eu.api.openai.com", "gpt-image-2", (11, 10)),
        ("eu.api.openai.com", "a-new-one", (11, 10)),
        ("eu.api.openai.com.evil.test", "gpt-5.4", PLAIN),
    ],
)
def test_residency_at_openai(host: str, model: str, expected: tuple[int, int]) -> None:
    """A tenth more for what was released from 2026-03-05 on. A name that nobody knows is a new
    model's."""
    assert regional("openai", host, model, ("",)) == expected


@pytest.mark.parametrize(
    ("price_id", "host", "model", "expected"),
    [
        ("google", "us-east5-aiplatform.googleapis.com", "claude-sonnet-4-5@20250929", (11, 10)),
        ("google", "aiplatform.eu.rep.googleapis.com", "claude-opus-5", (11, 10)),
        ("google", "aiplatform.googleapis.com", "claude-sonnet-4-5@20250929", PLAIN),
        ("google", "us-east5-aiplatform.googleapis.com", "claude-sonnet-4@20250514", PLAIN),
        ("google", "us-east5-aiplatform.googleapis.com", "claude-opus-4-1@20250805", PLAIN),
        ("google", "us-east5-aiplatform.googleapis.com", "claude-3-5-haiku", PLAIN),
        ("google", "us-east5-aiplatform.googleapis.com", "gemini-3.8-flash", PLAIN),
        ("x-ai", "us.api.x.ai", "grok-4.7", (11, 10)),
        ("x-ai", "api.x.ai", "grok-4.7", PLAIN),
        ("together", "us-api.together.ai", "m", (5, 4)),
        ("together", "ca-api.together.ai", "m", (5, 4)),
        ("together", "api.together.ai", "m", PLAIN),
        ("azure", "eu.api.openai.com", "gpt-5.4", PLAIN),
    ],
)
def test_regions_of_others(price_id: str, host: str, model: str, expected: tuple[int, int]) -> None:
    """By the host of the call."""
    assert regional(price_id, host, model, ("",)) == expected


@pytest.mark.parametrize(
    ("model", "tiers", "worst", "expected"),
    [
        ("claude-opus-4-6", ("us",), False, (11, 10)),
        ("claude-sonnet-5", ("fast", "us"), False, (11, 10)),
        ("claude-opus-4-6", ("",), False, PLAIN),
        ("claude-opus-4-6", ("",), True, (11, 10)),
        ("claude-opus-4-6", ("global",), True, PLAIN),
        ("claude-opus-4-5", ("us",), False, PLAIN),
        ("claude-sonnet-4-20250514", ("us",), True, PLAIN),
        ("claude-3-haiku", ("us",), False, PLAIN),
    ],
)
def test_where_claude_thinks(
    model: str, tiers: tuple[str, ...], worst: bool, expected: tuple[int, int]
) -> None:
    """A tenth more in the United States, from Opus 4.6 on. At worst the workspace's settings may
    say so, unless the request says otherwise."""
    assert regional("anthropic", "api.anthropic.com", model, tiers, worst=worst) == expected
    assert regional("azure", "x.services.ai.azure.com", model, tiers, worst=worst) == expected


def test_a_region_is_charged_and_held(table: PriceTable) -> None:
    """gpt-5.4 costs 2.50 USD for a million: 2.75 in the EU. The line says so."""
    charge = Charge("gpt-5.4", Units(input=100_000), "default")

    def quote(host: str) -> Quote | None:
        return table.quote("openai", charge, host=host)

    assert quote("api.openai.com") == (250_000_000, "genai-prices")
    assert quote("eu.api.openai.com") == (275_000_000, "genai-prices x1.1")
    estimate = Estimate(Units(input=100_000))
    for host, most in (("api.openai.com", 250_000_000), ("eu.api.openai.com", 275_000_000)):
        assert table.ceiling("openai", "gpt-5.4", estimate, host=host) == most


def test_a_factor_is_applied_before_rounding(table: PriceTable) -> None:
    """One token of gpt-5.4-nano's costs 200 nano-dollars, 220 in the EU; three quarters of a
    nano-dollar are rounded up once."""
    charge = Charge("gpt-5.4-nano", Units(input=1))
    assert table.cost("openai", charge, host="eu.api.openai.com") == 220
    assert table.cost("openai", Charge("gpt-5.4-nano", Units(input=1, cached=1))) == 20
    cached = Charge("gpt-5.4-nano", Units(input=3, cached=3))
    assert table.cost("openai", cached, host="eu.api.openai.com") == 66


def test_tools_and_configured_prices_have_no_factor(priced: dict[str, PricedProvider]) -> None:
    """A search costs the same everywhere, and a configured price is what it says."""
    own = {"openai/gpt-5.4": {"input": "1", "output": "1"}}
    table = PriceTable(priced, own, clock=lambda: _NOW)
    host = "eu.api.openai.com"
    searched = Charge("web_search", Units(requests=2))
    assert table.quote("openai", searched, requested="gpt-5.4", host=host) == (
        20_000_000,
        "built-in 2026-11",
    )
    assert table.quote("openai", Charge("gpt-5.4", MILLION), host=host) == (
        1_000_000_000,
        "configured",
    )


@pytest.mark.parametrize(
    ("provider", "model", "tier", "expected"),
    [
        ("openai", "gpt-5.2", "batch", 875_000_000),
        ("openai", "text-embedding-3-small", "batch", 10_000_000),
        ("openai", "gpt-3.5-turbo-0613", "batch", 750_000_000),
        ("openai", "gpt-5.2", "ultrafast", 6 * 1_750_000_000),
        ("openai", "gpt-5.2", "priority", 3_500_000_000),
        ("google", "gemini-2.0-flash", "priority", 200_000_000),
        ("aws", "amazon.nova-lite-v1:0", "priority", 105_000_000),
        ("aws", "amazon.nova-lite-v1:0", "batch", 30_000_000),
        ("cohere", "command-r", "batch", 150_000_000),
        ("mistral", "mistral-small-2603", "batch", 75_000_000),
        ("google", "gemini-embedding-001", "batch", 75_000_000),
    ],
)
def test_what_a_million_tokens_cost_at_a_tier(
    table: PriceTable, provider: str, model: str, tier: str, expected: int
) -> None:
    """genai-prices' own row where it has one; else the table's factor: a batch is half. A provider
    that is in neither is charged as standard."""
    assert table.cost(provider, Charge(model, MILLION, tier), at=_NOW) == expected


def test_two_words_of_a_tier(table: PriceTable) -> None:
    """Claude served fast and in the United States: 10 USD a million at that speed, and a tenth
    more."""
    plain, fast, both = (
        table.cost("anthropic", Charge("claude-opus-4-8", MILLION, tier), at=_NOW)
        for tier in ("", "fast", "fast+us")
    )
    assert (plain, fast, both) == (5_000_000_000, 10_000_000_000, 11_000_000_000)


def test_other_words_of_a_tier(table: PriceTable) -> None:
    """Annotated pages have a price of their own. Latency and priority of Bedrock are both paid for."""

    def cost(provider: str, model: str, units: Units, tier: str) -> int | None:
        return table.cost(provider, Charge(model, units, tier), at=_NOW)

    pages = Units(pages=1_000)
    assert cost("mistral", "mistral-ocr-2505", pages, "") == 1_000_000_000
    assert cost("mistral", "mistral-ocr-2505", pages, "annotated") == 3_000_000_000
    assert cost("mistral", "mistral-ocr-2505", pages, "batch") == 500_000_000
    assert cost("mistral", "mistral-ocr-2505", pages, "batch+annotated") == 1_500_000_000
    nova = Units(input=10**6)
    assert cost("aws", "amazon.nova-lite-v1:0", nova, "priority+optimized") == 131_250_000


def test_all_words_that_are_asked_for_are_held_for_together(table: PriceTable) -> None:
    """Fast, in the United States."""
    estimate = Estimate(Units(input=10**6))
    asked = {
        "": 6_250_000_000,
        "standard+fast+us": 13_750_000_000,
        "us": 6_875_000_000,
        "global": 6_250_000_000,
    }
    for tier, most in asked.items():
        assert table.ceiling("anthropic", "claude-opus-4-8", estimate, tier=tier, at=_NOW) == most


def test_a_dearer_tier_is_held_for_if_it_is_asked_for(table: PriceTable) -> None:
    """Six times for ultrafast, and Claude's speed only if the request wants it."""
    estimate = Estimate(MILLION)

    def held(provider: str, model: str, tier: str, worst: bool = False) -> int | None:
        return table.ceiling(provider, model, estimate, tier=tier, at=_NOW, worst=worst)

    assert held("openai", "gpt-5.2", "ultrafast") == 6 * 1_750_000_000
    assert held("openai", "gpt-5.2", "") == 1_750_000_000
    assert held("openai", "gpt-5.2", "batch") == 1_750_000_000
    assert held("google", "gemini-2.0-flash", "priority") == 200_000_000
    assert held("anthropic", "claude-opus-4-8", "fast") == 10_000_000_000 * 5 // 4
    assert held("anthropic", "claude-opus-4-8", "") == 5_000_000_000 * 5 // 4
    assert held("anthropic", "claude-opus-4-8", "global", worst=True) == 6_250_000_000
    assert held("anthropic", "claude-opus-4-8", "", worst=True) == 6_875_000_000


def test_each_row_says_where_it_is_from() -> None:
    """A public page, and a ratio that is exact."""
    for row in REGIONAL:
        assert row.source.startswith("https://")
        assert row.hosts is not None or row.tier
    for ratio, source in TIERS.values():
        assert source.startswith("https://")
        assert all(type(part) is int and part > 0 for part in ratio)


def test_how_factors_are_combined_and_shown() -> None:
    assert times((11, 10), PLAIN) == times(PLAIN, (11, 10)) == (11, 10)
    assert times((11, 10), (1, 2)) == (11, 20)
    assert [shown(r) for r in (PLAIN, (11, 10), (5, 4), (6, 1))] == ["", "x1.1", "x1.25", "x6"]
