"""The known fields of a request for messages, and how one of them is read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.checked import MAX_NAME, known_case
from tollhouse.families.formats.document import refuse

# fmt: off
NOT_INPUT: Final = frozenset(
    {
        "model", "max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k",
        "metadata", "service_tier", "speed", "inference_geo", "container", "fallbacks",
        "fallback_credit_token", "billing_policy", "cache_control", "diagnostics", "thread",
        "thinking", "anthropic_version", "anthropic_beta", "mcp_servers",
    }
)
"""Fields that are no input of the model. All others count as input. anthropic-python
`types/beta/message_create_params.py`; ``anthropic_version`` and ``anthropic_beta`` are Vertex's and
Bedrock's."""

KNOWN: Final = NOT_INPUT | frozenset(
    {
        "messages", "system", "tools", "tool_choice", "output_config", "output_format",
        "context_management", "compaction",
    }
)
"""Known fields. A field that differs from one of them only in case is refused: a parser that folds
case would read it."""
# fmt: on

_INNER: Final[Mapping[str, frozenset[str]]] = {
    "thinking": frozenset({"type", "budget_tokens", "display"}),
    "tools": frozenset({"type", "name", "model", "max_uses", "max_tokens", "max_content_tokens"}),
    "fallbacks": frozenset({"model", "max_tokens", "speed", "thinking"}),
    "container": frozenset({"id", "skills"}),
    "thread": frozenset({"type", "previous_message_id"}),
    "billing_policy": frozenset({"type", "bill_to"}),
    "context_management": frozenset({"edits"}),
}


def refuse_case_variants(tree: Mapping[str, Any]) -> None:
    """Raises `Refused` for a key that differs from a known one only in case, at the top and in the
    fields that decide what a call may cost."""
    known_case(tree, KNOWN)
    for field, known in _INNER.items():
        value = tree.get(field)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                known_case(item, known, f"{field}.")


def optional[T](
    found: Mapping[str, Any],
    key: str,
    kind: type[T] | tuple[type[T], ...],
    what: str,
    where: str = "",
) -> T | None:
    """The value of ``key``, None if there is none. Raises `Refused` for one of another type."""
    value = found.get(key)
    if value is not None and not isinstance(value, kind):
        refuse(f'"{where}{key}" must be {what}.')
    return value


def objects(found: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list, none if it is not there. Raises `Refused` for anything else."""
    value = optional(found, key, list, "a list") or []
    if not all(isinstance(item, dict) for item in value):
        refuse(f'"{key}" must be a list of objects.')
    return value


def model_name(value: Any, where: str = "model") -> str:
    """``value`` if it is a model's name. Raises `Refused`."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        refuse(f'"{where}" must be a string of 1 to {MAX_NAME} printable characters.')
    return value
