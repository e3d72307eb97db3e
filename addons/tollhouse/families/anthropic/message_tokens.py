"""How many tokens the input of a request for messages has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.anthropic import pictures
from tollhouse.families.anthropic.message_fields import NOT_INPUT
from tollhouse.families.anthropic.meter import TOKENS_MORE
from tollhouse.families.formats.document import Document
from tollhouse.families.formats.rendered import rendered_most
from tollhouse.families.formats.text_tokens import text_tokens

# Each pair is the number of ``typical`` and of ``worst``.
PER_REQUEST: Final = (8, 1_024)
"""What the provider itself puts around the messages. "Hello" alone has 8 tokens:
https://platform.claude.com/docs/en/build-with-claude/token-counting."""
PER_MESSAGE: Final = (4, 16)
"""The role, and what parts a message from the next."""
PER_BLOCK: Final = (1, 4)
OF_TOOLS: Final = (804, 2_048)
"""Once where there are tools or a schema of the answer. The text that the provider adds has up to 804
tokens: https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing."""
PER_TOOL: Final = (12, 64)
OF_OWN_TOOL: Final = (1_234, 8_192)
"""A tool that the provider itself describes. The longest that is told is that of the computer, 735
tokens and 499 of a prompt:
https://platform.claude.com/docs/en/agents-and-tools/tool-use/computer-use-tool."""
_NO_TEXT: Final = frozenset({"type", "cache_control", "role", "media_type", "citations", "id"})
"""Fields of a block that are no input."""
_IMAGE: Final = "image"


class MessageTokens:
    """Counts one request. ``context`` is the most that its models read. ``own_rules``: Anthropic
    itself is asked, so that its rules for images are sure to hold."""

    def __init__(self, document: Document, context: int, *, worst: bool, own_rules: bool) -> None:
        self._tree = document.tree
        self._name = document.name
        self._long = document.long
        self._context = context
        self._worst = worst
        self._own_rules = own_rules
        self._unseen = False

    def total(self) -> int:
        """At least 1; at least the context limit where a part is elsewhere."""
        worst, tree = self._worst, self._tree
        tokens = float(PER_REQUEST[worst])
        for key, value in tree.items():
            if key == "messages" and isinstance(value, list):
                tokens += sum(PER_MESSAGE[worst] + self._message(one) for one in value)
            elif key == "system":
                tokens += PER_MESSAGE[worst] + self._content(value)
            elif key == "tools" and isinstance(value, list):
                tokens += OF_TOOLS[worst] + sum(map(self._tool, value))
            elif key == "output_config" or key == "output_format":
                tokens += OF_TOOLS[worst] + self._rendered(value)
            elif key == "mcp_servers":
                self._unseen = self._unseen or bool(value)
            elif key == "thread":
                if isinstance(value, Mapping) and value.get("previous_message_id") is not None:
                    self._unseen = True
            elif key not in NOT_INPUT:
                tokens += self._rendered(value)
        seen = int(-(-tokens // 1))
        return max(seen, self._context if self._unseen else 1)

    def _message(self, message: Any) -> float:
        if not isinstance(message, Mapping):
            return self._text(message)
        return self._content(message.get("content")) + sum(
            self._rendered(value)
            for key, value in message.items()
            if key not in ("role", "content")
        )

    def _content(self, content: Any) -> float:
        if isinstance(content, list):
            return sum(PER_BLOCK[self._worst] + self._block(one) for one in content)
        return self._text(content)

    def _block(self, block: Any) -> float:
        if not isinstance(block, Mapping):
            return self._text(block)
        kind = self._name(block.get("type"))
        tokens = 0.0
        for key, value in block.items():
            if key == "source":
                tokens += self._source(kind, value)
            elif key == "content":
                tokens += self._content(value)
            elif key == "file_id":
                self._unseen = True
            elif isinstance(value, str):
                tokens += 0.0 if key in _NO_TEXT else self._text(value)
            elif key not in _NO_TEXT:
                tokens += self._rendered(value)
        return tokens

    def _source(self, kind: Any, source: Any) -> float:
        """Of an image or a document."""
        if kind == _IMAGE:
            if self._worst and not self._own_rules:
                self._unseen = True
            return pictures.image_tokens(source, self._look)
        if not isinstance(source, Mapping):
            return self._rendered(source)
        form = self._name(source.get("type"))
        if form == "text":
            return self._text(source.get("data"))
        if form == "content":
            return self._content(source.get("content"))
        pdf = (
            pictures.pdf_tokens(source, self._look, worst=self._worst) if form == "base64" else None
        )
        if pdf is None:
            self._unseen = True
            return 0.0
        return pdf

    def _tool(self, tool: Any) -> float:
        if not isinstance(tool, Mapping):
            return self._rendered(tool)
        kind = self._name(tool.get("type"))
        if kind == "mcp_toolset" and not tool.get("tools"):
            self._unseen = True
        own = kind not in (None, "custom")
        return (OF_OWN_TOOL if own else PER_TOOL)[self._worst] + self._rendered(tool)

    def _text(self, value: Any) -> float:
        """Tokens of a text."""
        if not isinstance(value, str):
            return self._rendered(value)
        long = self._long.get(value) if self._long else None
        if self._worst:
            if long is not None:
                return float(long.bytes)
            ascii_only = value.isascii()
            return float(len(value) if ascii_only else len(value.encode("utf-8", "surrogatepass")))
        return TOKENS_MORE * (text_tokens(value) if long is None else long.tokens)

    def _rendered(self, value: Any) -> float:
        """Tokens of a value that the provider itself writes as text for the model."""
        if value is None:
            return 0.0
        if self._worst:
            return float(rendered_most(value, self._long))
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            inner = (*value, *value.values())
        elif isinstance(value, list):
            inner = tuple(value)
        else:
            return 1.0
        return 1.0 + sum(map(self._rendered, inner))

    def _look(self, value: Any) -> pictures.Encoded | None:
        if not isinstance(value, str):
            return None
        long = self._long.get(value)
        return (
            pictures.Encoded(value, len(value))
            if long is None
            else pictures.Encoded(long.head, long.bytes)
        )
