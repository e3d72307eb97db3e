"""A Redis of a peer's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

from bench.servers import redis_server


@dataclass(frozen=True)
class Store:
    url: str
    pid: int

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port


@contextmanager
def redis(directory: Path) -> Iterator[Store]:
    with redis_server(directory) as url:
        with Redis.from_url(url) as client:
            pid = int(client.info("server")["process_id"])
        yield Store(url, pid)
