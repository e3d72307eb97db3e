"""Whose a client's connection is, and how many one may have."""

from __future__ import annotations

import pytest
from tests.support.calls import IDENTITY, PROJECT, admitted
from tests.support.values import replace

from tollhouse.admit.connection_limits import ConnectionLimits, Occupant
from tollhouse.call import Admitted
from tollhouse.denial import Refused


class Connections:
    def __init__(self, *, of_token: int, of_tenant: int) -> None:
        self.limits = ConnectionLimits(of_token=of_token, of_tenant=of_tenant)
        self.retired = 0

    def connection(self) -> Occupant:
        return Occupant(self._retire)

    def _retire(self) -> None:
        self.retired += 1

    def occupied(self, *tokens: str) -> list[Occupant]:
        made = [self.connection() for _ in tokens]
        for one, token in zip(made, tokens, strict=True):
            self.limits.occupy(one, by(token))
        return made

    def refuses(self, occupant: Occupant, call: Admitted, key: str) -> None:
        with pytest.raises(Refused) as refused:
            self.limits.occupy(occupant, call)
        assert refused.value.denial.code == "too_many_connections"
        assert key in refused.value.denial.why
        assert occupant.refused


def by(token: str, tenant: str = "acme") -> Admitted:
    identity = replace(IDENTITY, token_id=token, tenant=tenant)
    return admitted(identity=identity, project=replace(PROJECT, tenant=tenant))


def test_a_connection_counts_once_until_it_ends() -> None:
    found = Connections(of_token=2, of_tenant=10)
    first, second = found.occupied("a", "a")
    found.limits.occupy(first, by("a"))
    third = found.connection()
    found.refuses(third, by("a"), "max_connections_per_token")
    assert found.retired == 1
    found.limits.occupy(found.connection(), by("b"))
    for _ in range(2):
        first.end()
    found.limits.occupy(third, by("a"))
    second.end()
    assert dict(found.limits.tokens) == {"a": 1, "b": 1}


def test_a_tenant_with_many_tokens() -> None:
    """A connection that goes from one of its tokens to another needs no second place."""
    found = Connections(of_token=2, of_tenant=3)
    first, *_ = found.occupied("a", "b", "c")
    found.refuses(found.connection(), by("d"), "max_connections_per_tenant")
    found.limits.occupy(first, by("d"))
    found.limits.occupy(found.connection(), by("x", "rival"))
    assert dict(found.limits.tenants) == {"acme": 3, "rival": 1}


def test_the_token_that_called_last_has_it() -> None:
    found = Connections(of_token=1, of_tenant=1)
    [shared] = found.occupied("a")
    found.limits.occupy(shared, by("x", "rival"))
    found.limits.occupy(found.connection(), by("a"))
    assert dict(found.limits.tokens) == {"x": 1, "a": 1}
    found.refuses(shared, by("a"), "max_connections_per_token")
    # It is its last one's until it ends.
    assert dict(found.limits.tenants) == {"rival": 1, "acme": 1}


def test_one_that_has_ended_takes_no_place() -> None:
    """Its call may be judged a moment later."""
    found = Connections(of_token=1, of_tenant=1)
    gone = found.connection()
    gone.end()
    found.limits.occupy(gone, by("a"))
    assert not found.limits.tokens
