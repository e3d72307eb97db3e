"""The type that a JSON body is sent under is the one under which it was judged, so that the provider reads the same body."""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.headers import Headers

JSON: Final = "application/json"
_SAME: Final = frozenset({JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=utf-8"})


def sent_as_json(headers: Headers, asked: Asked) -> Headers:
    """The headers with a ``content-type`` that says JSON, and no charset but UTF-8 (RFC 8259,
    section 8.1). If the client's own header says that, it stays as it is."""
    said = [value for name, value in headers if name == "content-type"]
    if len(said) == 1 and said[0].lower() in _SAME:
        return headers
    return (
        *((name, value) for name, value in headers if name != "content-type"),
        ("content-type", JSON),
    )
