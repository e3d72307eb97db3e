"""What an answer in OpenAI's format says of its usage, read as it streams by.

Chat completions and embeddings: https://platform.openai.com/docs/api-reference/chat/object and .../embeddings/object.
A stream that was asked for its usage by the gateway (``injected``) is given back to the client as it would have been
without: https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options says that the option adds
one chunk and a ``usage`` of null in all the others.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Final

from tollhouse.families.formats.jsonscan import Member, member_from_end, members, removal
from tollhouse.families.formats.sse import EventData, EventSplitter
from tollhouse.families.openai.members import Reading

MAX_BODY: Final = 1 << 20
"""Bytes of a JSON answer that are kept; of a longer one the first ``_HEAD`` and the last ``_TAIL``."""
_SMALL: Final = 1 << 14
_HEAD: Final = 1 << 9
_TAIL: Final = 1 << 13
_MODEL_LOOKS: Final = 8

# "usage":null as a member of the frame's outermost object. Read from the end: the last brace closes the outermost
# object, and what stands between is whole members without a backslash in them, so each quote there is a real one.
_SCALAR: Final = rb'(?:"[^"\\\r\n]*"|[-+.0-9eE]+|true|false|null)'
_NULL_AT_END: Final = re.compile(
    rb'"usage"[ ]?:[ ]?null(?P<rest>(?:[ ]?,[ ]?"[^"\\\r\n]*"[ ]?:[ ]?' + _SCALAR + rb")*[ ]?\}[ ]?)"
    rb"(?:\n\n|\r\n\r\n|\r\r)"
)
_TEXT: Final = re.compile(
    rb'"(?:content|arguments|reasoning_content|reasoning|refusal|transcript|data|text)"[ ]?:[ ]?"(?!")'
)


class JsonMeter(Reading):
    """Reads a JSON answer. Every byte is passed on at once; the counts are there after `finish`."""

    def __init__(self, max_body: int = MAX_BODY) -> None:
        super().__init__()
        self._max = max_body
        self._parts: list[bytes] = []
        self._size = 0
        self._head = b""

    @property
    def output_seen(self) -> int:
        """Tokens of output so far: not to be told, since a JSON answer is made whole before its first byte comes."""
        return 0

    def feed(self, chunk: bytes) -> bytes:
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > self._max:
            body = b"".join(self._parts)
            self._head = self._head or body[:_HEAD]
            self._parts = [body[-_TAIL:]]
            self._size = min(self._size, _TAIL)
        return chunk

    def finish(self) -> bytes:
        try:
            self._finish(b"".join(self._parts))
        except Exception:
            self.failed = True
        self._parts = []
        return b""

    def _finish(self, body: bytes) -> None:
        if not self._head and len(body) <= _SMALL:
            self._read_whole(body)
            return
        for key in ("usage", "service_tier", "model"):
            self.read(key, member_from_end(body[-_TAIL:], key.encode()))
        if self.usage is None and not self._head:
            self._read_whole(body)
        if not self.model:
            # Chat completions name the model first, embeddings last. A member that the head's end cuts ends this.
            with contextlib.suppress(ValueError):
                for member in members((self._head or body[:_HEAD]).decode("latin-1")):
                    if member.key == "model":
                        self.read(member.key, member.value)

    def _read_whole(self, body: bytes) -> None:
        document = json.loads(body)
        if isinstance(document, dict):
            for key in ("usage", "model", "service_tier", "error"):
                self.read(key, document.get(key))


class StreamMeter(Reading):
    """Reads a stream of chat completion chunks.

    With ``injected`` the client's bytes are those of the same stream without ``include_usage``: a frame's ``usage`` is
    taken out of it, and a frame that carries nothing else is dropped. A frame is then passed on once it is complete,
    never later. Without, every byte is passed on at once, and the frames are only read. ``done`` is True once
    ``[DONE]`` was seen.
    """

    def __init__(self, injected: bool) -> None:
        super().__init__()
        self.done = False
        self._injected = injected
        self._splitter = EventSplitter()
        self._dropped = False
        self._looks = 0
        self._text_frames = 0
        self._text_bytes = 0

    @property
    def output_seen(self) -> int:
        """Rough tokens of output so far: about 4 bytes of text each, and at least one a frame that has text."""
        return max(self._text_frames, -(-self._text_bytes // 4))

    def feed(self, chunk: bytes) -> bytes:
        """What goes to the client now; may be empty."""
        if self.failed:
            return chunk
        try:
            pieces = self._splitter.feed(chunk)
        except Exception:
            self.failed = True
            return self._splitter.rest() + chunk if self._injected else chunk
        if not self._injected:
            for raw, whole in pieces:
                self._piece(raw, whole)
            return chunk
        if len(pieces) == 1:
            return self._piece(*pieces[0])
        return b"".join([self._piece(raw, whole) for raw, whole in pieces])

    def finish(self) -> bytes:
        """At the end of the stream: what was held of a frame that never ended."""
        rest = self._splitter.rest()
        if not rest or self.failed:
            return b""
        self._splitter = EventSplitter()
        try:
            edited = self._examine(rest)
        except Exception:
            edited = rest
        return edited if self._injected else b""

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
        if not self.model and self._looks < _MODEL_LOOKS:
            self._looks += 1
            self._learn_model(raw)
        at = raw.rfind(b'"usage"')
        if at < 0:
            if b'"error"' in raw:
                return self._examine(raw)
            self._count_text(raw)
            return raw
        null = _NULL_AT_END.fullmatch(raw, at)
        if null is None or not _one_data_line(raw, at):
            return self._examine(raw)
        before = at - 1 if raw[at - 1] != 0x20 else at - 2
        if raw[before] != 0x2C or raw[before - 1] == 0x20:
            return self._examine(raw)
        self._count_text(raw)
        if not self._injected:
            return raw
        return raw[:before] + raw[null.start("rest") :]

    def _learn_model(self, raw: bytes) -> None:
        with contextlib.suppress(ValueError):
            for member in members(EventData(raw).text or ""):
                if member.key == "model":
                    self.read(member.key, member.value)
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
            self.read(member.key, member.value)
            if member.key == "usage":
                usage_at = index
        if usage_at < 0 or not self._injected:
            self._count_text(raw)
            return raw
        if found[usage_at].value is not None and _carries_nothing_else(found):
            return b""
        self._count_text(raw)
        start, end = data.raw_span(*removal(found, usage_at))
        return raw[:start] + raw[end:]

    def _count_text(self, raw: bytes) -> None:
        start = raw.find(b'"content":"') + 11
        if start == 10 or raw[start] == 0x22:
            start = raw.find(b'"arguments":"') + 13
        if start == 12 or raw[start] == 0x22:
            match = _TEXT.search(raw)
            if match is None:
                self.done = self.done or (b"[DONE]" in raw and (EventData(raw).text or "").strip() == "[DONE]")
                return
            start = match.end()
        end = raw.find(b'"', start)
        while end > start and raw[end - 1] == 0x5C:
            end = raw.find(b'"', end + 1)
        if end > start:
            self._text_frames += 1
            self._text_bytes += end - start


def _one_data_line(raw: bytes, before: int) -> bool:
    """Whether the event is one ``data`` line with an object, as far as ``raw[:before]`` shows."""
    return raw.startswith((b"data: {", b"data:{")) and raw.find(b"\n", 0, before) < 0 and raw.find(b"\r", 0, before) < 0


def _carries_nothing_else(found: list[Member]) -> bool:
    """Whether a frame with a usage exists only for it: ``choices`` is empty, or (Azure) each choice has an empty delta
    and no finish reason."""
    choices = next((member.value for member in found if member.key == "choices"), None)
    if not isinstance(choices, list):
        return False
    return all(
        isinstance(choice, dict) and not choice.get("delta") and choice.get("finish_reason") is None
        for choice in choices
    )
