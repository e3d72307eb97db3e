"""Ids of objects that OpenAI keeps, as far as a body names them: responses, conversations, prompts,
files, vector stores, containers, skills, items, sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

from tollhouse.families.formats.document import Document, named, refuse
from tollhouse.families.openai.form_fields import FormFields

_ID: Final = frozenset({"file_id", "container_id", "skill_id", "vector_store_id"})
_IDS: Final = frozenset({"file_ids", "vector_store_ids"})
_OF_RESPONSE: Final = ("previous_response_id", "conversation", "prompt")
_INSIDE: Final = (
    ("prompt_cache_options", "comparison_response_id"),
    ("background_options", "continuation_id"),
)
_WITH_ITEMS: Final = ("input", "items", "instructions", "tools", "tool_choice", "prompt")
_BARE: Final = frozenset({"type", "id", "status", "role", "phase"})
"""Members of an item that are no content of it."""


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
    for key in ("input", "items"):
        items = tree.get(key)
        found += [item["id"] for item in items if _is_kept(item, body)] if _is_list(items) else ()
    return tuple(dict.fromkeys(body.name(one) for one in found))


def chat_objects(body: Document) -> tuple[str, ...]:
    """The ids in the messages of a chat, each once: files, and the sound of earlier answers."""
    found: list[Any] = []
    messages = body.tree.get("messages")
    for message in messages if _is_list(messages) else ():
        if isinstance(message, dict):
            found += _ids(message.get("content"))
            audio = message.get("audio")
            if isinstance(audio, dict) and isinstance(audio.get("id"), str):
                found.append(audio["id"])
    return tuple(dict.fromkeys(body.name(one) for one in found))


def input_objects(body: FormFields) -> tuple[str, ...]:
    """The ids anywhere in the ``input`` of a body, each once."""
    found = _ids(body.tree.get("input"))
    return tuple(dict.fromkeys(named(one, body.long) for one in found))


def ids_inside(value: Any, body: Document) -> tuple[str, ...]:
    """The ids anywhere in a value of ``body``, each once."""
    return tuple(dict.fromkeys(body.name(one) for one in _ids(value)))


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_kept(item: Any, body: Document) -> bool:
    """Whether the provider looks an item of the input up by its id: a reference, an item without
    content (https://platform.openai.com/docs/guides/image-generation, "Multi-turn editing"), and
    reasoning whose cipher the client does not send along."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return False
    kind = body.name(item.get("type"))
    if kind == "item_reference" or (kind is None and "content" not in item):
        return True
    if kind == "reasoning":
        return not (item.get("encrypted_content") or item.get("content"))
    return not any(value for key, value in item.items() if key not in _BARE)


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
