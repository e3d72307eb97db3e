"""What an answer in OpenAI's format says of its usage, read as it streams by.

Chat completions and embeddings: https://platform.openai.com/docs/api-reference/chat/object and .../embeddings/object.
A stream that was made to ask for its usage is given back to the client as it would have been without:
https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options says that the option adds one chunk and a
``usage`` of null in all the others.
"""

from __future__ import annotations

import contextlib
import json
import re
from functools import partial
from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.jsonscan import Member, member_from_end, members, removal
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.sse import EventData, EventSplitter, SseBoundary
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import AnswerHead, Boundary
from tollhouse.families.openai.spoken import SpokenMeter
from tollhouse.families.openai.tools import chat_search
from tollhouse.families.openai.usage import WANTED, ReadUsage, Told, usage_of
from tollhouse.families.units import Charge

_SMALL: Final = 1 << 14
_HEAD: Final = 1 << 9
_TAIL: Final = 1 << 13
_MODEL_LOOKS: Final = 8
_TOOLS: Final = b'"executed_tools"'
"""Groq's member of a message: tools that it has run."""
_LEAST: Final = len(b"data:1\n\n")
"""Bytes of an event; a shorter one says nothing."""

# "usage":null as a member of the frame's outermost object. Read from the end: the last brace closes the outermost
# object, and what stands between is whole members without a backslash in them, so each quote there is a real one.
_SCALAR: Final = rb'(?:"[^"\\\r\n]*"|[-+.0-9eE]+|true|false|null)'
_NULL_AT_END: Final = re.compile(
    rb'"usage"[ ]?:[ ]?null(?P<rest>(?:[ ]?,[ ]?"[^"\\\r\n]*"[ ]?:[ ]?'
    + _SCALAR
    + rb")*[ ]?\}[ ]?)"
    rb"(?:\n\n|\r\n\r\n|\r\r)"
)
_TIER: Final = re.compile(rb'"service_tier"[ ]?:[ ]?"([^"\\]{0,32})"')
_TEXTS: Final = re.compile(
    rb'"(?:content|arguments|reasoning_content|reasoning|refusal|transcript|data|text|input)"[ ]?:[ ]?'
    rb'"([^"\\]+(?:\\.[^"\\]*)*|(?:\\.[^"\\]*)+)"',
    re.DOTALL,
)


def meter(asked: Asked, head: AnswerHead, read_usage: ReadUsage = usage_of) -> Sniffed:
    """The meter of an answer of status 2xx."""
    search = chat_search(asked.model, asked.detail)
    made = Sniffed if "output_audio" not in asked.asks else partial(SpokenMeter, asked.choices)
    return made(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: JsonMeter(search=search, read_usage=read_usage),
        of_events=lambda: StreamMeter(
            edits=asked.asks_for_usage, search=search, read_usage=read_usage
        ),
        may_edit=asked.asks_for_usage,
    )


