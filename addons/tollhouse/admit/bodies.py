"""How many bytes of requests' bodies the process keeps at one time, and for whom.

Bodies are kept before any limit of a project is asked, so that this bound stands before all of
those. No token and no source address may take all of it: others are served beside one that does
what it likes.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from tollhouse.denial import Refused

DEFAULT_BYTES: Final = 256 << 20
_RETRY: Final = (("retry-after", "1"),)


class BodyBytes:
    """The budget, mutable, for one event loop. ``limit_bytes`` is the process's; a token has half
    of it, a source address three quarters, and both at least ``largest_bytes``, the largest body
    that is allowed."""

    def __init__(self, limit_bytes: int = DEFAULT_BYTES, *, largest_bytes: int = 0) -> None:
        self.limit_bytes: Final = max(limit_bytes, largest_bytes)
        self.token_bytes: Final = max(self.limit_bytes // 2, largest_bytes)
        self.source_bytes: Final = max(self.limit_bytes * 3 // 4, largest_bytes)
        self.kept_bytes = 0
        self._by_token: Counter[str] = Counter()
        self._by_source: Counter[str] = Counter()

    def reserve(self, token: str, source: str) -> KeptBody:
        """The share of one request, of which nothing has been kept yet: what a request says of its
        length takes nothing."""
        return KeptBody(self, token, source)

    def take(self, token: str, source: str, count: int) -> None:
        """Raises `Refused`, and then nothing was taken: 429 for a share that is full, 503 for the
        whole."""
        if self._by_token.get(token, 0) + count > self.token_bytes:
            raise Refused("concurrency_limited", _why("this token's", self.token_bytes), _RETRY)
        if self._by_source.get(source, 0) + count > self.source_bytes:
            raise Refused("concurrency_limited", _why("this address's", self.source_bytes), _RETRY)
        if self.kept_bytes + count > self.limit_bytes:
            raise Refused("too_many_connections", _why("all", self.limit_bytes), _RETRY)
        self._add(token, source, count)

    def give_back(self, token: str, source: str, count: int) -> None:
        self._add(token, source, -count)

    def _add(self, token: str, source: str, count: int) -> None:
        self.kept_bytes += count
        for shares, name in ((self._by_token, token), (self._by_source, source)):
            shares[name] += count
            if not shares[name]:
                del shares[name]


class KeptBody:
    """What is kept of one request's body."""

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
        """Nothing is kept any more; a second call does nothing."""
        count, self.kept_bytes = self.kept_bytes, 0
        self._budget.give_back(self._token, self._source, count)


def _why(whose: str, limit_bytes: int) -> str:
    return f"The bodies of {whose} requests under way have {limit_bytes} bytes, which is as much as is kept."
