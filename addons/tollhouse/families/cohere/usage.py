"""What the members of Cohere's answers mean. Billed is ``billed_units``: ``tokens`` counts the template of the prompt too.

v2 has ``usage`` (cohere-python `usage.py`). v1, embeddings and rerank have ``meta`` (`api_meta.py`). Counts are floats, and are
rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.units import Charge, Units

_MOST: Final = 2**53


def count(value: object) -> int:
    """0 for null and for what is no count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return math.ceil(value) if 0 < value < _MOST else 0


def units_of(usage: object) -> Units | None:
    """None without a count. Zeros alone are none. ``text_tokens`` and ``image_tokens`` are parts of the input; an answer that names
    the images' alone has the texts' in ``input_tokens``."""
    billed = usage.get("billed_units") if isinstance(usage, Mapping) else None
    if not isinstance(usage, Mapping) or not isinstance(billed, Mapping):
        return None
    images = count(billed.get("image_tokens"))
    texts = count(billed.get("text_tokens"))
    said = count(billed.get("input_tokens"))
    whole = max(said, texts + images) if texts else said + images
    found = Units(
        input=whole,
        output=count(billed.get("output_tokens")),
        cached=min(count(usage.get("cached_tokens")), whole),
        input_image=images,
        images=count(billed.get("images")),
        pages=count(billed.get("pages")),
        searches=count(billed.get("search_units")),
        requests=count(billed.get("classifications")),
    )
    if not any(found):
        return None
    return found if found.requests else found._replace(requests=1)


class ToldByCohere:
    """`formats.watched.Heard`. No answer names its model."""

    def __init__(self) -> None:
        self.model = ""
        self.error = ""
        self.done = False
        self.created: tuple[str, ...] = ()
        self._units: Units | None = None

    @property
    def output(self) -> int:
        return 0 if self._units is None else self._units.output

    def event(self, document: Mapping[str, Any]) -> bool:
        if document.get("type") == "message-end":
            delta = document.get("delta")
            self._end(delta if isinstance(delta, Mapping) else {})
            return True
        kind = document.get("event_type")
        if kind in ("stream-end", "stream-error"):
            self._end(document)
            answer = document.get("response")
            self._read(answer if isinstance(answer, Mapping) else {})
            return True
        if kind is None and document.get("type") is None:
            if isinstance(document.get("message"), str):
                # `{"message", "id"}`, https://docs.cohere.com/reference/errors.
                self.error = "error"
            self._read(document)
        return False

    def charges(self) -> tuple[Charge, ...]:
        return () if self._units is None else (Charge("", self._units),)

    def _end(self, end: Mapping[str, Any]) -> None:
        self.done = True
        reason = end.get("finish_reason")
        if end.get("error") or end.get("err") or (isinstance(reason, str) and "ERROR" in reason):
            self.error = reason[:32] if isinstance(reason, str) and reason.isascii() else "error"
        self._read(end)

    def _read(self, holder: Mapping[str, Any]) -> None:
        self._units = units_of(holder.get("usage")) or units_of(holder.get("meta")) or self._units


class ToldObject:
    """Of a dataset or a connector that was made: its id. cohere-python `datasets_create_response.py`,
    `create_connector_response.py`."""

    model = error = ""
    done = False
    output = 0

    def __init__(self) -> None:
        self.created: tuple[str, ...] = ()

    def event(self, document: Mapping[str, Any]) -> bool:
        connector = document.get("connector")
        made = connector.get("id") if isinstance(connector, Mapping) else document.get("id")
        if isinstance(made, str) and made:
            self.created = (made[:256],)
        return False

    def charges(self) -> tuple[Charge, ...]:
        return ()
