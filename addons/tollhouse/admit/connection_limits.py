"""How many connections of clients one token, and one tenant, may have at one time.

Who it is that has a connection is known once a call has come over it. So this bound stands behind identity, and beside that of a
source address (`listen.sockets`), which comes before any byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from tollhouse.call import Admitted
from tollhouse.denial import Refused

_RETRY: Final = (("retry-after", "1"),)


class Occupant:
    """Who has a client's connection: the token that has called over it last. `ConnectionLimits` changes it, and the connection
    ends it. ``retire`` is called when the connection is to end behind its next answer."""

    def __init__(self, retire: Callable[[], None]) -> None:
        self.token = self.tenant = ""
        self.refused = False
        """There were too many. The connection is to end."""
        self.ended = False
        self.leave: Callable[[], None] | None = None
        self._retire: Callable[[], None] | None = retire

    def refuse(self) -> None:
        self.refused = True
        if self._retire is not None:
            self._retire()

    def end(self) -> None:
        """The connection is closed. May be called twice."""
        self.ended = True
        # It leads back to the connection: such a cycle would wait for the collector.
        self._retire = None
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()


class ConnectionLimits:
    """It is mutable, and for one event loop."""

    def __init__(self, *, of_token: int, of_tenant: int) -> None:
        self._of_token = of_token
        self._of_tenant = of_tenant
        self.tokens: Counter[str] = Counter()
        self.tenants: Counter[str] = Counter()

    def occupy(self, occupant: Occupant, admitted: Admitted) -> None:
        """The call's token has the connection from here on. Refuses 503 ``too_many_connections``, and the connection ends
        then: else one that is refused would stay, and be nobody's."""
        token = admitted.identity.charged_as or admitted.identity.token_id
        tenant = admitted.project.tenant
        if (occupant.token == token and occupant.tenant == tenant) or occupant.ended:
            return
        if self.tokens.get(token, 0) >= self._of_token:
            self._refuse(occupant, "This token", self._of_token, "max_connections_per_token")
        if occupant.tenant != tenant and self.tenants.get(tenant, 0) >= self._of_tenant:
            self._refuse(occupant, "This tenant", self._of_tenant, "max_connections_per_tenant")
        if occupant.leave is not None:
            occupant.leave()
        occupant.token, occupant.tenant = token, tenant
        self._add(token, tenant, 1)
        occupant.leave = lambda: self._add(token, tenant, -1)

    def _refuse(self, occupant: Occupant, whose: str, limit: int, key: str) -> None:
        occupant.refuse()
        why = f"{whose} has {limit} connections, which is as many as may be ([limits] {key})."
        raise Refused("too_many_connections", why, _RETRY)

    def _add(self, token: str, tenant: str, count: int) -> None:
        for counts, name in ((self.tokens, token), (self.tenants, tenant)):
            counts[name] += count
            if not counts[name]:
                del counts[name]
