"""Usage in messages of a WebSocket: of the Realtime API, and of the Responses API.

A meter gets one message of the server at a time, whole. A session has many answers, so that `finish`
gives the sum of all that were counted. Both raise nothing, and hold no message.

https://platform.openai.com/docs/api-reference/realtime-server-events and
https://platform.openai.com/docs/guides/websocket-mode.
"""

from __future__ import annotations

import contextlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import ceil
from operator import add
from typing import Any, Final

from tollhouse.families.formats.document import Document, refuse
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.meters import Boundary
from tollhouse.families.openai.body_fields import MAX_MODEL, refuse_case_variants
from tollhouse.families.openai.responses_meter import DELTA, ENDS
from tollhouse.families.openai.responses_usage import (
    HOSTED_CALLS,
    ResponseTold,
    details,
    details_of,
    error_code,
    id_of,
)
from tollhouse.families.openai.tools import Hosted
from tollhouse.families.units import Charge, Units

MAX_MESSAGE: Final = 16 << 20
"""Bytes of a message that is read. A longer one passes unread."""
_REMEMBERED: Final = 4_096
"""Ids of answers whose usage was counted, and lanes of a socket."""
_TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"
_COMMITTED: Final = "input_audio_buffer.committed"
_COUNTS: Final = (
    *(b'"response.done"', b'input_audio_transcription.completed"', b'"session.'),
    *(b'"input_audio_buffer.committed"', b'"transcription_session.'),
)
_AUDIO_BYTES: Final = 2_400
"""Bytes of sound in a token: 24 kHz of 16 bits (the default of the session's ``audio.output.format``),
and a token for 50 ms: https://platform.openai.com/docs/guides/realtime-costs."""
EVENT_TYPE: Final = re.compile(
    rb'\s*\{\s*(?:"event_id"\s*:\s*"[^"\\]*"\s*,\s*)?"type"\s*:\s*"([a-z_.]+)"'
)
_READ: Final = frozenset({"response.created", "response.output_item.done", "error"})
"""Events of a response that are read, beside those that end it."""
_SOUND: Final = (b"response.output_audio.delta", b"response.audio.delta")


class Sums:
    """Charges of a session, summed for each model and tier."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, bool], Charge] = {}

    def add(self, charge: Charge) -> None:
        """What was paid is no part of a sum of units that still have to be priced."""
        key = charge.model, charge.tier, charge.paid is None
        before = self._sums.get(key)
        if before is not None:
            paid = None if charge.paid is None else charge.paid + (before.paid or 0)
            units = Units(*map(add, before.units, charge.units))
            charge = charge._replace(units=units, paid=paid, calls=before.calls + charge.calls)
        self._sums[key] = charge

    def charges(self) -> tuple[Charge, ...]:
        """In the order in which their models were charged first."""
        return tuple(self._sums.values())


class _Socket(ABC):
    """What both meters have: text and sound are counted as they pass by."""

    done = False
    edits = False
    error = ""
    boundary: Boundary | None = None

    def __init__(self) -> None:
        self._sums = Sums()
        self._seen = 0.0

    @property
    def output_seen(self) -> int:
        """Of all answers together."""
        return int(-(-self._seen // 1))

    def feed(self, data: bytes) -> bytes:
        """Takes one message of the server."""
        if len(data) <= MAX_MESSAGE:
            # A message that is no JSON, or nests too deep, has no counts.
            with contextlib.suppress(ValueError, RecursionError):
                self._message(data)
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._sums.charges()

    @abstractmethod
    def _message(self, data: bytes) -> None:
        """Takes a message that may be read."""

    def _count(self, data: bytes, kind: bytes) -> None:
        for text in DELTA.findall(data):
            sound = kind in _SOUND
            self._seen += len(text) * 3 / 4 / _AUDIO_BYTES if sound else max(raw_tokens(text), 1.0)


class RealtimeMeter(_Socket):
    """Of a session of the Realtime API. ``model`` is the session's as the request named it;
    ``transcriber`` the one that writes down what the user says. The session's own events say both
    anew. An ``error`` of the server does not end a session."""

    created: tuple[str, ...] = ()

    def __init__(self, model: str, transcriber: str = "") -> None:
        super().__init__()
        self._model = model
        self._transcriber = transcriber
        self._counted: dict[str, None] = {}
        self._writers: dict[str, str] = {}
        """Who writes down the sound of an item: the transcriber when it was committed."""

    def _message(self, data: bytes) -> None:
        match = EVENT_TYPE.match(data)
        if match is not None and match[1].endswith(b".delta"):
            self._count(data, match[1])
            return
        if all(data.find(word) < 0 for word in _COUNTS):
            return
        event = json.loads(data)
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        if kind == "response.done":
            # Also of an answer that was cancelled or is incomplete: its usage is billed.
            response = details_of(event.get("response"))
            units = realtime_usage(response.get("usage"))
            if units is not None and self._is_new(id_of(response.get("id"))):
                self._sums.add(Charge(self._model, units))
        elif kind == _TRANSCRIBED:
            units = transcription_usage(event.get("usage"))
            writer = self._writers.pop(id_of(event.get("item_id")), self._transcriber)
            if units is not None:
                self._sums.add(Charge(writer, units))
        elif kind == _COMMITTED:
            if self._transcriber and len(self._writers) < _REMEMBERED:
                self._writers[id_of(event.get("item_id"))] = self._transcriber
        elif kind in ("session.created", "session.updated", "transcription_session.updated"):
            self._learn(details_of(event.get("session")))

    def _is_new(self, answer: str) -> bool:
        """Whether the usage of ``answer`` was not counted yet."""
        if not answer:
            return True
        if answer in self._counted:
            return False
        if len(self._counted) >= _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        self._counted[answer] = None
        return True

    def _learn(self, session: Mapping[str, Any]) -> None:
        self._model = id_of(session.get("model")) or self._model
        # The first place is that of the present API, the second that of its beta.
        hears = details_of(details_of(session.get("audio")).get("input")).get("transcription")
        writes = details_of(hears) or details_of(session.get("input_audio_transcription"))
        self._transcriber = id_of(writes.get("model")) or self._transcriber


class ResponsesSocketMeter(_Socket):
    """Of a connection to the Responses API. Its messages are the events of a stream. Several answers
    may be under way at once, each in a lane with a ``stream_id``. ``tools`` gives those that the
    request lets the provider run which is answered next in a lane; whoever reads the client's messages knows them."""

    def __init__(self, tools: Callable[[str], Hosted] = lambda lane: Hosted()) -> None:
        super().__init__()
        self._tools = tools
        self._lanes: dict[str, ResponseTold] = {}
        self._made: dict[str, None] = {}
        self.created: tuple[str, ...] = ()

    def _message(self, data: bytes) -> None:
        match = EVENT_TYPE.match(data)
        kind = match[1].decode() if match is not None else ""
        if kind.endswith(".delta"):
            self._count(data, kind.encode())
            return
        if kind and kind not in ENDS and kind not in _READ:
            return
        event = json.loads(data)
        if isinstance(event, dict):
            self._read(event)

    def _read(self, event: Mapping[str, Any]) -> None:
        kind, lane = event.get("type"), id_of(event.get("stream_id"))
        if not isinstance(kind, str) or (kind not in ENDS and kind not in _READ):
            return
        if kind == "error":
            root = {"code": event.get("code"), "type": "error"}
            self.error = error_code(event.get("error")) or error_code(root)
            return
        if kind == "response.created":
            self._lanes.pop(lane, None)
        told = self._lanes.get(lane)
        if told is None:
            if len(self._lanes) >= _REMEMBERED:
                return
            told = self._lanes[lane] = ResponseTold(self._tools(lane), kept=True)
        if kind == "response.output_item.done":
            item = details_of(event.get("item"))
            if item.get("type") in (*HOSTED_CALLS, "image_generation_call"):
                told.read_single(item)
            else:
                told.note_item(item)
            self._note(told.created)
            return
        told.read(details_of(event.get("response")))
        self._note(told.created)
        if kind in ENDS:
            del self._lanes[lane]
            self.error = told.error or ("failed" if kind == "response.failed" else "")
            for charge in told.charges():
                self._sums.add(charge)

    def _note(self, created: tuple[str, ...]) -> None:
        new = [one for one in created if one not in self._made]
        if new and len(self._made) < _REMEMBERED:
            self._made |= dict.fromkeys(new)
            self.created = tuple(self._made)


