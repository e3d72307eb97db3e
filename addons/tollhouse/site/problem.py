"""How the admin API refuses: problem details (RFC 9457), with what happened, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from tollhouse.compact_json import compact_json

CONTENT_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:tollhouse:problem:"


class ApiProblem(Exception):
    """``code`` is the last part of ``type``, by which a program tells one from another. ``errors`` are places in the body, by
    JSON Pointer, or of the query, and what is wrong there."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        action: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.action = action
        self.errors = errors
        self.headers = headers or {}

    def answer(self) -> web.Response:
        body: dict[str, Any] = {
            "type": _TYPE + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.action:
            body["action"] = self.action
        if self.errors:
            body["errors"] = [dict(error) for error in self.errors]
        return web.Response(
            status=self.status,
            body=compact_json(body) + b"\n",
            headers={**self.headers, "Content-Type": CONTENT_TYPE},
        )


_CODES: Final[Mapping[int, str]] = {
    400: "not-valid",
    404: "not-found",
    405: "method",
    409: "refused",
    403: "unencrypted",
    413: "too-large",
    421: "host",
    422: "not-valid",
    429: "too-many-logins",
    500: "internal",
    503: "away",
}


def told(status: int, text: str, headers: Mapping[str, str] | None = None) -> ApiProblem:
    """The problem of a refusal whose ``text`` says what, why and what to do."""
    return ApiProblem(status, _CODES.get(status, "refused"), text, headers=headers)
