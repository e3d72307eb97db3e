"""Ids of objects that OpenAI keeps, as far as a body names them: responses, conversations, prompts,
files, vector stores, containers, skills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tollhouse.families.formats.document import Document, refuse

_ID: Final = frozenset({"file_id", "container_id", "skill_id", "vector_store_id"})
_IDS: Final = frozenset({"file_ids", "vector_store_ids"})
_OF_RESPONSE: Final = ("previous_response_id", "conversation", "prompt")
_INSIDE: Final = (
    ("prompt_cache_options", "comparison_response_id"),
    ("background_options", "continuation_id"),
)
_WITH_ITEMS: Final = ("input", "items", "instructions", "tools", "tool_choice", "prompt")


def named_objects(body: Document) -> tuple[str, ...]:
    """The ids in a body of the Responses or Conversations API, each once. Raises `Refused` for a
    reference that is of another type than the API's."""
    tree = body.tree
    found: list[Any] = []
    for key in _OF_RESPONSE:
        value = tree.get(key)
        if isinstance(value, dict):
            inner = value.get("id")
            if not isinstance(inner, str):
                refuse(f'"{key}.id" must be a string.')
            found.append(inner)
        elif isinstance(value, str):
            found.append(value)
        elif value is not None:
            refuse(f'"{key}" must be a string or an object.')
    for key, name in _INSIDE:
        options = tree.get(key)
        if isinstance(options, dict) and isinstance(options.get(name), str):
            found.append(options[name])
    for key in _WITH_ITEMS:
        found += _ids(tree.get(key))
    return tuple(dict.fromkeys(body.name(one) for one in found))


def _ids(value: Any) -> Iterator[str]:
    """The ids anywhere in ``value``. A body nests no deeper than `document.MAX_DEPTH`."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                yield from _ids(item)
    elif isinstance(value, dict):
        yield from _ids_of(value)


def _ids_of(part: Mapping[str, Any]) -> Iterator[str]:
    for key, value in part.items():
        if isinstance(value, str):
            if key in _ID or (key == "container" and value):
                yield value
        elif key in _IDS and isinstance(value, list):
            yield from (one for one in value if isinstance(one, str))
        elif isinstance(value, dict | list):
            yield from _ids(value)
