"""Google's API, as the Gemini API speaks it: https://ai.google.dev/api. The list of models is open."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.base import Family, Rule, model_list
from tollhouse.families.formats.errors import EVERYWHERE, as_json, as_sse, message, reason, text_of

# google.rpc.Code by HTTP status: googleapis/google/rpc/code.proto.
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# https://ai.google.dev/api/models. It has no colon: behind one stands a method (`models/NAME:generateContent`).
_NAME: Final = r"[A-Za-z0-9._-]+"


def error_body(denial: Denial, call_id: str) -> bytes:
    status = denial.status
    text = text_of(denial, call_id)
    return as_json(
        {"error": {"code": status, "message": text, "status": _STATUS.get(status, "UNKNOWN")}}
    )


def error_event(denial: Denial, call_id: str) -> bytes:
    return as_sse(error_body(denial, call_id))


GOOGLE: Final = Family(
    "google",
    routes=(*model_list("/v1beta/models", _NAME), *model_list("/v1/models", _NAME)),
    error_body=error_body,
    error_event=error_event,
    verdicts=(
        Rule(
            "refused",
            400,
            "https://ai.google.dev/gemini-api/docs/troubleshooting",
            reason("API_KEY_INVALID"),
        ),
        Rule(
            "no_money",
            429,
            "https://github.com/dyad-sh/dyad/issues/3626",
            message(r"Your prepayment credits are depleted"),
        ),
        *EVERYWHERE,
    ),
)
