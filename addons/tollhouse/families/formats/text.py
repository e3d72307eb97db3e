"""How many tokens a text has, told from its bytes without a tokenizer."""

from __future__ import annotations

from typing import Final

BYTES_PER_TOKEN: Final = 4
"""English text: https://help.openai.com/en/articles/4936856 ("1 token ~= 4 chars in English")."""


def text_tokens(text: bytes) -> float:
    """Tokens of a text in UTF-8."""
    return len(text) / BYTES_PER_TOKEN
