"""The type that a JSON body is sent under: the one under which it was judged, so that the provider reads the same body."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Refused
from tollhouse.families.base import Headers

JSON: Final = "application/json"
_UTF8: Final = frozenset({"utf-8", "utf8"})


def judge_content_type(headers: Headers) -> None:
    """Raises Refused("unsupported_encoding") for a ``content-type`` that is not JSON in UTF-8 (RFC 8259, section 8.1). No type
    at all is let through: `typed` adds it."""
    value = next((value for name, value in headers if name == "content-type"), None)
    if value is None:
        return
    kind, *parameters = value.split(";")
    if kind.strip().lower() != JSON:
        raise Refused(
            "unsupported_encoding", f"The body was read as JSON, and Content-Type says {kind.strip()[:80]!a}."
        )
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "charset" and text.strip().strip('"').lower() not in _UTF8:
            raise Refused("unsupported_encoding", f"JSON is UTF-8, and Content-Type says {text.strip()[:40]!a}.")


def typed(headers: Headers) -> Headers:
    """The headers with a ``content-type``."""
    if any(name == "content-type" for name, _ in headers):
        return headers
    return (*headers, ("content-type", JSON))
