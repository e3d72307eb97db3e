"""What genai-prices lacks: tools, models that are charged by the image or the search, and what is free."""

import pytest
from genai_prices.data import providers

from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.prices import builtin
from tollhouse.prices.rates import PricedProvider
from tollhouse.prices.table import PriceTable, Quote

_NOW = 1_795_435_200.0
"""2026-11-23, 12:00 UTC."""


@pytest.fixture
def table(priced: dict[str, PricedProvider]) -> PriceTable:
    return PriceTable(priced, clock=lambda: _NOW)


@pytest.mark.parametrize(
    ("provider", "tool", "model", "thousand_usd"),
    [
        ("openai", "web_search", "gpt-5.2", 10),
        ("openai", "web_search_preview", "gpt-5.2", 25),
        ("openai", "file_search", "gpt-5.2", 2.5),
        ("openai", "code_interpreter", "gpt-5.2", 30),
        ("azure", "web_search", "gpt-5.2", 10),
        ("azure", "web_search", "claude-opus-5", 10),
        ("azure", "code_execution", "claude-opus-5", 50),
        ("anthropic", "web_search", "claude-opus-5", 10),
        ("anthropic", "code_execution", "claude-opus-5", 50),
        ("google", "google_search", "gemini-2.5-pro", 35),
        ("google", "google_search", "gemini-3.8-flash", 14),
        ("google", "google_search", "models/gemini-4-argon", 14),
        ("google", "google_search", "gemini-flash-latest", 35),
        ("google", "google_maps", "gemini-2.5-pro", 25),
        ("google", "google_maps", "gemini-3-flash-preview", 14),
        ("google", "web_search", "claude-opus-5", 10),
        ("google", "cache_storage", "gemini-3.8-flash", 1),
        ("google", "cache_storage", "gemini-2.5-pro", 4.5),
        ("mistral", "web_search", "mistral-large-4", 30),
        ("mistral", "web_search_premium", "mistral-large-4", 50),
        ("mistral", "code_interpreter", "mistral-large-4", 30),
        ("mistral", "image_generation", "mistral-large-4", 100),
        ("groq", "web_search", "groq/compound", 8),
    ],
)
def test_a_thousand_uses_of_a_tool(
    table: PriceTable, provider: str, tool: str, model: str, thousand_usd: float
) -> None:
    """In USD, and the line names the table."""
    quote = table.quote(provider, Charge(tool, Units(requests=1_000)), requested=model)
    assert quote == Quote(round(thousand_usd * 10**9), "built-in 2026-11")
    assert builtin.source_of(provider, tool, model).startswith("https://")


def test_a_search_costs_what_genai_prices_says_of_the_model(table: PriceTable) -> None:
    """genai-prices has a price of searches for some models. It is ours, too."""
    known = {provider.id: provider for provider in providers}
    compared = 0
    for provider, tool in (
        ("openai", "web_search"),
        ("anthropic", "web_search"),
        ("google", "google_search"),
    ):
        for model in known[provider].models:
            rows = model.prices if isinstance(model.prices, list) else None
            prices = model.prices if rows is None else rows[-1].prices
            told = prices.web_searches_kcount  # type: ignore[union-attr]
            if told is None or not model.id.startswith(("gpt-", "o", "claude-", "gemini-")):
                continue
            if provider == "google" and model.id.startswith(("claude", "gemini-nano")):
                continue
            name = "web_search" if model.id.startswith("claude") else tool
            cost = table.cost(provider, Charge(name, Units(requests=1)), requested=model.id)
            if cost != told * 10**6:
                # The searches of these are the older tool's.
                assert (provider, told) == ("openai", 25), model.id
            compared += 1
    assert compared > 50


@pytest.mark.parametrize(
    ("model", "owner"), [("claude-opus-5", "anthropic"), ("gpt-5.2", "openai"), ("", "openai")]
)
def test_a_tool_of_one_name_of_two_companies(table: PriceTable, model: str, owner: str) -> None:
    """At Azure the model says whose search it is."""
    sources = {"anthropic": "https://platform.claude.com", "openai": "https://developers.openai"}
    assert builtin.source_of("azure", "web_search", model).startswith(sources[owner])
    cost = table.cost("azure", Charge("web_search", Units(requests=1)), requested=model)
    assert cost == 10_000_000


