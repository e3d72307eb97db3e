"""What a model's price is multiplied by: where it is served, and at which service tier, as far as genai-prices has no row
for it. Each factor is an exact ratio. A configured price and a tool's price have none."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

Ratio = tuple[int, int]
"""A numerator and a denominator."""

PLAIN: Final[Ratio] = (1, 1)
_DATE: Final = re.compile(r"-(20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?=\D|$)")


class Regional(NamedTuple):
    """One row. It holds for a call whose host fits ``hosts``, or whose tier has the word ``tier``. Of the models that fit
    ``models`` those that fit ``older`` are left out. A date in the model's name decides where there is ``since``."""

    price_id: str
    ratio: Ratio
    source: str
    hosts: re.Pattern[str] | None = None
    tier: str = ""
    elsewhere: str = ""
    """The word of a tier that is sure not to have this factor."""
    models: re.Pattern[str] = re.compile("")
    older: re.Pattern[str] | None = None
    since: date | None = None

    def holds_for(self, model: str) -> bool:
        """A model that nobody knows is taken for a new one: it costs more, and not less.
        "" is any model."""
        if not model:
            return True
        if self.models.match(model) is None:
            return False
        dated = _DATE.search(model) if self.since is not None else None
        if dated is not None and self.since is not None:
            year, month, day = map(int, dated.groups())
            return (year, month, day) >= (self.since.year, self.since.month, self.since.day)
        return self.older is None or self.older.match(model) is None


_CLAUDE: Final = re.compile(r"(?:publishers/anthropic/models/)?claude-")
_BEFORE_4_6: Final = re.compile(
    r".*claude-(?:v?[123]|instant|4[.-](?:5-)?(?:opus|sonnet|haiku)|(?:opus|sonnet|haiku)-4(?![.-][6-9]))"
)

REGIONAL: Final = (
    Regional(
        "openai",
        (11, 10),
        "https://developers.openai.com/api/docs/pricing: data residency, models released from 2026-03-05",
        hosts=re.compile(r"(?:mtls-)?[a-z]{2}\.api\.openai\.com"),
        since=date(2026, 3, 5),
        older=re.compile(
            r"(?:ft:)?(?:ada|babbage|curie|davinci|chatgpt-4o|codex-mini|computer-use|dall-e|gpt-3|gpt-4"
            r"|gpt-5(?!\.[4-9]|\.\d\d)|gpt-audio|gpt-image-1(?!\d)|gpt-oss|gpt-realtime(?:-mini|-1\.5)?$|o[134](?:-|$)"
            r"|omni-moderation|sora-2|text-|tts-1|whisper-1)"
        ),
    ),
    Regional(
        "anthropic",
        (11, 10),
        "https://platform.claude.com/docs/en/about-claude/pricing: data residency, from Opus 4.6 and Sonnet 4.6 on",
        tier="us",
        elsewhere="global",
        models=_CLAUDE,
        older=_BEFORE_4_6,
    ),
    Regional(
        "azure",
        (11, 10),
        "https://platform.claude.com/docs/en/about-claude/pricing#claude-in-microsoft-foundry-pricing: US Data Zone Standard",
        tier="us",
        elsewhere="global",
        models=_CLAUDE,
        older=_BEFORE_4_6,
    ),
    Regional(
        "google",
        (11, 10),
        "https://cloud.google.com/vertex-ai/generative-ai/pricing: regional and multi-region endpoints, from Sonnet 4.5 on",
        hosts=re.compile(
            r"(?:[a-z0-9-]+-aiplatform|aiplatform\.[a-z]+\.rep)(?:\.mtls)?\.googleapis\.com"
        ),
        models=_CLAUDE,
        older=re.compile(
            r".*claude-(?:v?[123]|instant|4-(?:opus|sonnet)|(?:opus|sonnet|haiku)-4(?![.-][5-9]))"
        ),
    ),
    Regional(
        "x-ai",
        (11, 10),
        "https://docs.x.ai/docs/models: the endpoint of the United States",
        hosts=re.compile(r"us\.api\.x\.ai"),
    ),
    Regional(
        "together",
        (5, 4),
        "https://www.together.ai/pricing: regional endpoints",
        hosts=re.compile(r"(?:us|ca)-api\.together\.(?:ai|xyz)"),
    ),
)

