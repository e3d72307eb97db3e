"""The words of a broken tollhouse.toml: every problem at once, each as ``FILE: KEY: what is wrong, why, what to do``.

No value from the file is repeated by pydantic's own messages here: a value may be a password (`[redis] url`) or a token
that somebody pasted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

Broken = Iterator[tuple[str, str]]
"""What a rule yields for each place where the file breaks it: the dotted key, and the message."""
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_DICT_KEY_MARK: Final = "[key]"
"""pydantic's last element of ``loc`` when a mapping's key, not its value, is at fault."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration. ``key`` is a dotted TOML key, empty for the file as a whole."""

    file: Path
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.file), self.key, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` is never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(steps: Iterable[str | int]) -> str:
    """A key as one would write it in TOML: ``prices."openai/gpt-4o".input``, ``projects.a.limits[0]``."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            quoted = (
                step
                if _BARE_KEY.fullmatch(step)
                else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
            )
            text += f".{quoted}" if text else quoted
    return text


def unknown_key(name: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The message for a key that does not exist: nearest key first, else where it belongs, else what exists."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    start = "there is no such key, and an unknown key is never ignored, because it may be a limit that was misspelt"
    if near:
        return f"{start}; did you mean {near[0]!r}?"
    places = list(elsewhere)
    if places:
        return f"{start}; it is a key of {' and '.join(places)}, move it there"
    return f"{start}; known here: {', '.join(sorted(known))}"


def problems_of(
    file: Path, table: str, error: ValidationError, tables: Mapping[str, object]
) -> list[Problem]:
    """What pydantic found in ``table``, in our words. ``tables`` are the annotations of all tables."""
    found = []
    for detail in error.errors(include_url=False, include_input=False):
        steps, holder = _resolve(tables[table], detail["loc"])
        name = str(steps[-1]) if steps else table
        if detail["type"] == "extra_forbidden":
            places = [
                f"[{other}]"
                for other, shape in tables.items()
                if other != table and name in keys_of(shape)
            ]
            message = unknown_key(name, keys_of(holder), places)
        else:
            message = _MESSAGES.get(detail["type"], _pydantic)(detail)
        found.append(Problem(file, dotted((table, *steps)), message))
    return found


def _resolve(annotation: object, loc: Sequence[str | int]) -> tuple[list[str | int], object]:
    """``loc`` without the steps that are pydantic's and not the file's, and the type that holds its last step."""
    steps: list[str | int] = []
    holder = annotation
    for step in loc:
        if step == _DICT_KEY_MARK:
            continue
        holder = annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            steps.append(step)
            continue
        models = list(_models(annotation))
        field = next(
            (model.model_fields[step] for model in models if step in model.model_fields), None
        )
        tagged = [model for model in models if step in _tags(model)] if len(models) > 1 else []
        if field is None and tagged:
            annotation = tagged[0]
            continue
        annotation = field.annotation if field is not None else annotation
        steps.append(step)
    return steps, holder


def _models(annotation: object) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    method = model.model_fields.get("method")
    return get_args(method.annotation) if method else ()


def keys_of(annotation: object) -> list[str]:
    """The keys of a table; none for a table whose keys the user chooses."""
    if get_origin(annotation) is dict:
        return []
    return [name for model in _models(annotation) for name in model.model_fields]


def _pydantic(detail: Mapping[str, Any]) -> str:
    text = str(detail["msg"]).replace("Input should be", "must be", 1)
    return f"{text[:1].lower()}{text[1:]}; correct the value"


def _method(detail: Mapping[str, Any]) -> str:
    if "auth" not in detail["loc"]:
        name = detail["ctx"]["discriminator"].strip("'")
        known = detail["ctx"].get("expected_tags", "").replace("'", '"')
        which = f" to be one of {known}" if known else ""
        return f"needs {name}{which}; without it, or with another one, it is not known what it is"
    return 'needs method = "approle" or "token"; without it, it is not known how to log in to Vault'


def _list(detail: Mapping[str, Any]) -> str:
    if detail["loc"][-1:] in (("jwt",), ("network",)):
        return "may be there several times, so its header has two pairs of brackets; write [[...]]"
    if "claims" in detail["loc"]:
        return 'must be a string, or a list of strings; write a boolean as "true"'
    return "must be a list of strings; put it in brackets ([...])"


_TABLE: Final = (
    "must be a table ([name] or { key = value }), because it has keys of its own; write it as one"
)
_MESSAGES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "missing": lambda detail: "is missing and has no default; add it",
    "value_error": lambda detail: str(detail["ctx"]["error"]),
    "string_type": lambda detail: 'must be a string; put it in quotes ("...")',
    "too_short": lambda detail: (
        "is empty, so nothing would be allowed or found; name at least one, or remove the key"
    ),
    "int_type": lambda detail: (
        "must be a whole number; write it without quotes and without a point"
    ),
    "float_type": lambda detail: "must be a number; write it without quotes",
    "bool_type": lambda detail: "must be true or false; write it without quotes",
    "tuple_type": _list,
    "model_type": lambda detail: _TABLE,
    "model_attributes_type": lambda detail: _TABLE,
    "dict_type": lambda detail: _TABLE,
    "union_tag_not_found": _method,
    "union_tag_invalid": _method,
}