@pytest.mark.parametrize("tier", ["", "us", "fast", "fast+us", "batch", "standard"])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-8", "claude-opus-5-5"])
def test_claude_costs_at_foundry_what_it_costs_at_anthropic(
    table: PriceTable, model: str, tier: str
) -> None:
    """Its tiers and its place with it."""
    units = Units(input=1_000, cached=200, cache_write=300, cache_write_1h=100, output=500)
    quotes = [table.quote(where, Charge(model, units, tier)) for where in ("azure", "anthropic")]
    assert quotes[0] == quotes[1] is not None
    holds = [
        table.ceiling(where, model, Estimate(units), tier=tier, worst=worst)
        for where in ("azure", "anthropic")
        for worst in (False, True)
    ]
    assert holds[:2] == holds[2:]


def test_fast_mode_is_a_model_of_its_own_at_foundry(table: PriceTable) -> None:
    """At the price of the tier, whether the answer tells its speed or not, and whatever it calls the model. A model without
    that tier has no price."""
    units = Units(input=1_000, output=500)
    plain = table.cost("anthropic", Charge("claude-opus-5-5", units))
    fast = table.cost("anthropic", Charge("claude-opus-5-5", units, "fast"))
    assert plain is not None
    assert fast is not None
    assert fast > plain
    name = "claude-opus-5-5-fast"
    for served in (name, "claude-opus-5-5", name.title()):
        for tier in ("", "fast"):
            charge = Charge(served, units, tier)
            assert table.cost("azure", charge, requested=name) == fast
    assert table.ceiling("azure", name, Estimate(units)) == table.ceiling(
        "anthropic", "claude-opus-5-5", Estimate(units), tier="fast"
    )
    assert table.cost("azure", Charge("claude-sonnet-5-fast", units)) is None
    assert table.cost("anthropic", Charge(name, units)) is None
    assert table.window("azure", name) == table.window("anthropic", "claude-opus-5-5")


@pytest.mark.parametrize(("tier", "usd"), [("", 30), ("1g", 30), ("4g", 120), ("64g", 1_920)])
def test_a_container_by_its_memory(table: PriceTable, tier: str, usd: int) -> None:
    """Each session, in thousandths of a USD. A charge that does not say is one of 1 GB."""
    charge = Charge("code_interpreter", Units(requests=1), tier)
    assert table.cost("openai", charge, requested="gpt-5.2") == usd * 10**6
    session = Estimate(Units(requests=1))
    for worst in (False, True):
        held = table.ceiling("openai", "code_interpreter", session, tier=tier, worst=worst)
        assert held is not None
        assert held >= usd * 10**6
    assert table.ceiling("openai", "code_interpreter", session, worst=True) == 30_000_000


def test_time_in_a_container(table: PriceTable) -> None:
    """0.05 USD an hour, where the time is counted."""
    half = Charge("code_execution", Units(milliseconds=1_800_000))
    assert table.cost("anthropic", half, requested="claude-opus-5") == 25_000_000


@pytest.mark.parametrize(
    ("provider", "tool"),
    [
        ("mistral", "document_library"),
        ("cohere", "web_search"),
        ("openai", "google_search"),
        ("google", "retrieval"),
    ],
)
def test_a_tool_never_has_its_models_price(table: PriceTable, provider: str, tool: str) -> None:
    """A use costs nothing at a model's price, which has none for uses: so it has no price."""
    model = {"mistral": "mistral-large-4", "cohere": "command-r", "openai": "gpt-4o"}.get(
        provider, "gemini-2.5-flash"
    )
    assert table.cost(provider, Charge(model, Units(input=1_000))) is not None
    assert table.quote(provider, Charge(tool, Units(requests=1)), requested=model) is None


