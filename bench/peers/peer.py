"""A peer: how it is started, by which way calls reach it, and what its budgets are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.formats import TOKENS_IN, TOKENS_OUT
from bench.load import Way
from bench.servers import Side

CALLS_PAID: Final = 10
"""A race's money is for so many calls."""


@dataclass(frozen=True)
class Price:
    """Dollars a million tokens: what its provider asks, and every gateway is told."""

    input: float
    output: float

    def race_usd(self) -> float:
        """What `CALLS_PAID` whole answers of the stand-in cost."""
        call = (TOKENS_IN * self.input + TOKENS_OUT * self.output) / 1e6
        return round(CALLS_PAID * call, 6)


GPT_4O: Final = Price(2.5, 10.0)
CLAUDE_SONNET: Final = Price(3.0, 15.0)


@dataclass(frozen=True)
class Place:
    """What a peer is started with. The directory is its own, and has the stand-in's CA."""

    directory: Path
    provider_port: int

    @property
    def ca_file(self) -> Path:
        return self.directory / "provider.pem"

    @property
    def provider_url(self) -> str:
        return f"https://127.0.0.1:{self.provider_port}"


@dataclass(frozen=True)
class Race:
    """A budget with money for `CALLS_PAID` calls, and the way of who has it."""

    budget: str
    """What kind of budget it is. Empty for a peer that has one kind."""
    opened: Callable[[], AbstractContextManager[Way]]


@dataclass(frozen=True)
class Running:
    """``way`` has money that does not end."""

    side: Side
    way: Way
    races: tuple[Race, ...] = ()
    redis_pid: int = 0
    """0: it has no Redis."""


@dataclass(frozen=True)
class Peer:
    key: str
    name: str
    way: str
    """How calls reach it, in words."""
    settings: str
    """What was on. Sentences."""
    run: Callable[[Place], AbstractContextManager[Running]]
    beside: str = "tollhouse-base-url"
    """The key of the Tollhouse that it is compared with: calls reach that one by the same way."""