_HALF: Final[Ratio] = (1, 2)
TIERS: Final[dict[tuple[str, str], tuple[Ratio, str]]] = {
    # Six times the standard price: https://developers.openai.com/api/docs/pricing
    ("openai", "ultrafast"): ((6, 1), "https://developers.openai.com/api/docs/pricing"),
    # "75% to 100% more than standard": the dearer one.
    ("google", "priority"): ((2, 1), "https://ai.google.dev/gemini-api/docs/optimization"),
    ("aws", "priority"): ((7, 4), "https://aws.amazon.com/bedrock/pricing/"),
    # Answers sooner (performanceConfig.latency).
    ("aws", "optimized"): ((5, 4), "https://aws.amazon.com/bedrock/pricing/"),
    ("openai", "batch"): (_HALF, "https://developers.openai.com/api/docs/guides/batch"),
    ("azure", "batch"): (
        _HALF,
        "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch",
    ),
    ("anthropic", "batch"): (
        _HALF,
        "https://platform.claude.com/docs/en/build-with-claude/batch-processing",
    ),
    ("google", "batch"): (_HALF, "https://ai.google.dev/gemini-api/docs/batch-api"),
    ("mistral", "batch"): (_HALF, "https://docs.mistral.ai/capabilities/batch/"),
    ("groq", "batch"): (_HALF, "https://console.groq.com/docs/batch"),
    ("x-ai", "batch"): (_HALF, "https://docs.x.ai/developers/advanced-api-usage/batch-api"),
    ("aws", "batch"): (
        _HALF,
        "https://docs.aws.amazon.com/bedrock/latest/userguide/capacity-limits-cost-optimization.html",
    ),
}
"""By price id and served tier, where genai-prices has no row of that tier for the model. A tier that is neither here nor
there costs what the standard one costs."""

_BY_ID: Final = {
    row.price_id: tuple(other for other in REGIONAL if other.price_id == row.price_id)
    for row in REGIONAL
}

WORDS: Final = {
    price_id: frozenset(word for row in rows for word in (row.tier, row.elsewhere) if word)
    for price_id, rows in _BY_ID.items()
}
"""Words of a tier that say where a call is served, by price id."""


def regional(
    price_id: str, host: str, model: str, tiers: tuple[str, ...], *, worst: bool = False
) -> Ratio:
    """The factor of a call to ``host`` for ``model``, served at ``tiers``. With ``worst`` a row that the settings at the
    provider can choose counts too, unless the request says otherwise."""
    return _regional(price_id, host, model, tiers, worst) if price_id in _BY_ID else PLAIN


@lru_cache(2048)
def _regional(price_id: str, host: str, model: str, tiers: tuple[str, ...], worst: bool) -> Ratio:
    model = model.lower()
    for row in _BY_ID[price_id]:
        there = row.hosts is not None and row.hosts.fullmatch(host) is not None
        told = row.tier != "" and (row.tier in tiers or (worst and row.elsewhere not in tiers))
        if (there or told) and row.holds_for(model):
            return row.ratio
    return PLAIN


def times(one: Ratio, other: Ratio) -> Ratio:
    """Both factors together."""
    if other is PLAIN:
        return one
    return other if one is PLAIN else (one[0] * other[0], one[1] * other[1])


def shown(ratio: Ratio) -> str:
    """``x1.1`` for people; "" for a factor of 1."""
    return "" if ratio[0] == ratio[1] else f"x{ratio[0] / ratio[1]:.6g}"
