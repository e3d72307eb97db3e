"""Which calls get a clearance for their fallback: every gate that goes by the provider is passed again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.calls import admitted, covered, lease, requested
from tests.support.values import replace
from tollhouse.call import Admitted, Covered, Requested
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.denial import Refused
from tollhouse.fallback import Fallbacks
from tollhouse.providers import Catalog
from tollhouse.providers.openai import OPENAI

FIRST = replace(OPENAI, fallback="second")
SECOND = replace(OPENAI, name="second", hosts=("second.test",), fallback=None)
KEPT: dict[str, Any] = {"model": "gpt-4o", "input": "kept"}
NOT_KEPT: dict[str, Any] = {"model": "gpt-4o", "input": "not kept", "store": False}


class Gates:
    """All four, played. ``fault`` is raised by the gate that is named ``by``."""

    def __init__(self, by: str = "", fault: Exception | None = None) -> None:
        self.by = by
        self.fault = fault
        self.passed: list[str] = []

    def _pass(self, name: str) -> None:
        self.passed.append(name)
        if name == self.by and self.fault is not None:
            raise self.fault

    async def again(self, given: Requested, at: Admitted, /) -> Requested:
        self._pass("read")
        return replace(given, admitted=at)

    async def __call__(self, given: Requested, exchange: object, /) -> Requested:
        self._pass("models")
        return given

    async def get(self, provider: str, tenant: str, project: str) -> Lease:
        self._pass("keys")
        assert (provider, tenant, project) == ("second", "acme", "proj_1")
        return lease("sk-of-the-second")

    async def fall_back(
        self, call_id: str, given: Requested, /, *, unknown: bool
    ) -> Covered | None:
        self._pass("purse")
        return None if self.by == "purse" else covered(given)


def fallbacks(gates: Gates) -> Fallbacks:
    return Fallbacks(Catalog((FIRST, SECOND)), gates, gates, gates, gates)


def a_call(body: Any = None, path: str = "/v1/chat/completions") -> Requested:
    return requested(body, admitted(path, provider=FIRST))


async def test_a_call_that_passes() -> None:
    """It goes to the fallback's host, below the same path, with the fallback's key."""
    gates = Gates()
    clearance = await fallbacks(gates).clearance(a_call(), unknown=False)
    assert clearance is not None
    there = clearance.covered.requested.admitted
    assert (there.provider.name, there.host, there.path) == (
        "second",
        "second.test",
        "/v1/chat/completions",
    )
    assert clearance.lease.secret.reveal() == "sk-of-the-second"
    assert gates.passed == ["read", "models", "keys", "purse"]


@pytest.mark.parametrize(
    ("by", "fault"),
    [
        ("read", Refused("bad_request")),
        ("models", Refused("model_not_allowed")),
        ("keys", CredentialUnavailable("There is no key.")),
        ("purse", None),
        *((name, RuntimeError("a fault of ours")) for name in ("read", "models", "keys")),
    ],
)
async def test_a_gate_that_refuses(by: str, fault: Exception | None) -> None:
    """Or fails: there is no clearance, and no gate behind it is asked."""
    gates = Gates(by, fault)
    assert await fallbacks(gates).clearance(a_call(), unknown=False) is None
    assert gates.passed[-1] == by


@pytest.mark.parametrize(
    ("body", "path", "asked"),
    [
        (NOT_KEPT, "/v1/responses", True),
        (KEPT, "/v1/responses", False),
        ({**NOT_KEPT, "previous_response_id": "resp_1"}, "/v1/responses", False),
        ({"metadata": {}}, "/v1/conversations", False),
    ],
)
async def test_what_may_be_asked_elsewhere(body: Any, path: str, asked: bool) -> None:
    """What is metered, creates nothing and names nothing that one provider alone has."""
    gates = Gates()
    clearance = await fallbacks(gates).clearance(a_call(body, path), unknown=False)
    assert (clearance is not None, bool(gates.passed)) == (asked, asked)


async def test_no_fallback() -> None:
    gates = Gates()
    alone = requested(None, admitted(provider=OPENAI))
    assert await fallbacks(gates).clearance(alone, unknown=False) is None
    assert gates.passed == []
