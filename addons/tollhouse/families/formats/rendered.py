"""Tools, schemas and arguments of a request, which a provider writes anew as text for its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.document import LongString

RENDERED_BYTES_MOST: Final = 2
"""They are written as TypeScript (OpenAI, https://cookbook.openai.com/articles/openai-harmony) or as
JSON with other blanks (Llama 3.1 indents it by 4, https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct).
So many times the length of their JSON in ASCII, where anything else is an escape of 6 or 12 bytes."""


def rendered_most(value: Any, long: Mapping[str, LongString]) -> int:
    """``worst``: the most tokens of ``value``, a part of a `Document` with these long strings; one for
    each byte."""
    return RENDERED_BYTES_MOST * (
        len(json.dumps(value)) + (_long_bytes(value, long) if long else 0)
    )


def _long_bytes(value: Any, long: Mapping[str, LongString]) -> int:
    """The bytes of the long strings in ``value`` as JSON in ASCII. A byte takes at most 6, as an
    escape."""
    if isinstance(value, str):
        found = long.get(value)
        return 0 if found is None else found.bytes * (1 if _is_plain(found) else 6)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(_long_bytes(part, long) for part in parts)


def _is_plain(long: LongString) -> bool:
    """It has no escape. What is not all in the head is not known to be plain."""
    head = long.head
    return (
        len(head) == long.bytes
        and head.isascii()
        and head.isprintable()
        and '"' not in head
        and "\\" not in head
    )
