"""The one place in which a request is changed: its output cap is lowered, in whichever spelling it
stands. No other byte changes."""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.jsonscan import places
from tollhouse.families.formats.lowered import lower_cap

_CONFIG: Final = ("generationConfig", "generation_config")
_CAP: Final = ("maxOutputTokens", "max_output_tokens")


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from."""
    return _spelled(body, asked, _CONFIG, _CAP)


def rewrite_interaction(body: bytes, asked: Asked) -> bytes:
    """The same of an interaction, whose fields have one spelling."""
    return _spelled(body, asked, _CONFIG[1:], _CAP[1:])


def _spelled(body: bytes, asked: Asked, configs: tuple[str, ...], caps: tuple[str, ...]) -> bytes:
    """The first spelling is that of what is missing."""
    if asked.lowered_to is None:
        return body
    there = next((place.key for place in places(body) if place.key in configs), configs[0])
    return lower_cap(body, asked.lowered_to, *caps, inside=there)
