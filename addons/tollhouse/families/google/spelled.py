"""The members of a request's objects. Google takes each field in two spellings, as proto3's JSON
does: ``maxOutputTokens`` and ``max_output_tokens`` (https://protobuf.dev/programming-guides/json).

A parser keeps one of the two if a body has both, and nobody knows which. So both together are
refused, and so is any third spelling of a known field. A field that is null is as if it were missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.document import Document, refuse, shown

Known = Mapping[str, str]
"""Names in camelCase, by themselves without underscores and in lower case."""
_HUMP: Final = re.compile(r"[A-Z]")
_MAX_NAME: Final = 256


def known(*names: str) -> Known:
    return {name.lower(): name for name in names}


def snake(name: str) -> str:
    """``maxOutputTokens`` as ``max_output_tokens``."""
    return _HUMP.sub(lambda hump: "_" + hump[0].lower(), name)


def members(found: Mapping[str, Any], known_names: Known, where: str = "") -> dict[str, Any]:
    """The known members of an object by their names in camelCase, without those that are null.
    Raises `Refused` for one that is there twice or misspelled."""
    values: dict[str, Any] = {}
    seen: dict[str, str] = {}
    for key, value in found.items():
        name = known_names.get(key.replace("_", "").lower())
        if name is None:
            continue
        if key not in (name, snake(name)):
            refuse(f'The body has the key {shown(key)}; it is "{where}{name}".')
        if name in seen:
            refuse(f"The body has both {shown(where + seen[name])} and {shown(where + key)}.")
        seen[name] = key
        if value is not None:
            values[name] = value
    return values


def obj(values: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any] | None:
    value = values.get(name)
    if value is not None and not isinstance(value, dict):
        refuse(f'"{where}{name}" must be an object.')
    return value


def objects(values: Mapping[str, Any], name: str, where: str = "") -> list[Mapping[str, Any]]:
    """A list of objects. An object alone is taken for a list of one: Google's parser does so."""
    value = values.get(name)
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        refuse(f'"{where}{name}" must be a list of objects.')
    return value


def text(values: Mapping[str, Any], name: str, document: Document, where: str = "") -> str:
    """A short string; "" if it is missing."""
    value = document.name(values.get(name))
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        refuse(f'"{where}{name}" must be a string of at most {_MAX_NAME} printable characters.')
    return value


def integer(values: Mapping[str, Any], name: str, low: int, high: int, where: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        refuse(f'"{where}{name}" must be a whole number from {low} to {high}.')
    return value


def boolean(values: Mapping[str, Any], name: str, where: str = "") -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        refuse(f'"{where}{name}" must be true or false.')
    return value


def words(values: Mapping[str, Any], name: str, document: Document, where: str) -> tuple[str, ...]:
    """A list of short strings."""
    value = values.get(name)
    if value is None:
        return ()
    found = [document.name(item) for item in value] if isinstance(value, list) else [None]
    short = tuple(item for item in found if isinstance(item, str) and len(item) <= _MAX_NAME)
    if len(short) < len(found):
        refuse(f'"{where}{name}" must be a list of short strings.')
    return short
