"""What the errors of companies that speak OpenAI's API say of a key, where they say it in their own
words. A status of 402, and the codes of OpenAI, are in `errors`."""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Rule
from tollhouse.families.formats.errors import EMPTY_ACCOUNT, message

_NO_CREDITS: Final = message(
    r"(?:permission-denied: )?Your team .{0,200}used all available credits"
    r"|You have run out of credits"
)

OTHER_VERDICTS: Final = {
    "xai": (
        Rule(
            "no_money",
            403,
            "https://github.com/tetsuo-ai/agenc-core/pull/2483 and "
            "https://github.com/Anantys-oss/koan/issues/2412",
            _NO_CREDITS,
        ),
    ),
    "openrouter": (
        # A lower cap may pass, and any workload can ask for a high one.
        Rule(
            "request",
            402,
            "https://github.com/QwenLM/qwen-code/issues/73",
            message(
                r"This request requires more credits, or fewer max_tokens\. "
                r"You requested up to \d+ tokens, but can only afford [1-9]"
            ),
        ),
        Rule(
            "request",
            402,
            "https://github.com/tailcallhq/forgecode/issues/571",
            message(
                r"More credits are required to run this request\. "
                r"\d+ token capacity required, [1-9]\d* available"
            ),
        ),
        Rule(
            "request",
            402,
            "https://github.com/anomalyco/opencode/issues/12219",
            message(r"Prompt tokens limit exceeded: \d+ > [1-9]"),
        ),
        Rule(
            "no_money",
            403,
            "https://github.com/RooCodeInc/Roo-Code/issues/515",
            message(r"Key limit exceeded"),
        ),
    ),
    "fireworks": (
        Rule(
            "no_money",
            412,
            "https://github.com/pollinations/pollinations/issues/12136",
            message(r"Account .{1,100} is suspended, possibly due to reaching the monthly"),
        ),
    ),
    "perplexity": (
        Rule(
            "no_money",
            401,
            "OpenAI's type under 401: https://docs.perplexity.ai/guides/pricing",
            EMPTY_ACCOUNT,
        ),
    ),
}
"""Asked before OpenAI's own rules. No row: the company says it as OpenAI does."""
