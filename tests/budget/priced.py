"""A model with a round price, and a call of it as it comes to the budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from tests.support.calls import CHAT, IDENTITY, admitted, requested
from tests.support.calls import PROJECT as PAYS

from tollhouse.budget.hold import CallHold
from tollhouse.call import Amount, Requested, new_call_id
from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.ledger.ledger import Scope
from tollhouse.parties import Identity, Project
from tollhouse.prices.table import PriceTable

PRICES: Final = PriceTable({}, {"openai/priced": {"input": "1", "output": "10"}})
"""USD for a million tokens: 1,000 and 10,000 nano-dollars a token."""
HELD: Final = Amount(100 * 1_000 + 50 * 10_000, 150, 1)
"""What `a_call` holds if it is told nothing else."""
FREE: Final = Amount(0, 0, 1)
PROJECT: Final = Scope("project", "acme", "proj_1")
TENANT: Final = Scope("tenant", "acme", "acme")
LIMITED: Final = replace(PAYS, limits=("10 usd/day",))


def a_call(
    path: str = CHAT,
    *,
    project: Project = LIMITED,
    identity: Identity = IDENTITY,
    body: Any = None,
    into: int = 100,
    out: int = 50,
    predicted: int = 0,
    capped: bool = True,
    beside: tuple[Charge, ...] = (),
    **asked: Any,
) -> Requested:
    """``into`` tokens in, at most ``out`` out. ``asked`` is what else its body says (`Asked`). A stream without a cap grows, but
    not at worst. The model can reason."""
    method = "GET" if "models" in path else "POST"
    at = admitted(path, method=method, project=project, identity=identity, call_id=new_call_id())
    said: dict[str, Any] = {
        "model": "priced",
        "cap": out if capped else None,
        "reasons": True,
    } | asked
    grows = bool(said.get("stream")) and not capped and not at.worst
    estimate = Estimate(
        Units(input=into, output=out), predicted=predicted, beside=beside, grows=grows
    )
    return requested(body, at, estimate=estimate, **said)


def under_way(call_id: str, tenant: str = "acme", project: str = "proj_123") -> CallHold:
    """What a purse has of a call that it holds 5 nano-dollars for."""
    call = requested(given=admitted(project=Project(project, tenant), call_id=call_id))
    return CallHold(call, call.estimate, Amount(5))
