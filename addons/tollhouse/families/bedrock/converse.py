"""Requests of Converse and ConverseStream, whatever the model: read strictly, estimated, lowered.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.anthropic.estimate import input_of_turns
from tollhouse.families.anthropic.extras import Extras, least_cap
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.bedrock.aws_fields import (
    CAP_NAMES,
    FOR_AN_HOUR,
    long_lived,
    object_at,
    refuse_case_variants,
    refuse_compaction,
    refuse_system_tools,
    word_at,
)
from tollhouse.families.bedrock.aws_input import InputTokens
from tollhouse.families.bedrock.aws_usage import tier
from tollhouse.families.bedrock.claude_fields import can_be_claude, claude_extras
from tollhouse.families.bedrock.model_ids import can_reason_at_bedrock, requested_model
from tollhouse.families.formats.checked import whole
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.units import Charge, Estimate, Units

_SETTINGS: Final = frozenset(
    {
        "inferenceConfig", "guardrailConfig", "additionalModelResponseFieldPaths",
        "requestMetadata", "performanceConfig", "serviceTier",
    }
)  # fmt: skip
"""Fields that are no input of the model. All others count as input."""
_TOOLS: Final = frozenset({"toolConfig", "outputConfig", "additionalModelRequestFields"})
KNOWN: Final = _SETTINGS | _TOOLS | {"messages", "system", "promptVariables"}
_INFERENCE: Final = frozenset({"maxTokens", "temperature", "topP", "stopSequences"})
FIRST_SLICE_TOKENS: Final = 2_048
"""The output that is held at first of a stream without a cap. The hold grows as the stream goes on."""
GUARDED: Final = Charge("guardrail", Units(requests=1))
"""A guardrail is charged by the texts that it reads, and no answer says how many. So a call with
one has a price only if one for each such call is configured."""


class Conversed(NamedTuple):
    """What estimate and meter have to know of the request beside its body."""

    guarded: bool
    stored: bool
    """Its prompt is kept by AWS."""
    extras: Extras = Extras()


def read(request: Request, dialect: Dialect) -> Asked:
    """Raises Refused("bad_request") for a body that can't be read in exactly one way."""
    body, kind = parsed(request.body), request.operation.kind
    document = body.tree
    refuse_case_variants(document, KNOWN)
    inference = object_at(document, "inferenceConfig")
    refuse_case_variants(inference, _INFERENCE, "inferenceConfig.")
    cap = whole(inference, "maxTokens", 0, where="inferenceConfig.")
    fields = object_at(document, "additionalModelRequestFields")
    _refuse_second_cap(fields)
    refuse_compaction(fields, body)
    service = word_at(object_at(document, "serviceTier"), "type", body, "serviceTier.")
    performance = object_at(document, "performanceConfig")
    latency = word_at(performance, "latency", body, "performanceConfig.")
    refuse_system_tools(document)
    guarded = bool(object_at(document, "guardrailConfig"))
    model = requested_model(request.path)
    stored = ":prompt/" in model
    own = Document(_thinking_named(fields) if can_be_claude(model) else {}, body.long)
    return Asked(
        model,
        stream=kind == "converse-stream",
        cap=cap or None,
        tier=tier(service, latency),
        reasons=can_reason_at_bedrock(model),
        # A stored prompt has marks of the cache of its own.
        may=FOR_AN_HOUR if stored else long_lived(body),
        kind=kind,
        least_cap=least_cap(own, cap or None),
        detail=Conversed(guarded, stored, claude_extras(own, cap or None)),
        document=body,
    )


def _refuse_second_cap(fields: Mapping[str, Any]) -> None:
    """Which of two caps wins is the model's own rule."""
    inner = [value for value in fields.values() if isinstance(value, dict)]
    for found in (fields, *inner):
        for key in found:
            if key in CAP_NAMES:
                refuse(
                    f'"additionalModelRequestFields" has "{key}"; '
                    'the cap of a Converse request is "inferenceConfig.maxTokens".'
                )


def _thinking_named(fields: dict[str, Any]) -> dict[str, Any]:
    """Claude's fields. Converse takes ``thinking`` under an older name too:
    https://docs.aws.amazon.com/bedrock/latest/userguide/inference-reasoning.html."""
    older = fields.get("reasoning_config")
    if older is None:
        return fields
    if fields.get("thinking") is not None:
        refuse('"additionalModelRequestFields" has "thinking" and "reasoning_config"; send one.')
    return {**fields, "thinking": older}


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Never raises, whatever the client sends."""
    worst = mode == "worst"
    count = InputTokens(asked.document, limits.context, worst=worst, unseen=asked.detail.stored)
    tokens = count.of_request(_SETTINGS, _TOOLS)
    beside = (GUARDED,) if asked.detail.guarded else ()
    return held_for(asked, tokens, limits, asked.detail.extras, worst=worst, beside=beside)


def held_for(
    asked: Asked,
    tokens: int,
    limits: Limits,
    extras: Extras,
    *,
    worst: bool,
    beside: tuple[Charge, ...] = (),
) -> Estimate:
    """The estimate of a request with so many tokens of input in the first turn of its model."""
    tokens = input_of_turns(tokens, extras, limits.context, worst=worst)
    if not asked.writes:
        return Estimate(Units(input=tokens, requests=1), beside=beside)
    slices = asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    units = Units(input=tokens, output=each * asked.choices, requests=1)
    return Estimate(
        units, may=asked.may, predicted=extras.thinks_beside, beside=beside, grows=slices
    )


def rewrite(body: bytes, asked: Asked) -> bytes:
    return (
        body
        if asked.lowered_to is None
        else lower_cap(body, asked.lowered_to, "maxTokens", inside="inferenceConfig")
    )
