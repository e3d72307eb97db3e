"""The tools that Mistral runs and charges by use: https://mistral.ai/pricing, "Connectors"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.units import Charge, Units

PAID: Final = (
    "web_search",
    "web_search_premium",
    "code_interpreter",
    "image_generation",
    "document_library",
)
"""mistralai-python `builtinconnectors.py`."""
_OF_NO_PRICE: Final = frozenset({"function", "connector"})
"""The client runs a function. A connector is a server of the customer's own."""
ROUNDS: Final = 4
"""How often a model turns to each tool, and then writes again. Mistral publishes no bound; most answers search once or twice."""


def asked_for(tools: Any, name_of: Any) -> tuple[str, ...]:
    """The tools in a request that may cost something. One of an unknown type goes by that type's name, which has no price
    until there is one."""
    found = []
    for tool in tools if isinstance(tools, list) else ():
        kind = name_of(tool.get("type", "function")) if isinstance(tool, dict) else None
        if kind not in _OF_NO_PRICE:
            found.append(kind[:64] if isinstance(kind, str) else "unknown")
    return tuple(dict.fromkeys(found))


def bounds(names: tuple[str, ...]) -> tuple[Charge, ...]:
    return tuple(Charge(name, Units(requests=ROUNDS)) for name in names)


def used(connectors: Any, asked: tuple[str, ...]) -> tuple[Charge, ...]:
    """Of a usage's ``connectors``: calls by the connector's name. Those of the customer's own cost nothing by themselves."""
    if not isinstance(connectors, Mapping):
        return ()
    return tuple(
        Charge(name, Units(requests=calls))
        for name, calls in connectors.items()
        if (name in PAID or name in asked) and type(calls) is int and calls > 0
    )
