"""What a target of `tollhouse policy render` gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tollhouse.config.load import Config


class CannotRender(Exception):
    """The configuration can't have this policy. The text says what happened, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Rendered:
    files: Mapping[str, str]
    """By name. What stands in ``policies/TARGET`` is this, for the tollhouse.toml that lies there."""
    notes: tuple[str, ...] = ()
    """What a person has to do or to know before the files are used."""


@dataclass(frozen=True, slots=True)
class Renderer:
    name: str
    summary: str
    render: Callable[[Config], Rendered]
    """Reads nothing but the configuration. Raises `CannotRender`."""
