"""The ids of sound in the answers to a chat: a later request may name it instead of its text.
https://platform.openai.com/docs/guides/audio, "Multi-turn conversations"."""

from __future__ import annotations

import re
from typing import Any, Final

from tollhouse.families.formats.sniffed import Sniffed

_ID: Final = re.compile(rb'"audio"\s*:\s*\{\s*"id"\s*:\s*"([A-Za-z0-9_-]{1,200})"')
_OVERLAP: Final = 256
"""Bytes of a piece that are looked at again with the next one: more than a match of `_ID` has."""


class SpokenMeter(Sniffed):
    """The meter of an answer that has sound. The id stands before it. Nothing is looked for any more
    once each of the ``choices`` has its id."""

    def __init__(self, choices: int, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._choices = choices
        self._last = b""
        self._created: tuple[str, ...] = ()

    @property
    def created(self) -> tuple[str, ...]:
        return self._created

    def feed(self, data: bytes) -> bytes:
        if len(self._created) < self._choices:
            seen = self._last + data
            found = (*self._created, *(match[1].decode() for match in _ID.finditer(seen)))
            self._created = tuple(dict.fromkeys(found))
            self._last = seen[-_OVERLAP:]
        return super().feed(data)
