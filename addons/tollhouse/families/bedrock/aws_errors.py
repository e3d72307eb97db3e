"""Errors in Bedrock's format: ours as AWS's SDKs raise them, and what AWS's say of the key.

restJson1 has the type of an error in the header ``x-amzn-errortype`` or in the body's ``__type``:
https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization.
"""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.base import Rule
from tollhouse.families.formats.aws_event_stream import exception_frame
from tollhouse.families.formats.errors import EVERYWHERE, as_json, message, text_of
from tollhouse.families.openai import OPENAI

# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors, and
# .../API_runtime_InvokeModel.html for the quota. AWS has no error for an account without money.
_TYPES: Final = {
    401: "AccessDeniedException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}


def error_body(denial: Denial, call_id: str) -> bytes:
    status = denial.status
    other = "InternalServerException" if status >= 500 else "ValidationException"
    text = text_of(denial, call_id)
    return as_json({"message": text, "__type": _TYPES.get(status, other), "id": call_id})


def error_event(denial: Denial, call_id: str) -> bytes:
    """A frame that botocore raises as `EventStreamError`. Streams have five types of errors:
    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html."""
    status = denial.status
    if status == 429:
        kind = "throttlingException"
    elif status == 503:
        kind = "serviceUnavailableException"
    else:
        kind = "internalServerException" if status >= 500 else "validationException"
    return exception_frame(kind, as_json({"message": text_of(denial, call_id)}))


def stream_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """The last event of a stream: a frame, or where OpenAI's format was asked for an event of that."""
    if asked.kind == "chat":
        return OPENAI.last_event(denial, call_id, asked)
    return error_event(denial, call_id)


VERDICTS: Final = (
    Rule(
        "refused",
        403,
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html",
        kind=("ExpiredToken", "InvalidSignature", "UnrecognizedClient"),
    ),
    Rule(
        "refused",
        403,
        "of a Bedrock API key: https://github.com/anomalyco/opencode/issues/47073",
        message(r"Authentication failed: Please make sure your API Key is valid"),
    ),
    *EVERYWHERE,
)
"""The first that fits decides. Bedrock has no code for an empty account. Any other 403 is a right
that the key lacks."""
