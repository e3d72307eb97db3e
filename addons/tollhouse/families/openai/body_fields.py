"""Fields of a body, judged by a table of those that are known.

A field of another type than the API's is refused, and a key that differs from a known one only in
case: what is metered must be what the provider reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.formats.document import Document, refuse, shown

MAX_MODEL: Final = 256
MOST: Final = 2**31 - 1
"""The largest count that a field may have."""


class Type(NamedTuple):
    """``kinds`` are the Python types of the values that JSON may have there."""

    kinds: tuple[type, ...]
    words: str


TEXT: Final = Type((str,), "a string")
FLAG: Final = Type((bool,), "true or false")
OBJECT: Final = Type((dict,), "an object")
LIST: Final = Type((list,), "an array")
NUMBER: Final = Type((int, float), "a number")
TEXT_OR_LIST: Final = Type((str, list), "a string or an array")
TEXT_OR_OBJECT: Final = Type((str, dict), "a string or an object")
ANYTHING: Final = Type((str, bool, dict, list, int, float), "a value")

Table = Mapping[str, Type]


def check(found: Mapping[str, Any], known: Table, where: str = "") -> None:
    """Refuses case variants of known keys, and values of other types. Null is always allowed."""
    refuse_case_variants(found, known, where)
    for key, value in found.items():
        wanted = known.get(key)
        if wanted is None or value is None:
            continue
        kinds = wanted.kinds
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            refuse(f'"{where}{key}" must be {wanted.words}.')


def refuse_case_variants(found: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
    for key in found:
        if key not in known and (folded := key.casefold()) in known:
            refuse(f'The body has the key {shown(key)}; it is "{where}{folded}", in lower case.')


def integer(found: Mapping[str, Any], key: str, low: int, high: int = MOST) -> int | None:
    """A whole number; None for null and where there is none."""
    value = found.get(key)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        refuse(f'"{key}" must be a whole number from {low} to {high}.')
    return value


def model_of(body: Document, of_path: str = "") -> str:
    """The ``model``, which has to be there, unless the path names one: that one counts then."""
    if "model" not in body.tree:
        if of_path:
            return of_path
        refuse('The body has no "model".')
    model = body.name(body.tree["model"])
    if not isinstance(model, str) or not model or len(model) > MAX_MODEL or not model.isprintable():
        refuse(f'"model" must be a string of 1 to {MAX_MODEL} printable characters.')
    return of_path or model
