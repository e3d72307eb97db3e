"""Which endpoints of Bedrock's API are open, and what each is.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html
and .../API_Operations_Amazon_Bedrock.html. Closed are guardrails that are applied on their own,
sound in both directions, agents and knowledge bases: no answer of theirs tells what it costs.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.bedrock.model_ids import ARN, SEGMENT
from tollhouse.families.operation import MODELS, Operation, Route

_CONTROL: Final = re.compile(r"bedrock(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")

ENCODED: Final = re.compile(rf"/(?:model/{SEGMENT}/[a-z-]+|async-invoke/{ARN})")
"""Paths that may hold an encoded ``/``, in the places where this pattern has it."""

CONVERSE: Final = Operation("converse", "metered", reads_body=True)
CONVERSE_STREAM: Final = Operation("converse-stream", "metered", reads_body=True)
INVOKE: Final = Operation("invoke", "metered", reads_body=True)
INVOKE_STREAM: Final = Operation("invoke-stream", "metered", reads_body=True)
COUNT_TOKENS: Final = Operation("count-tokens", "free", reads_body=True, creates=False)
CHAT: Final = Operation("chat", "metered", reads_body=True)
_JOB: Final = Operation("job", "job", reads_body=True, objects="makes")
_JOBS: Final = Operation("jobs", "free", objects="lists")


def _of_model(action: str, operation: Operation) -> Route:
    return Route("POST", re.compile(rf"/model/(?P<model>{SEGMENT})/{action}"), operation)


ROUTES: Final = (
    _of_model("converse", CONVERSE),
    _of_model("converse-stream", CONVERSE_STREAM),
    _of_model("invoke", INVOKE),
    _of_model("invoke-with-response-stream", INVOKE_STREAM),
    _of_model("count-tokens", COUNT_TOKENS),
    Route("POST", re.compile("/openai/v1/chat/completions"), CHAT),
    Route("POST", re.compile("/async-invoke"), _JOB),
    Route("GET", re.compile("/async-invoke"), _JOBS),
    Route("GET", re.compile(rf"/async-invoke/(?P<object>{ARN})"), Operation("job-state", "free")),
    Route("GET", re.compile("/foundation-models"), MODELS, hosts=_CONTROL),
    Route("POST", re.compile("/model-invocation-job"), _JOB, hosts=_CONTROL),
)
"""A job's output goes to S3, and its cost is on no answer."""
