"""How many bytes of requests' bodies the process keeps at one time, and for whom.

Bodies are kept before any limit of a project is asked, so this bound comes before all of those. No
token, no source address and no tenant may take all of it, so that one can't shut the others out.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple, Self

from tollhouse.call import Admitted
from tollhouse.denial import Refused

DEFAULT_BYTES: Final = 256 << 20
_RETRY: Final = (("retry-after", "1"),)


class KeptFor(NamedTuple):
    """Whose share the bytes are in."""

    token: str
    source: str
    """An address, or a network of IPv6."""
    tenant: str

    @classmethod
    def of(cls, admitted: Admitted) -> Self:
        identity = admitted.identity
        token = identity.charged_as or identity.token_id
        return cls(token, admitted.arrival.head.source, admitted.project.tenant)


class BodyBytes:
    """The bytes that are kept. It is mutable and for one event loop. ``limit_bytes`` is the bound
    of the process. A token may have half of it, a source address and a tenant three quarters. Each may
    have at least ``largest_bytes``, the largest allowed body."""

    def __init__(self, limit_bytes: int = DEFAULT_BYTES, *, largest_bytes: int = 0) -> None:
        self.limit_bytes: Final = max(limit_bytes, largest_bytes)
        self.token_bytes: Final = max(self.limit_bytes // 2, largest_bytes)
        self.others_bytes: Final = max(self.limit_bytes * 3 // 4, largest_bytes)
        """Of an address, and of a tenant."""
        self.kept_bytes = 0
        self._by_token: Counter[str] = Counter()
        self._by_source: Counter[str] = Counter()
        self._by_tenant: Counter[str] = Counter()

    def reserve(self, whose: KeptFor) -> KeptBody:
        """The share of one request. It is empty at first: the length that a request names takes
        nothing."""
        return KeptBody(self, whose)

    def take(self, whose: KeptFor, count: int) -> None:
        """Takes ``count`` bytes. Raises `Refused`, and takes nothing then: 429 if the share of the token,
        the address or the tenant is full, 503 if the whole is."""
        full = self._full(whose, count)
        if full is not None:
            code = "too_many_connections" if full[0] == "all" else "concurrency_limited"
            raise Refused(code, _why(*full), _RETRY)
        self._add(whose, count)

    def fits(self, whose: KeptFor, count: int) -> bool:
        """Whether `take` would take so many now."""
        return self._full(whose, count) is None

    def _full(self, whose: KeptFor, count: int) -> tuple[str, int] | None:
        """Whose share has no room for ``count`` more bytes, and its size."""
        if self._by_token.get(whose.token, 0) + count > self.token_bytes:
            return "this token's", self.token_bytes
        if self._by_source.get(whose.source, 0) + count > self.others_bytes:
            return "this address's", self.others_bytes
        if self._by_tenant.get(whose.tenant, 0) + count > self.others_bytes:
            return "this tenant's", self.others_bytes
        return ("all", self.limit_bytes) if self.kept_bytes + count > self.limit_bytes else None

    def give_back(self, whose: KeptFor, count: int) -> None:
        self._add(whose, -count)

    def _add(self, whose: KeptFor, count: int) -> None:
        self.kept_bytes += count
        for shares, name in zip(
            (self._by_token, self._by_source, self._by_tenant), whose, strict=True
        ):
            shares[name] += count
            if not shares[name]:
                del shares[name]


class KeptBody:
    """The kept bytes of one request's body."""

    def __init__(self, budget: BodyBytes, whose: KeptFor) -> None:
        self._budget = budget
        self._whose = whose
        self.kept_bytes = 0

    def extend(self, count: int) -> None:
        """``count`` more bytes are kept from here on. Raises `Refused` as `BodyBytes.take`."""
        self._budget.take(self._whose, count)
        self.kept_bytes += count

    def release(self) -> None:
        """Gives all bytes back. A second call does nothing."""
        count, self.kept_bytes = self.kept_bytes, 0
        self._budget.give_back(self._whose, count)


def _why(whose: str, limit_bytes: int) -> str:
    return f"The bodies of {whose} requests under way have {limit_bytes} bytes, which is as much as is kept."