def realtime_usage(value: object) -> Units | None:
    """The ``usage`` of a ``response.done``. Sound and images from the cache are counted among their
    kind and among what was cached."""
    used = details(value)
    read, written = used("input_tokens"), used("output_tokens")
    if not read and not written:
        return None
    told = details_of(value)
    parts = details_of(told.get("input_token_details"))
    of_input, of_output = details(parts), details(told.get("output_token_details"))
    of_cached = details(parts.get("cached_tokens_details"))
    sound = min(of_input("audio_tokens"), read)
    pictures = max(of_input("image_tokens") - of_cached("image_tokens"), 0)
    return Units(
        input=read,
        output=written,
        cached=min(of_input("cached_tokens"), read),
        input_audio=sound,
        cached_audio=min(of_cached("audio_tokens"), sound),
        input_image=min(pictures, read),
        output_audio=min(of_output("audio_tokens"), written),
        requests=1,
    )


def transcription_usage(value: object) -> Units | None:
    """The ``usage`` of a transcription: tokens, or the time that the sound takes."""
    told = details_of(value)
    seconds = told.get("seconds")
    if told.get("type") == "duration":
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            return None
        # Also false for NaN.
        if not 0 <= seconds < 1e9:
            return None
        thousandths = Decimal(str(seconds)) * 1000
        return Units(milliseconds=ceil(thousandths), requests=1)
    used = details(told)
    read, written = used("input_tokens"), used("output_tokens")
    if not read and not written:
        return None
    sound = min(details(told.get("input_token_details"))("audio_tokens"), read)
    return Units(input=read, output=written, input_audio=sound, requests=1)


def transcribers_of(session: Mapping[str, Any], body: Document) -> tuple[str, ...]:
    """A session may have one in the place of the present API, and one in that of its beta."""
    sound = details_of(details_of(session.get("audio")).get("input"))
    refuse_case_variants(details_of(session.get("audio")), {"input"}, "session.audio.")
    refuse_case_variants(sound, {"transcription"}, "session.audio.input.")
    found = []
    for value in (sound.get("transcription"), session.get("input_audio_transcription")):
        writes = details_of(value)
        refuse_case_variants(writes, {"model"}, "transcription.")
        if writes.get("model") is not None:
            name = body.name(writes["model"])
            if (
                not isinstance(name, str)
                or not 0 < len(name) <= MAX_MODEL
                or not name.isprintable()
            ):
                refuse('The "model" of a transcription must be a name.')
            found.append(name)
    return tuple(found)
