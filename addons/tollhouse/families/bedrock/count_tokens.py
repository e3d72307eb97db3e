"""CountTokens: free, and its body is read as strictly as that of the call that it counts for.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html
"""

from __future__ import annotations

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.bedrock.model_ids import requested_model
from tollhouse.families.formats.document import parsed
from tollhouse.families.meters import AnswerHead, PassThrough
from tollhouse.families.units import Estimate, Units


def read(request: Request, dialect: Dialect) -> Asked:
    parsed(request.body)
    return Asked(requested_model(request.path), writes=False, reasons=False)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return Estimate(Units())


def meter(asked: Asked, head: AnswerHead) -> PassThrough:
    return PassThrough()