def test_a_configured_price_of_a_tool(priced: dict[str, PricedProvider]) -> None:
    """It goes before the table. An entry for many models is no tool's, unless it prices uses."""
    one = {"openai/web_search": {"request": "0.02"}}
    many = {"openai/*": {"input": "1", "output": "1"}}
    uses = {"openai/*": {"input": "1", "output": "1", "request": "0.5"}}
    charge = Charge("web_search", Units(requests=1))

    def quote(own: dict[str, dict[str, str]]) -> Quote | None:
        return PriceTable(priced, own).quote("openai", charge, requested="gpt-4o")

    assert quote(one) == (20_000_000, "configured")
    assert quote(many) == (10_000_000, "built-in 2026-11")
    assert quote(uses) == (500_000_000, "configured")
    free = {"openai/web_search": {"request": "0"}}
    assert quote(free) == (0, "configured")


@pytest.mark.parametrize(
    ("provider", "model", "units", "expected"),
    [
        ("openai", "dall-e-3", Units(images=2), 240_000_000),
        ("azure", "dall-e-3", Units(images=1), 120_000_000),
        ("openai", "dall-e-2", Units(images=1), 20_000_000),
        ("google", "imagen-4.0-generate-001", Units(images=1), 40_000_000),
        ("google", "imagen-4.0-ultra-generate-001", Units(images=1), 60_000_000),
        ("google", "imagen-4.0-fast-generate-001", Units(images=1), 20_000_000),
        ("google", "imagen-3.0-generate-002", Units(images=1), 40_000_000),
        ("cohere", "rerank-v3.5", Units(searches=3), 6_000_000),
        ("cohere", "rerank-english-v3.0", Units(searches=1), 2_000_000),
        ("cohere", "rerank-v4.0-pro", Units(searches=1), 2_500_000),
        ("cohere", "rerank-v4.0-fast", Units(searches=1), 2_000_000),
        ("mistral", "mistral-moderation-latest", Units(input=1_000), 100_000),
        ("openai", "whisper-1", Units(milliseconds=60_000), 6_000_000),
        ("openai", "tts-1", Units(characters=1_000), 15_000_000),
    ],
)
def test_models(table: PriceTable, provider: str, model: str, units: Units, expected: int) -> None:
    """By the image, the search, and what genai-prices has by itself: seconds and characters."""
    assert table.cost(provider, Charge(model, units)) == expected


def test_other_units_of_these_models_have_no_price(table: PriceTable) -> None:
    """An image model is not believed to know what a token costs."""
    assert table.cost("openai", Charge("dall-e-3", Units(input=5, images=1))) is None
    assert table.cost("cohere", Charge("rerank-v3.5", Units(input=5))) is None


@pytest.mark.parametrize(
    ("provider", "model", "free"),
    [
        ("openai", "omni-moderation-latest", True),
        ("openai", "text-moderation-stable", True),
        ("azure", "omni-moderation-latest", True),
        ("openrouter", "deepseek/deepseek-r1:free", True),
        ("openrouter", "deepseek/deepseek-r1:nitro", False),
        ("openai", "moderation", False),
        ("google", "gemma-3-27b-it", False),
        ("mistral", "mistral-nemo:free", False),
    ],
)
def test_what_is_free_is_on_a_list(
    table: PriceTable, provider: str, model: str, free: bool
) -> None:
    """Everything else that has a rate of 0, or none, has no price."""
    quote = table.quote(provider, Charge(model, Units(input=1_000)))
    assert quote == (Quote(0, "built-in 2026-11") if free else None)


def test_each_row_says_where_it_is_from() -> None:
    """A public page; and all tools that a family names are tools."""
    rows = [tool.source for tool in builtin.TOOLS] + [model.source for model in builtin.MODELS]
    rows += [source for _, _, source in builtin.FREE]
    assert all(source.startswith("https://") for source in rows)
    assert {
        *("web_search", "web_search_preview", "file_search", "code_interpreter"),
        *("code_execution", "google_search", "google_maps", "web_search_premium"),
        *("image_generation", "document_library", "guardrail"),
        *("retrieval", "parallel_ai_search", "exa_ai_search"),
    } <= builtin.NAMES
