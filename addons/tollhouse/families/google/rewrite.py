"""The one place in which a request is changed: its output cap is lowered, in whichever spelling it
stands. No other byte changes."""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Asked
from tollhouse.families.formats.jsonscan import MemberPlace, places
from tollhouse.families.formats.lowered import lower_cap

_CONFIG: Final = ("generationConfig", "generation_config")
_CAP: Final = ("maxOutputTokens", "max_output_tokens")


def rewrite(body: bytes, asked: Asked) -> bytes:
    """``body`` is the one that ``asked`` was read from."""
    return body if asked.lowered_to is None else _lowered(body, asked.lowered_to, 0)


def rewrite_interaction(body: bytes, asked: Asked) -> bytes:
    """The same of an interaction, whose fields have one spelling."""
    return body if asked.lowered_to is None else _lowered(body, asked.lowered_to, 1)


def _lowered(body: bytes, cap: int, spelling: int) -> bytes:
    """``spelling`` is that of what the body does not have."""
    config = _place(body, 0, _CONFIG)
    if config is None:
        return lower_cap(body, cap, _CAP[spelling], _CONFIG[spelling])
    inside = body[config.value_at] == 0x7B
    found = _place(body, config.value_at, _CAP) if inside else None
    return lower_cap(body, cap, _CAP[spelling] if found is None else found.key, config.key)


def _place(body: bytes, start: int, keys: tuple[str, ...]) -> MemberPlace | None:
    return next((place for place in places(body, start) if place.key in keys), None)
