"""Requests of InvokeModel and InvokeModelWithResponseStream: read strictly, estimated, lowered.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.denial import Refused
from tollhouse.families.anthropic.extras import Extras, least_cap
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.bedrock.aws_fields import (
    CAP_NAMES,
    long_lived,
    object_at,
    refuse_case_variants,
    refuse_compaction,
    refuse_system_tools,
)
from tollhouse.families.bedrock.aws_input import InputTokens
from tollhouse.families.bedrock.aws_usage import tier
from tollhouse.families.bedrock.claude_fields import claude_extras
from tollhouse.families.bedrock.converse import GUARDED, held_for
from tollhouse.families.bedrock.invoke_formats import InvokeFormat, format_of
from tollhouse.families.bedrock.model_ids import can_reason_at_bedrock, requested_model
from tollhouse.families.formats.checked import whole
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.units import Estimate
from tollhouse.headers import Headers

_MAX_CHOICES: Final = 128
_TOOLS: Final = frozenset(
    {"tools", "toolConfig", "tool_choice", "response_format", "output_config", "documents"}
)
_SETTINGS: Final = frozenset(
    {
        *CAP_NAMES, "anthropic_version", "anthropic_beta", "temperature", "top_p", "top_k",
        "stop_sequences", "stop", "thinking", "textGenerationConfig", "schemaVersion",
        "return_likelihoods", "num_generations", "n", "p", "k", "stream", "input_type",
        "embedding_types", "truncate", "dimensions", "normalize", "embeddingTypes", "model",
        "amazon-bedrock-guardrailConfig",
    }
)  # fmt: skip
"""Fields that are no input of a model, in any format. All others count as input."""
_GUARDRAIL: Final = "x-amzn-bedrock-guardrailidentifier"


def guarded(headers: Headers) -> bool:
    """Whether a guardrail is named where the body has no place for it."""
    return any(name == _GUARDRAIL for name, _ in headers)


class Invoked(NamedTuple):
    """What the meter has to know of the request."""

    form: InvokeFormat
    guarded: bool
    extras: Extras


def read(request: Request, dialect: Dialect) -> Asked:
    """Raises `Refused`: 400 for a body that can't be read in exactly one way, 403 for a model whose
    format is not known."""
    body, kind = parsed(request.body), request.operation.kind
    document = body.tree
    model = requested_model(request.path)
    form = format_of(model, document)
    if form is None:
        raise Refused(
            "path_not_allowed",
            f"What the body for {model[:120]!a} means and what its answer costs is not known here; "
            "for a model of text use /converse.",
        )
    _refuse_unknown_spelling(document, form)
    refuse_compaction(document, body)
    refuse_system_tools(document)
    owner = object_at(document, form.owner) if form.owner else document
    where = f"{form.owner}." if form.owner else ""
    caps = [cap for key in form.caps if (cap := whole(owner, key, 0, where=where)) is not None]
    head = {name: value for name, value in request.headers if name.startswith("x-amzn-bedrock-")}
    choices = 1
    if form.choices and document.get(form.choices) is not None:
        choices = document[form.choices]
        if type(choices) is not int or not 1 <= choices <= _MAX_CHOICES:
            refuse(f'"{form.choices}" must be a whole number from 1 to {_MAX_CHOICES}.')
    cap = max(caps) if caps and all(caps) else None
    own = body if form.name == "claude" else Document({}, {})
    return Asked(
        model,
        stream=kind == "invoke-stream",
        cap=cap,
        writes=not form.texts,
        choices=choices,
        reasons=not form.texts and can_reason_at_bedrock(model),
        tier=tier(
            head.get("x-amzn-bedrock-service-tier"),
            head.get("x-amzn-bedrock-performanceconfig-latency"),
        ),
        may=long_lived(body),
        kind=kind,
        least_cap=least_cap(own, cap),
        detail=Invoked(form, guarded(request.headers), claude_extras(own, cap)),
        document=body,
    )


def _refuse_unknown_spelling(document: Mapping[str, Any], form: InvokeFormat) -> None:
    """A cap under a name of another format may count or not: who knows."""
    own = frozenset(form.caps) | {form.owner, form.choices, *form.texts} - {""}
    refuse_case_variants(document, own | {"messages", "prompt", "system", "tools", "toolConfig"})
    beside = CAP_NAMES & document.keys() - (frozenset() if form.owner else frozenset(form.caps))
    if beside:
        cap = f"{form.owner}.{form.caps[0]}" if form.owner else "".join(form.caps[:1])
        told = f'its cap is "{cap}"' if cap else "it has no output"
        refuse(f'The body has "{min(beside)}", which is no field of this model\'s; {told}.')


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Never raises, whatever the client sends."""
    worst = mode == "worst"
    form = asked.detail.form
    count = InputTokens(asked.document, limits.context, worst=worst)
    if form.texts:
        tree = asked.document.tree
        tokens = sum(count.of_texts(tree[key]) for key in form.texts if key in tree)
        tokens = max(tokens, count.of_request(_SETTINGS | frozenset(form.texts), _TOOLS))
    else:
        tokens = count.of_request(_SETTINGS, _TOOLS)
    beside = (GUARDED,) if asked.detail.guarded else ()
    return held_for(asked, tokens, limits, asked.detail.extras, worst=worst, beside=beside)


def rewrite(body: bytes, asked: Asked) -> bytes:
    form = asked.detail.form
    if asked.lowered_to is None or not form.caps:
        return body
    return lower_cap(body, asked.lowered_to, *form.caps, inside=form.owner)
