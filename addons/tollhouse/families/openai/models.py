"""Which models can reason in silence: their answers have tokens that no byte of the stream shows."""

from __future__ import annotations

import re
from typing import Final

_SPEAKS_AT_ONCE: Final = re.compile(
    r"gpt-(?:3\.5|4)(?![0-9])|chatgpt-4o|gpt-audio|gpt-5(?:\.\d)?-chat|(?:text-)?(?:babbage|davinci)"
)
"""OpenAI's models without reasoning: https://platform.openai.com/docs/models. gpt-4, gpt-4o, gpt-4.1 and gpt-4.5 are among
them."""


def can_reason(model: str) -> bool:
    """Any model that is not known to be without reasoning can."""
    name = model.rpartition("/")[2].removeprefix("ft:").lower()
    return _SPEAKS_AT_ONCE.match(name) is None
