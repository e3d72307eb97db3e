"""Fields of a request that are looked at, and what is refused in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.denial import Refused
from tollhouse.families.formats.checked import optional
from tollhouse.families.formats.document import Document, refuse, shown

CAP_NAMES: Final = frozenset(
    {
        "max_tokens", "maxTokens", "max_new_tokens", "maxTokenCount", "max_gen_len",
        "max_tokens_to_sample", "max_completion_tokens", "max_output_tokens",
    }
)  # fmt: skip
"""All names under which models of Bedrock take an output cap:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html."""


def refuse_case_variants(found: Mapping[str, Any], known: frozenset[str], where: str = "") -> None:
    """Some parsers fold case, and would read a known field in another spelling of it."""
    folded = {name.casefold(): name for name in known}
    for key in found:
        if key not in known and (name := folded.get(key.casefold())) is not None:
            refuse(f'The body has the key {shown(key)}; it is "{where}{name}".')


def refuse_compaction(found: Mapping[str, Any], body: Document) -> None:
    """A compaction is a pass of the model of its own, which no output cap bounds. Its tokens stand
    beside those of the answer: https://platform.claude.com/docs/en/build-with-claude/compaction."""
    management = found.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    kinds = [
        str(body.name(edit.get("type")))
        for edit in (edits if isinstance(edits, list) else ())
        if isinstance(edit, dict)
    ]
    if found.get("compaction") is not None or any(kind.startswith("compact") for kind in kinds):
        raise Refused(
            "path_not_allowed",
            "The request asks for compaction, whose tokens Bedrock's own counts leave out.",
        )


_OF_A_TOOL: Final = frozenset({"toolSpec", "systemTool", "cachePoint"})


def refuse_system_tools(found: Mapping[str, Any]) -> None:
    """``toolConfig`` of Converse, and of InvokeModel for Nova:
    https://docs.aws.amazon.com/nova/latest/nova2-userguide/using-tools.html."""
    tools = object_at(found, "toolConfig").get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if not isinstance(tool, dict):
            continue
        refuse_case_variants(tool, _OF_A_TOOL, "toolConfig.tools.")
        if tool.get("systemTool") is not None:
            raise Refused(
                "path_not_allowed",
                "The request has a systemTool, which AWS runs and charges beside the tokens; no "
                "answer says how often. Leave it out, or give the model a tool that you run yourself.",
            )


FOR_AN_HOUR: Final = frozenset({"cache_write_1h"})


def long_lived(body: Document) -> frozenset[str]:
    """The part of the tokens that a mark of the cache with a ``ttl`` of an hour makes dearer
    (`Asked.may`): ``cachePoint`` of Converse and Nova, ``cache_control`` of Claude. Marks may stand in
    messages, in the system's text and among tools."""
    waiting: list[Any] = [body.tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for mark in (node.get("cachePoint"), node.get("cache_control")):
                if isinstance(mark, dict) and body.name(mark.get("ttl")) == "1h":
                    return FOR_AN_HOUR
            node = node.values()
        waiting += [one for one in node if type(one) is dict or type(one) is list]
    return frozenset()


def object_at(found: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    """The object at ``key``; empty if there is none or it is null."""
    return optional(found, key, dict, where) or {}


def word_at(found: Mapping[str, Any], key: str, body: Document, where: str = "") -> str:
    value = body.name(found.get(key))
    if value is None:
        return ""
    if not isinstance(value, str):
        refuse(f'"{where}{key}" must be a string.')
    return value
