"""What a request for Claude lets the provider do beside one answer, in a body of InvokeModel or in
the ``additionalModelRequestFields`` of Converse. Both are Anthropic's own fields:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html.
"""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Refused
from tollhouse.families.anthropic.extras import Extras, extras
from tollhouse.families.anthropic.message_fields import refuse_case_variants
from tollhouse.families.formats.document import Document, shown

_SEARCH_AMONG_TOOLS: Final = "tool_search_tool"
"""The one tool that Bedrock itself runs for Claude. It costs only the tokens that it brings in."""


def can_be_claude(model: str) -> bool:
    """An ARN may hide the model."""
    return "anthropic." in model or model.startswith("arn:")


def claude_extras(fields: Document, cap: int | None) -> Extras:
    """Raises `Refused`: 400 for a field that can't be read in exactly one way, 403 for a tool or a
    second model whose cost no answer of Bedrock's is known to tell."""
    refuse_case_variants(fields.tree)
    found = extras(fields, cap)
    for tool in found.runs:
        if not tool.kind.startswith(_SEARCH_AMONG_TOOLS):
            raise Refused(
                "path_not_allowed",
                f"The request has a tool of type {shown(tool.kind)}. What it costs at Bedrock is not "
                "known here. Leave it out, or give the model a tool that you run yourself.",
            )
    if found.fallbacks or found.fallbacks_unknown:
        raise Refused(
            "path_not_allowed",
            'The request has "fallbacks". What their models cost at Bedrock is not known here. Leave '
            "them out, and call the other model yourself.",
        )
    return found
