"""The hosts that pass without interception, and for whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tollhouse.providers import UpstreamProxy

EVERY_PROJECT = "*"


@dataclass(frozen=True, slots=True)
class PassableHost:
    """``host`` is lower case, without a trailing dot; ``*.example.com`` stands for exactly one more label."""

    host: str
    projects: frozenset[str]
    """Those that may; `EVERY_PROJECT` is all."""
    port: int = 443
    connect_to: tuple[str, int] | None = None
    allow_private: bool = False
    upstream_proxy: UpstreamProxy | None = None

    def serves(self, host: str) -> bool:
        if self.host.startswith("*."):
            label, _, rest = host.partition(".")
            return bool(label) and rest == self.host[2:]
        return self.host == host

    def is_for(self, project: str) -> bool:
        return EVERY_PROJECT in self.projects or project in self.projects


class Passable:
    """All of them. Of several that serve a name the first counts, an exact one before one with a wildcard."""

    def __init__(self, hosts: Iterable[PassableHost] = ()) -> None:
        self.hosts: Sequence[PassableHost] = sorted(
            hosts, key=lambda one: one.host.startswith("*.")
        )

    def by_host(self, host: str) -> PassableHost | None:
        """``host`` is normalised. None: it does not pass."""
        return next((one for one in self.hosts if one.serves(host)), None)
