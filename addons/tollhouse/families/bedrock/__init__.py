"""AWS Bedrock's API: https://docs.aws.amazon.com/bedrock/latest/APIReference.

open_calls      the endpoints
model_ids       the model in a path: an id or an ARN
converse        requests that are the same for all models
converse_meter  usage in their answers
invoke          requests in a model's own format
invoke_formats  the formats: where the output cap stands
invoke_meter    usage in their answers
count_tokens    the free call that counts
jobs            calls whose answer comes later, elsewhere
as_openai       chat completions in OpenAI's format
aws_fields      fields of a request that are looked at
claude_fields   what a request lets Claude do beside its answer
aws_input       the tokens that a request will take
aws_answer      answers as they pass by: an object, or frames
aws_usage       what the members of an answer mean
aws_errors      our errors, and what AWS's say of a key
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Family
from tollhouse.families.bedrock import (
    as_openai,
    aws_errors,
    converse,
    converse_meter,
    count_tokens,
    invoke,
    invoke_meter,
    jobs,
    open_calls,
)
from tollhouse.families.formats.kinds import Kind, Kinds

_CONVERSE: Final = Kind(converse.read, converse.estimate, converse_meter.meter, converse.rewrite)
_INVOKE: Final = Kind(invoke.read, invoke.estimate, invoke_meter.meter, invoke.rewrite)
KINDS: Final = Kinds(
    {
        "converse": _CONVERSE,
        "converse-stream": _CONVERSE,
        "invoke": _INVOKE,
        "invoke-stream": _INVOKE,
        "count-tokens": Kind(count_tokens.read, count_tokens.estimate, count_tokens.meter),
        "chat": as_openai.CHAT,
        "job": Kind(jobs.read, count_tokens.estimate, jobs.meter),
    }
)

BEDROCK: Final = Family(
    "bedrock",
    routes=open_calls.ROUTES,
    encoded=open_calls.ENCODED,
    error_body=aws_errors.error_body,
    error_event=aws_errors.error_event,
    verdicts=aws_errors.VERDICTS,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
    stream_error=aws_errors.stream_error,
)
