"""The gate that bounds the calls under way at one time, of a token, of a source address, and of all; and the connections of a
token and of a tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from tollhouse.admit.connection_limits import ConnectionLimits, Occupant
from tollhouse.call import Admitted
from tollhouse.denial import Refused

_RETRY: Final = (("retry-after", "1"),)


class Ending(Protocol):
    """What is needed of an exchange."""

    @property
    def occupant(self) -> Occupant | None: ...
    def at_end(self, release: Callable[[], object]) -> None: ...


class CallLimits:
    """A call counts until its exchange is finished: a stream until its last byte. It is mutable, and for one event loop."""

    name: ClassVar = "admit"
    gives: ClassVar = Admitted

    def __init__(
        self, of_all: int, *, of_source: int, of_token: int, connections: ConnectionLimits
    ) -> None:
        self._of_all = of_all
        self._of_source = of_source
        self._of_token = of_token
        self._connections = connections
        self.under_way = 0
        self._sources: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    async def __call__(self, admitted: Admitted, exchange: Ending) -> Admitted:
        """Refuses 503 ``too_many_connections``."""
        token = admitted.identity.charged_as or admitted.identity.token_id
        source = admitted.arrival.head.source
        if self._tokens.get(token, 0) >= self._of_token:
            raise _refused("this token", self._of_token, "max_calls_per_token")
        if self._sources.get(source, 0) >= self._of_source:
            raise _refused("this address", self._of_source, "max_calls_per_source")
        if self.under_way >= self._of_all:
            raise _refused("all", self._of_all, "max_calls")
        if exchange.occupant is not None:
            self._connections.occupy(exchange.occupant, admitted)
        self._add(token, source, 1)
        exchange.at_end(lambda: self._add(token, source, -1))
        return admitted

    def _add(self, token: str, source: str, count: int) -> None:
        self.under_way += count
        for counts, name in ((self._tokens, token), (self._sources, source)):
            counts[name] += count
            if not counts[name]:
                del counts[name]


def _refused(whose: str, limit: int, key: str) -> Refused:
    why = f"{limit} calls of {whose} are under way, which is as many as may be ([limits] {key})."
    return Refused("too_many_connections", why, _RETRY)
