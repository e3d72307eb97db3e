"""Prices that genai-prices lacks: tools that a provider runs, models that are charged by the image or the search, and the
models that really are free. Each has the public page that it was read from, last on `CHECKED`. The configuration and, for a
model, genai-prices go before this table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, NamedTuple

from tollhouse.prices.patterns import may_mean, meet
from tollhouse.prices.rates import PricedModel, Rates, exact

CHECKED: Final = "2026-11-23"
NAME: Final = f"built-in {CHECKED[:7]}"
"""What the line calls this table."""

_OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
_ANTHROPIC: Final = "https://platform.claude.com/docs/en/about-claude/pricing"
_GEMINI: Final = "https://ai.google.dev/gemini-api/docs/pricing"
_MISTRAL: Final = "https://mistral.ai/pricing"
_GROQ: Final = "https://groq.com/pricing"
_XAI: Final = "https://docs.x.ai/docs/models"
_COHERE: Final = "https://cohere.com/pricing"


class Tool(NamedTuple):
    """What a use of a tool costs. ``models`` is a pattern of the models that use it at this price."""

    price_id: str
    name: str
    source: str
    request: str
    """USD for one use."""
    hour: str | None = None
    """USD for an hour, where its time is counted."""
    models: str = "*"
    tiers: tuple[tuple[str, str], ...] = ()
    """USD for one use, by the tier of its charge."""


_SIZES: Final = (("1g", "0.03"), ("4g", "0.12"), ("16g", "0.48"), ("64g", "1.92"))
"""OpenAI's containers by their memory. A charge without a tier is one of 1 GB, the default."""

TOOLS: Final = (
    Tool("openai", "web_search", _OPENAI, "0.01"),
    # 10 USD per 1,000 with a model that reasons and 25 with any other: the dearer one for both.
    Tool("openai", "web_search_preview", _OPENAI, "0.025"),
    Tool("openai", "file_search", _OPENAI, "0.0025"),
    Tool("openai", "code_interpreter", _OPENAI, "0.03", tiers=_SIZES),
    Tool("anthropic", "web_search", _ANTHROPIC, "0.01"),
    # 0.05 USD an hour. A use whose time nobody tells counts as an hour; its free hours count as nothing.
    Tool("anthropic", "code_execution", _ANTHROPIC, "0.05", hour="0.05"),
    # Up to Gemini 2.5 by the grounded prompt, from Gemini 3 on by the query. The free allowance counts as nothing.
    Tool("google", "google_search", _GEMINI, "0.035", models="*gemini-[12]*"),
    Tool("google", "google_search", _GEMINI, "0.014", models="*gemini-[3-9]*"),
    Tool("google", "google_search", _GEMINI, "0.035"),
    Tool("google", "google_maps", _GEMINI, "0.025", models="*gemini-[12]*"),
    Tool("google", "google_maps", _GEMINI, "0.014", models="*gemini-[3-9]*"),
    Tool("google", "google_maps", _GEMINI, "0.025"),
    # A use is a thousand tokens that are kept in a cache for an hour.
    Tool("google", "cache_storage", _GEMINI, "0.001", models="*flash*"),
    Tool("google", "cache_storage", _GEMINI, "0.0045"),
    # Claude on Vertex.
    Tool("google", "web_search", _ANTHROPIC, "0.01"),
    Tool("google", "code_execution", _ANTHROPIC, "0.05", hour="0.05"),
    # Claude at Foundry. OpenAI's models there have a tool of the same name, at OpenAI's price.
    Tool("azure", "web_search", _ANTHROPIC, "0.01", models="*claude*"),
    Tool("azure", "code_execution", _ANTHROPIC, "0.05", hour="0.05"),
    Tool("mistral", "web_search", _MISTRAL, "0.03"),
    Tool("mistral", "web_search_premium", _MISTRAL, "0.05"),
    Tool("mistral", "code_interpreter", _MISTRAL, "0.03"),
    Tool("mistral", "image_generation", _MISTRAL, "0.1"),
    # The advanced search; the basic one is 5 USD per 1,000.
    Tool("groq", "web_search", _GROQ, "0.008"),
    # 0.18 USD an hour. A use whose time nobody tells counts as an hour.
    Tool("groq", "code_interpreter", _GROQ, "0.18", hour="0.18"),
    Tool("x-ai", "web_search", _XAI, "0.005"),
    Tool("x-ai", "x_search", _XAI, "0.005"),
    Tool("x-ai", "code_interpreter", _XAI, "0.005"),
    Tool("x-ai", "file_search", _XAI, "0.0025"),
)
SHARED: Final = {"azure": "openai"}
"""Whose tools and models another price list has as well, behind its own. Vertex has Google's price id."""

_WITHOUT_PRICE: Final = (
    *("document_library", "guardrail"),
    *("retrieval", "parallel_ai_search", "exa_ai_search"),
)
NAMES: Final = frozenset({*(tool.name for tool in TOOLS), *_WITHOUT_PRICE})
"""A charge of this name is a tool's: it never has a model's price."""


class Own(NamedTuple):
    """A model that genai-prices lacks. ``model`` is a pattern."""

    price_id: str
    model: str
    source: str
    image: str = ""
    search: str = ""
    input: str = ""


