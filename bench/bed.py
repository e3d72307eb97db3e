"""What the parts of the bench share: a directory, a Redis, and how much is measured."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import servers
from bench.provider import CHUNKS, PAUSE_S


@dataclass(frozen=True)
class Size:
    """How much is measured. The defaults are those of docs/figures.md."""

    rounds: int = 3
    requests: int = 2_000
    streams: int = 40
    """Each of them one after the other on one of eight connections."""
    fresh: int = 200
    open_streams: tuple[int, ...] = (200, 1_000)
    steps: int = 20
    """Chunks that each of the open streams gets, in lock step."""
    seconds: float = 10.0
    """Of a load at a fixed rate, or of one as fast as it goes."""
    cold: int = 15
    soak: int = 100_000


TINY: Final = Size(
    rounds=1,
    requests=48,
    streams=8,
    fresh=3,
    open_streams=(12,),
    steps=3,
    seconds=0.4,
    cold=2,
    soak=400,
)
"""To see that each part works. Its figures say nothing."""


@dataclass(frozen=True)
class Bed:
    """``redis_url`` may be ``embedded``."""

    directory: Path
    redis_url: str
    size: Size = Size()

    def provider(
        self, pause_s: float = PAUSE_S, *, lock_step: bool = False
    ) -> AbstractContextManager[servers.Provider]:
        chunks = self.size.steps if lock_step else CHUNKS
        return servers.provider(self.directory, pause_s, chunks=chunks, lock_step=lock_step)

    def mitmdump(self, provider_port: int) -> AbstractContextManager[servers.Side]:
        return servers.mitmdump(self.directory, provider_port)

    def tollhouse(
        self, provider_port: int, workers: int = 1, *, addon: Path | None = None, **more: str
    ) -> AbstractContextManager[servers.Side]:
        return servers.tollhouse(
            self.directory, provider_port, self.redis_url, workers, addon=addon, **more
        )


def say(text: str) -> None:
    """How far the bench is."""
    print(text, file=sys.stderr, flush=True)