class JsonMeter:
    """Reads a JSON answer. Every byte is passed on at once; the counts are there after `flush`.

    Of an answer above ``max_body`` bytes the outermost members are read as they pass by, wherever they stand.
    """

    done = False
    edits = False
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()
    output_seen = 0
    """A JSON answer is made whole before its first byte comes, so that nothing is to be told of it on the way."""

    def __init__(
        self, max_body: int = 1 << 16, *, search: str = "", read_usage: ReadUsage = usage_of
    ) -> None:
        self._told = Told(search, read_usage)
        self._max = max_body
        self._parts: list[bytes] = []
        self._size = 0
        self._topmost: Topmost | None = None
        self._tools = False
        """Tools are named in an answer that is too long to be kept."""

    @property
    def error(self) -> str:
        return self._told.error

    def feed(self, data: bytes) -> bytes:
        if self._topmost is not None:
            self._topmost.feed(data)
            self._tools = self._tools or data.find(_TOOLS) >= 0
            return data
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._max:
            self._topmost = Topmost(WANTED)
            for part in self._parts:
                self._topmost.feed(part)
            self._tools = b"".join(self._parts).find(_TOOLS) >= 0
            self._parts = []
        return data

    def flush(self) -> bytes:
        if self._topmost is not None:
            for key, value in self._topmost.found.items():
                self._told.read(key, value)
            if self._tools and "choices" not in self._topmost.found:
                self._told.note_tools()
        else:
            # A body that is no JSON, or nests too deep, has no counts.
            with contextlib.suppress(ValueError, RecursionError):
                self._read(b"".join(self._parts))
        self._parts = []
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._told.charges()

    def _read(self, body: bytes) -> None:
        if len(body) <= _SMALL:
            self._read_whole(body)
            return
        for key in ("usage", "service_tier", "model", "usage_breakdown"):
            self._told.read(key, member_from_end(body[-_TAIL:], key.encode()))
        if self._told.usage is None or body.find(_TOOLS) >= 0:
            self._read_whole(body)
        if not self._told.model:
            # Chat completions name the model first, embeddings last. A member that the head's end cuts ends this.
            with contextlib.suppress(ValueError):
                for member in members(body[:_HEAD].decode("latin-1")):
                    if member.key == "model":
                        self._told.read(member.key, member.value)

    def _read_whole(self, body: bytes) -> None:
        document = json.loads(body)
        if isinstance(document, dict):
            for key in WANTED:
                self._told.read(key, document.get(key))