MODELS: Final = (
    # By size and quality: the dearest of each model.
    Own("openai", "dall-e-3*", _OPENAI, image="0.12"),
    Own("openai", "dall-e-2*", _OPENAI, image="0.02"),
    Own("google", "imagen-4*-ultra*", _GEMINI, image="0.06"),
    Own("google", "imagen-4*-fast*", _GEMINI, image="0.02"),
    Own("google", "imagen-4*", _GEMINI, image="0.04"),
    Own(
        "google",
        "imagen-3*",
        "https://cloud.google.com/vertex-ai/generative-ai/pricing",
        image="0.04",
    ),
    Own("cohere", "rerank-v4*-pro*", _COHERE, search="0.0025"),
    Own("cohere", "rerank-v4*", _COHERE, search="0.002"),
    Own("cohere", "rerank-v3*", _COHERE, search="0.002"),
    Own("cohere", "rerank-*-v3*", _COHERE, search="0.002"),
    Own("mistral", "mistral-moderation-*", _MISTRAL, input="0.1"),
)

_FAST: Final = {"azure": re.compile(r"(claude-.+)-fast")}
"""Claude's fast mode is a model of its own at Foundry, and no request asks for a speed:
https://platform.claude.com/docs/en/build-with-claude/fast-mode."""
_CLAUDES: Final = {"azure": re.compile(r"claude-.+")}
"""Foundry rates Claude as Anthropic does, by model and by feature:
https://platform.claude.com/docs/en/about-claude/pricing#claude-in-microsoft-foundry-pricing."""

FREE: Final = (
    ("openai", "omni-moderation-*", "https://developers.openai.com/api/docs/guides/moderation"),
    ("openai", "text-moderation-*", "https://developers.openai.com/api/docs/guides/moderation"),
    ("openrouter", "*:free", "https://openrouter.ai/docs/faq"),
)
"""Models that cost nothing. Of any other model a rate of 0 in genai-prices is one that nobody has filled in."""

_NOTHING: Final = Rates(*(0 for _ in Rates._fields))


def of_fast(price_id: str, model: str) -> str:
    """The model whose fast mode ``model`` is; "" if it is none."""
    pattern = _FAST.get(price_id)
    found = pattern.fullmatch(model.lower()) if pattern is not None else None
    return "" if found is None else found[1]


def has_their_tiers(price_id: str, model: str) -> bool:
    """Whether ``model``, of a list that ``price_id`` falls back to, has its tiers here as well."""
    pattern = _CLAUDES.get(price_id)
    return pattern is not None and pattern.fullmatch(model.lower()) is not None


def is_free(price_id: str, model: str) -> bool:
    owner = SHARED.get(price_id, price_id)
    return any(owner == other and fnmatchcase(model.lower(), name) for other, name, _ in FREE)


def free(price_id: str, model: str) -> PricedModel | None:
    """The price of nothing, for a model of `FREE`."""
    return _flat(_NOTHING) if is_free(price_id, model) else None


@lru_cache(2048)
def tool(price_id: str, name: str, model: str) -> PricedModel | None:
    """The price of a use of the tool ``name`` by ``model``; None if it has none here."""
    return next(
        (price for models, price in tools_of(price_id, name) if fnmatchcase(model.lower(), models)),
        None,
    )


def tools_of(price_id: str, name: str) -> Iterator[tuple[str, PricedModel]]:
    """The prices of the tool ``name``, each behind the pattern of the models that use it at this
    price. The first that fits counts."""
    for row in _rows_of(price_id, name):
        hour = None if row.hour is None else exact(Decimal(row.hour), 3_600_000)
        rates = Rates(requests=exact(Decimal(row.request), 1), milliseconds=hour)
        tiers = tuple(
            (tier, None, Rates(requests=exact(Decimal(usd), 1))) for tier, usd in row.tiers
        )
        yield row.models, PricedModel(("in", ()), ((None, rates),), tiers)


def _rows_of(price_id: str, name: str) -> Iterator[Tool]:
    """Its own rows go before those that it shares."""
    for owner in (price_id, SHARED.get(price_id)):
        yield from (row for row in TOOLS if (row.price_id, row.name) == (owner, name))


def model(price_id: str, name: str) -> PricedModel | None:
    """The price of a model that genai-prices lacks; None if it has none here."""
    owner = SHARED.get(price_id, price_id)
    for row in MODELS:
        if row.price_id == owner and fnmatchcase(name.lower(), row.model):
            return _flat(
                Rates(
                    images=_exact(row.image, 1),
                    searches=_exact(row.search, 1),
                    input=_exact(row.input, 1_000_000),
                )
            )
    return None


def fits(price_id: str, pattern: str) -> bool:
    """Whether a model of this table, or a free one, fits ``pattern`` (in lower case)."""
    owner = SHARED.get(price_id, price_id)
    rows = (*((m.price_id, m.model) for m in MODELS), *((other, name) for other, name, _ in FREE))
    return any(
        owner == other
        and (may_mean(("ends", name[1:]), pattern) if name[0] == "*" else meet(name, pattern))
        for other, name in rows
    )


def source_of(price_id: str, name: str, model: str = "") -> str:
    """The public page that a price of this table is from, "" if it has none."""
    owner = SHARED.get(price_id, price_id)
    rows = [
        *((owner, t.name, t.models, t.source) for t in _rows_of(price_id, name)),
        *((m.price_id, m.model, "*", m.source) for m in MODELS),
        *((other, pattern, "*", source) for other, pattern, source in FREE),
    ]
    for whose, pattern, models, source in rows:
        fits = fnmatchcase(name.lower(), pattern) and fnmatchcase(model.lower(), models)
        if whose == owner and fits:
            return source
    return ""


def _flat(rates: Rates) -> PricedModel:
    return PricedModel(("in", ()), ((None, rates),), ())


def _exact(usd: str, per: int) -> int | None:
    return exact(Decimal(usd), per) if usd else None
