"""The gate that bounds calls under way: whose calls count together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.calls import IDENTITY, admitted, arrival, head
from tests.support.values import replace

from tollhouse.admit.call_limits import CallLimits
from tollhouse.admit.connection_limits import ConnectionLimits, Occupant
from tollhouse.denial import Refused


class Exchange:
    """One that is ended by the test."""

    def __init__(self) -> None:
        self.releases: list[Callable[[], object]] = []
        self.occupant: Occupant | None = None

    def at_end(self, release: Callable[[], object]) -> None:
        self.releases.append(release)


async def test_one_host_has_many_ipv6_addresses() -> None:
    """Another address of its network is the same source, whatever the token; its place is free when its call has ended."""
    connections = ConnectionLimits(of_token=10, of_tenant=10)
    gate = CallLimits(10, of_source=1, of_token=10, connections=connections)

    async def ask(number: int, client_ip: str) -> Exchange:
        stage = admitted(identity=replace(IDENTITY, token_id=f"tok_{number}"))
        stage = replace(stage, arrival=arrival(head(client_ip=client_ip)))
        exchange = Exchange()
        assert await gate(stage, exchange) is stage
        return exchange

    first = await ask(1, "2001:db8::1")
    with pytest.raises(Refused) as refused:
        await ask(2, "2001:db8::ffff:2")
    assert refused.value.denial.code == "too_many_connections"
    await ask(3, "2001:db8:0:1::1")
    first.releases[0]()
    await ask(4, "2001:db8::3")
