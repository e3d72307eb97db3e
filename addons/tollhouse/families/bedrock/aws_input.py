"""How many input tokens a request will take, before it is sent, whatever its model's format.

``typical`` counts text by its script. ``worst`` counts a token for each byte: tokenizers split
UTF-8 into bytes and join them, and none covers less than a byte. Images count by their pixels.
What is somewhere else (S3, a stored prompt) and what has no length that bytes tell (video, sound,
PDF in ``worst``) counts as the model's context limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.document import Document, LongString, named
from tollhouse.families.formats.rendered import rendered_most
from tollhouse.families.formats.text_tokens import text_tokens
from tollhouse.families.openai.media import FILE_BYTES_PER_TOKEN, Data, image_tokens

PER_MESSAGE: Final = (4, 16)
"""Typical and worst: the role and the special tokens around it. Llama 3 has 5 for a message
(https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/), gpt-oss 8 for one to a
channel (https://cookbook.openai.com/articles/openai-harmony)."""
PER_REQUEST: Final = (4, 1_024)
"""What a template puts before the messages. The dates of Llama 3.1 have 25 tokens, the system
message of gpt-oss has about 70."""
OF_TOOLS: Final = (0, 1_024)
"""Once where there are tools. Claude's text has 264 to 804 tokens:
https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview#pricing."""
IMAGE: Final = 1_600
"""``typical``: the largest image of Claude 3 to 4.5,
https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs."""
_PLAIN_TEXT: Final = frozenset({"txt", "md", "csv", "html", "text/plain"})
"""Formats of documents in which a byte is a byte of text."""
_NO_INPUT: Final = frozenset({"role", "type", "media_type", "format"})
_A_WORD: Final = 64
_UNSEEN: Final = frozenset({"s3Location", "s3Uri", "video", "audio", "file_id", "input_audio"})
_WRITTEN_ANEW: Final = frozenset({"toolUse", "json", "input", "inputSchema", "input_schema"})
_NESTED: Final = frozenset({"messages", "system", "content", "toolResult", "source", "text"})
"""Fields whose own name is no input."""


class InputTokens:
    """Counts one request. ``context`` is the most that its model reads."""

    def __init__(
        self, document: Document, context: int, *, worst: bool, unseen: bool = False
    ) -> None:
        self._document = document.tree
        self._long = document.long
        self._context = context
        self._worst = worst
        self._unseen = unseen
        self._total = 0.0

    def of_request(self, settings: frozenset[str], tools: frozenset[str]) -> int:
        """The tokens of all members but ``settings``. ``tools`` are written anew by the provider."""
        worst = self._worst
        total = float(PER_REQUEST[worst])
        for key, value in self._document.items():
            if key in settings or value is None:
                continue
            if key in tools:
                total += OF_TOOLS[worst] + self.rendered(value)
            elif key == "messages" and isinstance(value, list):
                total += sum(PER_MESSAGE[worst] + self.part(message) for message in value)
            else:
                total += self.part(value)
        return self._bounded(total)

    def of_texts(self, value: Any) -> int:
        """The tokens of texts that each have a context of their own."""
        items = value if isinstance(value, list) else [value]
        return sum(
            max(self._bounded(PER_MESSAGE[self._worst] + self.part(item)), 1) for item in items
        )

    def _bounded(self, total: float) -> int:
        seen = int(-(-total // 1))
        unseen, self._unseen = self._unseen, False
        return max(self._context if unseen else min(seen, self._context), 1)

    def part(self, value: Any) -> float:
        """Tokens of a message, a part of it, a text, or a list of these."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return sum(map(self.part, value))
        if not isinstance(value, dict):
            return 0.0 if value is None else float(len(json.dumps(value))) if self._worst else 1.0
        return sum(self._member(value, key, item) for key, item in value.items())

    def _member(self, owner: Mapping[str, Any], key: str, item: Any) -> float:
        if item is None or (key in _NO_INPUT and isinstance(item, str) and self._is_word(item)):
            return 0.0
        if key in _UNSEEN or (key == "url" and isinstance(item, str)):
            self._unseen = True
            return 0.0
        if key in ("image", "document") and isinstance(item, dict):
            return self._media(item, item.get("source"), image=key == "image")
        kind = named(owner.get("type"), self._long) if key == "source" else None
        if kind in ("image", "document"):
            return self._media(owner, item, image=kind == "image")
        if key == "image_url":
            found = item.get("url") if isinstance(item, dict) else item
            return self._image(self._look(found))
        if key in _WRITTEN_ANEW and not isinstance(item, str):
            return self.rendered(item)
        return (0.0 if key in _NESTED else self.text(key)) + self.part(item)

    def _is_word(self, value: str) -> bool:
        return len(value) <= _A_WORD and value not in self._long

    def _media(self, owner: Mapping[str, Any], source: Any, *, image: bool) -> float:
        """An image or a document: as Converse and Nova have it (``format`` and a source with
        ``bytes``), or as Claude (a source with ``data`` and ``media_type``)."""
        if not isinstance(source, dict):
            return self.part(source)
        beside = sum(
            self._member({}, key, item)
            for key, item in owner.items()
            if key not in ("source", "type", "format")
        )
        data = self._look(source.get("bytes", source.get("data")))
        if data is None:
            return beside + self.part(source)
        if image:
            return beside + self._image(Data("data:image/x;base64," + data.head, data.length))
        size = data.length * 3 / 4
        form = named(source.get("media_type", owner.get("format")), self._long)
        if isinstance(form, str) and form in _PLAIN_TEXT:
            # A text of Claude's stands as it is, and any other in base64.
            length = data.length if named(source.get("type"), self._long) == "text" else size
            return beside + (length if self._worst else length / 2)
        if self._worst:
            # Its bytes do not say how many pages it has.
            self._unseen = True
            return beside
        return beside + size / FILE_BYTES_PER_TOKEN

    def _image(self, data: Data | None) -> float:
        if not self._worst:
            return float(IMAGE)
        known = None
        if data is not None:
            known = image_tokens(("",), data.head, lambda value: data, worst=True, openai=False)
        if known is None:
            self._unseen = True
            return 0.0
        return known

    def _look(self, value: Any) -> Data | None:
        if not isinstance(value, str):
            return None
        long = self._long.get(value)
        return Data(value, len(value)) if long is None else Data(long.head, long.bytes)

    def text(self, value: Any) -> float:
        if not isinstance(value, str):
            return self.part(value)
        long: LongString | None = self._long.get(value) if self._long else None
        if not self._worst:
            return text_tokens(value) if long is None else long.tokens
        if long is not None:
            return float(long.bytes)
        return float(len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))

    def rendered(self, value: Any) -> float:
        """Tokens of a value that the provider itself writes as text for the model."""
        if not self._worst:
            return self._strings(value)
        return float(rendered_most(value, self._long))

    def _strings(self, value: Any) -> float:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return 1.0 + sum(map(self.text, value)) + sum(map(self._strings, value.values()))
        if isinstance(value, list):
            return 1.0 + sum(map(self._strings, value))
        return 0.0 if value is None else 1.0
