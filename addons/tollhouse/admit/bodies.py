"""How many bytes of requests' bodies the process keeps at one time, and for whom.

Bodies are kept before any limit of a project is asked, so this bound comes before all of those. No
token and no source address may take all of it, so that one workload can't shut the others out.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from tollhouse.denial import Refused

DEFAULT_BYTES: Final = 256 << 20
_RETRY: Final = (("retry-after", "1"),)


class BodyBytes:
    """The bytes that are kept. It is mutable and for one event loop. ``limit_bytes`` is the bound
    of the process. A token may have half of it, a source address three quarters. Both may have at
    least ``largest_bytes``, the largest allowed body."""

    def __init__(self, limit_bytes: int = DEFAULT_BYTES, *, largest_bytes: int = 0) -> None:
        self.limit_bytes: Final = max(limit_bytes, largest_bytes)
        self.token_bytes: Final = max(self.limit_bytes // 2, largest_bytes)
        self.source_bytes: Final = max(self.limit_bytes * 3 // 4, largest_bytes)
        self.kept_bytes = 0
        self._by_token: Counter[str] = Counter()
        self._by_source: Counter[str] = Counter()

    def reserve(self, token: str, source: str) -> KeptBody:
        """The share of one request. It is empty at first: the length that a request names takes
        nothing."""
        return KeptBody(self, token, source)

    def take(self, token: str, source: str, count: int) -> None:
        """Takes ``count`` bytes. Raises `Refused`, and takes nothing then: 429 if the token's or
        the address's share is full, 503 if the whole is."""
        if self._by_token.get(token, 0) + count > self.token_bytes:
            raise Refused("concurrency_limited", _why("this token's", self.token_bytes), _RETRY)
        if self._by_source.get(source, 0) + count > self.source_bytes:
            raise Refused("concurrency_limited", _why("this address's", self.source_bytes), _RETRY)
        if self.kept_bytes + count > self.limit_bytes:
            raise Refused("too_many_connections", _why("all", self.limit_bytes), _RETRY)
        self._add(token, source, count)

    def fits(self, token: str, source: str, count: int) -> bool:
        """Whether `take` would take so many now."""
        return (
            self._by_token.get(token, 0) + count <= self.token_bytes
            and self._by_source.get(source, 0) + count <= self.source_bytes
            and self.kept_bytes + count <= self.limit_bytes
        )

    def give_back(self, token: str, source: str, count: int) -> None:
        self._add(token, source, -count)

    def _add(self, token: str, source: str, count: int) -> None:
        self.kept_bytes += count
        for shares, name in ((self._by_token, token), (self._by_source, source)):
            shares[name] += count
            if not shares[name]:
                del shares[name]


class KeptBody:
    """The kept bytes of one request's body."""

    def __init__(self, budget: BodyBytes, token: str, source: str) -> None:
        self._budget = budget
        self._token = token
        self._source = source
        self.kept_bytes = 0

    def extend(self, count: int) -> None:
        """``count`` more bytes are kept from here on. Raises `Refused` as `BodyBytes.take`."""
        self._budget.take(self._token, self._source, count)
        self.kept_bytes += count

    def release(self) -> None:
        """Gives all bytes back. A second call does nothing."""
        count, self.kept_bytes = self.kept_bytes, 0
        self._budget.give_back(self._token, self._source, count)


def _why(whose: str, limit_bytes: int) -> str:
    return f"The bodies of {whose} requests under way have {limit_bytes} bytes, which is as much as is kept."
