"""What a request lets the provider do beside one answer of one model: tools that it runs, a second
model, another pass over the input."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from tollhouse.families.anthropic.message_fields import model_name, objects, optional
from tollhouse.families.formats.checked import whole
from tollhouse.families.formats.document import Document, refuse

_CLIENTS: Final = re.compile(r"(?:custom|(?:bash|text_editor|computer|memory)_\d+|.*_toolset_\d+)")
"""Types of tools that the client runs: anthropic-python `types/beta/beta_tool_union_param.py`."""
_FILTERS: Final = re.compile(r"web_(?:search|fetch)_(?:2026(?!01)|202[7-9]|20[3-9]\d)\d*")
"""Versions that run code of their own to filter what they found; code execution is free beside
them: https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool."""
_MAX_MODELS: Final = 32


class Runs(NamedTuple):
    """A tool that the provider runs. ``uses`` is None without a bound. ``tokens`` is what one use
    may bring into the input, None if the request does not say."""

    kind: str
    uses: int | None = None
    tokens: int | None = None


class Other(NamedTuple):
    """Another model that may be asked. ``cap`` is None without a cap."""

    model: str
    cap: int | None = None
    uses: int | None = None


class Extras(NamedTuple):
    runs: tuple[Runs, ...] = ()
    advisors: tuple[Other, ...] = ()
    fallbacks: tuple[Other, ...] = ()
    """Models that are asked in turn where the one before declines."""
    fallbacks_unknown: bool = False
    fast: bool = False
    """A fallback asks for fast output."""
    compacts_from: int | None = None
    """Tokens of input from which on the provider may write a summary; None: never."""
    thinks_beside: int = 0
    """Tokens of thinking that are not bound by the cap."""
    keeps_thread: bool = False
    """The provider keeps the conversation under the id of its answer."""

    @property
    def free_execution(self) -> bool:
        """Running code costs nothing."""
        return any(_FILTERS.fullmatch(tool.kind) for tool in self.runs)

    @property
    def executes(self) -> bool:
        """A container may be used that is charged by its time."""
        return not self.free_execution and any(
            tool.kind.startswith("code_execution") for tool in self.runs
        )


_COMPACTION_TRIGGER: Final = 150_000
"""The default: https://platform.claude.com/docs/en/build-with-claude/compaction."""


def extras(document: Document, cap: int | None) -> Extras:
    """Raises `Refused` for a field of another type."""
    tree = document.tree
    runs: list[Runs] = []
    advisors: list[Other] = []
    for tool in objects(tree, "tools"):
        kind = document.name(optional(tool, "type", str, "a string", "tools."))
        uses = whole(tool, "max_uses", 0, where="tools.")
        if kind is None or _is_clients(kind):
            continue
        if kind.startswith("advisor_"):
            model = model_name(document.name(tool.get("model")), "tools.model")
            advisors.append(Other(model, whole(tool, "max_tokens", 0, where="tools."), uses))
        runs.append(Runs(kind, uses, whole(tool, "max_content_tokens", 0, where="tools.")))
    if objects(tree, "mcp_servers") and not any(one.kind == "mcp_toolset" for one in runs):
        runs.append(Runs("mcp_toolset"))
    fallbacks, unknown, fast = _fallbacks(document)
    thread = optional(tree, "thread", dict, "an object") or {}
    return Extras(
        tuple(runs),
        tuple(advisors),
        fallbacks,
        unknown,
        fast,
        _compacts_from(document),
        _thinks_beside(document, cap),
        document.name(thread.get("type")) == "create",
    )


def _is_clients(kind: str) -> bool:
    """``mcp_toolset`` is no client's, whatever else ends in that word."""
    return kind != "mcp_toolset" and _CLIENTS.fullmatch(kind) is not None


def _fallbacks(document: Document) -> tuple[tuple[Other, ...], bool, bool]:
    value = document.tree.get("fallbacks")
    if isinstance(value, str):
        # "default": models of the provider's own choice.
        return (), True, False
    entries = objects(document.tree, "fallbacks")
    if len(entries) > _MAX_MODELS:
        refuse(f'"fallbacks" may have at most {_MAX_MODELS} entries.')
    found = tuple(
        Other(
            model_name(document.name(entry.get("model")), "fallbacks.model"),
            whole(entry, "max_tokens", 0, where="fallbacks."),
        )
        for entry in entries
    )
    return found, False, any(document.name(entry.get("speed")) == "fast" for entry in entries)


def _compacts_from(document: Document) -> int | None:
    tree = document.tree
    if optional(tree, "compaction", dict, "an object") is not None:
        return 0
    management = optional(tree, "context_management", dict, "an object") or {}
    least: int | None = None
    for edit in objects(management, "edits"):
        if str(document.name(edit.get("type"))).startswith("compact"):
            trigger = edit.get("trigger")
            value = trigger.get("value") if isinstance(trigger, dict) else None
            at = value if type(value) is int and value >= 0 else _COMPACTION_TRIGGER
            least = at if least is None else min(least, at)
    return least


def budgets(document: Document) -> list[int]:
    """The tokens that the request and its fallbacks set apart for thinking. Raises `Refused`."""
    found = []
    fallbacks = document.tree.get("fallbacks")
    for one in (document.tree, *(fallbacks if isinstance(fallbacks, list) else ())):
        thinking = optional(one, "thinking", dict, "an object") or {}
        tokens = whole(thinking, "budget_tokens", 0, where="thinking.")
        if tokens is not None and document.name(thinking.get("type")) == "enabled":
            found.append(tokens)
    return found


def least_cap(document: Document, cap: int | None) -> int:
    """The lowest cap that the request can have: above the thinking that the cap binds."""
    return max((one + 1 for one in budgets(document) if cap is None or one < cap), default=1)


_SPEAKS_AT_ONCE: Final = re.compile(
    r"(?:.*[./])?claude-(?:[123v]|instant|(?:opus|sonnet|haiku)-[34](?![0-9]))"
)
"""Models that think only where it is asked for:
https://platform.claude.com/docs/en/build-with-claude/extended-thinking. What a later one does without
the field depends on the model: anthropic-python `types/beta/message_create_params.py`."""


def can_reason(document: Document, models: Iterable[str]) -> bool:
    """Whether one of ``models`` may think in silence."""
    thinking = optional(document.tree, "thinking", dict, "an object") or {}
    kind = document.name(thinking.get("type"))
    if kind is None:
        return not all(map(_SPEAKS_AT_ONCE.match, models))
    # A fallback may have another rule of its own.
    return bool(kind != "disabled") or document.tree.get("fallbacks") is not None


def _thinks_beside(document: Document, cap: int | None) -> int:
    """A budget that is not below the cap is one of thinking between tools, which the cap does not
    bind: https://platform.claude.com/docs/en/build-with-claude/extended-thinking#interleaved-thinking."""
    return max((one for one in budgets(document) if cap is not None and one >= cap), default=0)