class StreamMeter:
    """Reads a stream of chat completion chunks.

    With ``edits`` the client's bytes are those of the same stream without ``include_usage``: a frame's ``usage`` is
    taken out of it, and a frame that carries nothing else is dropped. A frame is then passed on once it is complete,
    never later. Without, every byte is passed on at once, and the frames are only read. ``done`` is True once
    ``[DONE]`` was seen.
    """

    created: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        edits: bool,
        search: str = "",
        echoed: int = 0,
        read_usage: ReadUsage = usage_of,
    ) -> None:
        self.done = False
        self.edits = edits
        self.boundary = SseBoundary()
        self._told = Told(search, read_usage)
        self._echoed = echoed
        """Tokens of the prompt that the text begins with; they are no output."""
        self._failed = False
        """The events could not be told apart, and the rest of the stream passes unread."""
        self._splitter = EventSplitter()
        self._dropped = False
        self._looks = 0
        self._tier = b""
        """How the last frame that told a tier wrote it. Most frames of a stream repeat it."""
        self._texts = 0
        self._tokens = 0.0

    @property
    def error(self) -> str:
        return self._told.error

    @property
    def output_seen(self) -> int:
        """By the text, at least one token for each piece of it; or the stream's own count, if that is more by now."""
        usage = self._told.usage
        by_text = max(self._texts, -int(-self._tokens // 1)) - self._echoed
        by_text = max(by_text, 0)
        return by_text if usage is None else max(by_text, usage.output)

    def finish(self) -> tuple[Charge, ...]:
        return self._told.charges()

    def feed(self, chunk: bytes) -> bytes:
        """What goes to the client now; may be empty."""
        if self._failed:
            return chunk
        try:
            pieces = self._splitter.feed(chunk)
        except Exception:
            self._failed = True
            return self._splitter.rest() + chunk if self.edits else chunk
        if not self.edits:
            for raw, whole in pieces:
                self._piece(raw, whole)
            return chunk
        if len(pieces) == 1:
            return self._piece(*pieces[0])
        return b"".join([self._piece(raw, whole) for raw, whole in pieces])

    def flush(self) -> bytes:
        rest = self._splitter.rest()
        if not rest or self._failed:
            return b""
        self._splitter = EventSplitter()
        try:
            edited = self._examine(rest)
        except Exception:
            edited = rest
        return edited if self.edits else b""

    def _piece(self, raw: bytes, whole: bool) -> bytes:
        if not whole:
            late_line_feed = self._dropped and raw == b"\n"
            self._dropped = False
            return b"" if late_line_feed else raw
        try:
            edited = self._event(raw)
        except Exception:
            # One frame that cannot be read (no JSON, too deep) is passed on as it is; the next one may be sound.
            edited = raw
        self._dropped = not edited
        return edited

    def _event(self, raw: bytes) -> bytes:
        if len(raw) < _LEAST:
            return raw
        if not self._told.model and self._looks < _MODEL_LOOKS:
            self._looks += 1
            self._learn_model(raw)
        # `find` takes a fifth of the time of `in`.
        if (not self._tier or raw.find(self._tier) < 0) and raw.find(b'"service_tier"') >= 0:
            self._note_tier(raw)
        at = raw.rfind(b'"usage"')
        if at < 0:
            if raw.find(b'"error"') >= 0 or raw.find(_TOOLS) >= 0:
                return self._examine(raw)
            self._count_text(raw)
            return raw
        null = _NULL_AT_END.fullmatch(raw, at)
        if null is None or not _one_data_line(raw, at) or raw.find(_TOOLS) >= 0:
            return self._examine(raw)
        before = at - 1 if raw[at - 1] != 0x20 else at - 2
        if raw[before] != 0x2C or raw[before - 1] == 0x20:
            return self._examine(raw)
        self._count_text(raw)
        if not self.edits:
            return raw
        return raw[:before] + raw[null.start("rest") :]

    def _learn_model(self, raw: bytes) -> None:
        with contextlib.suppress(ValueError):
            for member in members(EventData(raw).text or ""):
                if member.key == "model":
                    self._told.read(member.key, member.value)
                    return

    def _examine(self, raw: bytes) -> bytes:
        """Parses the event; whatever it says is decided here."""
        data = EventData(raw)
        text = data.text
        if text is None:
            return raw
        if text.strip() == "[DONE]":
            self.done = True
            return raw
        found = list(members(text))
        usage_at = -1
        for index, member in enumerate(found):
            self._told.read(member.key, member.value)
            if member.key == "usage":
                usage_at = index
        if usage_at < 0 or not self.edits:
            self._count_text(raw)
            return raw
        if found[usage_at].value is not None and _carries_nothing_else(found):
            return b""
        self._count_text(raw)
        start, end = data.raw_span(*removal(found, usage_at))
        return raw[:start] + raw[end:]

    def _count_text(self, raw: bytes) -> None:
        """All texts of the event count: of each choice, of each tool call, of reasoning beside an answer."""
        texts = _TEXTS.findall(raw)
        if not texts:
            self.done = self.done or (
                b"[DONE]" in raw and (EventData(raw).text or "").strip() == "[DONE]"
            )
            return
        for text in texts:
            self._texts += 1
            self._tokens += raw_tokens(text)

    def _note_tier(self, raw: bytes) -> None:
        match = _TIER.search(raw)
        if match is not None:
            self._tier = match[0]
            self._told.read("service_tier", match[1].decode("latin-1"))


def _one_data_line(raw: bytes, before: int) -> bool:
    """Whether the event is one ``data`` line with an object, as far as ``raw[:before]`` shows."""
    return (
        raw.startswith((b"data: {", b"data:{"))
        and raw.find(b"\n", 0, before) < 0
        and raw.find(b"\r", 0, before) < 0
    )


def _carries_nothing_else(found: list[Member]) -> bool:
    """Whether a frame with a usage exists only for it: ``choices`` is empty, or (Azure) each choice has an empty delta
    (of a legacy completion, an empty text) and no finish reason."""
    choices = next((member.value for member in found if member.key == "choices"), None)
    if not isinstance(choices, list):
        return False
    return all(
        isinstance(choice, dict)
        and not choice.get("delta")
        and not choice.get("text")
        and choice.get("finish_reason") is None
        for choice in choices
    )
