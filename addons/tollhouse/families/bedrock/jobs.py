"""Jobs: StartAsyncInvoke and CreateModelInvocationJob. Their output goes to S3, and no answer has their
usage.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_StartAsyncInvoke.html and
.../API_CreateModelInvocationJob.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.bedrock.aws_fields import refuse_case_variants, word_at
from tollhouse.families.bedrock.model_ids import plain_id
from tollhouse.families.formats.document import parsed
from tollhouse.families.formats.watched import WatchedJson
from tollhouse.families.meters import AnswerHead
from tollhouse.families.units import Charge

_KNOWN: Final = frozenset({"modelId"})
_ARNS: Final = ("invocationArn", "jobArn")


def read(request: Request, dialect: Dialect) -> Asked:
    body = parsed(request.body)
    refuse_case_variants(body.tree, _KNOWN)
    model = plain_id(word_at(body.tree, "modelId", body))[:256]
    return Asked(model, writes=False, reasons=False)


class Started:
    """`formats.watched.HeardWhole`. The answer names the job by its ARN. Later paths have it
    percent-encoded, so both spellings are the job's."""

    error = ""

    def __init__(self) -> None:
        self.created: tuple[str, ...] = ()

    def event(self, document: Mapping[str, Any]) -> bool:
        arns = [document[key] for key in _ARNS if isinstance(document.get(key), str)]
        self.created = tuple(name for arn in arns for name in (arn, quote(arn, safe="-._~")))
        return False

    def charges(self) -> tuple[Charge, ...]:
        return ()


def meter(asked: Asked, head: AnswerHead) -> WatchedJson:
    return WatchedJson(Started(), _ARNS)
