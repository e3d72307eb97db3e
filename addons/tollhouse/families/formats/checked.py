"""Members of a request's body, each of the type that its API takes. What is metered must be what the provider reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from tollhouse.families.formats.document import Document, refuse, shown

MAX_NAME: Final = 256
"""Characters of the name of a model, an agent or an object."""
MOST: Final = 2**31 - 1
_WORDS: Final = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    dict: "an object",
    list: "an array",
}


def known_case(found: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
    """Refuses a key that differs from a known one only in case: a parser that folds case would read it."""
    for key in found:
        if key not in known and (folded := key.casefold()) in known:
            refuse(f'The body has the key {shown(key)}; it is "{where}{folded}", in lower case.')


def optional[T](found: Mapping[str, Any], key: str, kind: type[T], where: str = "") -> T | None:
    """A value of that type; None for null, and where there is none."""
    value = found.get(key)
    if value is not None and type(value) is not kind:
        refuse(f'"{where}{key}" must be {_WORDS[kind]}.')
    return value


def whole(
    found: Mapping[str, Any], key: str, low: int, high: int = MOST, where: str = ""
) -> int | None:
    """A whole number between ``low`` and ``high``; None for null, and where there is none."""
    value = found.get(key)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        refuse(f'"{where}{key}" must be a whole number from {low} to {high}.')
    return value


def name(body: Document, key: str) -> str:
    """The name of a model or an object; "" for null, and where there is none."""
    value = body.name(body.tree.get(key))
    if value is None:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        refuse(f'"{key}" must be a string of 1 to {MAX_NAME} printable characters.')
    return value


def model(body: Document) -> str:
    """The model, which has to be there."""
    found = name(body, "model")
    if not found:
        refuse('The body has no "model".')
    return found
