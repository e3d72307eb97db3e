"""Sound: text read aloud, and speech written down. https://platform.openai.com/docs/api-reference/audio.

Speech of ``tts-1`` is charged by the characters of the request, that of ``gpt-4o-mini-tts`` by
tokens, which only a stream of events tells. ``whisper-1`` is charged by the seconds of the sound,
``gpt-4o-transcribe`` by tokens.
"""

from __future__ import annotations

import base64
import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.text_tokens import BYTES_PER_TOKEN
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.openai import sound
from tollhouse.families.openai.answers import EventsMeter, FixedMeter, Members, WholeMeter
from tollhouse.families.openai.form_fields import FormFields, form_fields, sent_headers
from tollhouse.families.openai.media import (
    AUDIO_TOKENS_PER_SECOND,
    AUDIO_TOKENS_PER_SECOND_MOST,
)
from tollhouse.families.openai.media_usage import duration, media_units, told
from tollhouse.families.units import Charge, Estimate, Units

_SPEECH: Final = frozenset(
    {
        "model",
        "input",
        "voice",
        "instructions",
        "response_format",
        "speed",
        "stream_format",
        "stream",
    }
)
# fmt: off
_HEARD: Final = frozenset(
    {
        "file", "model", "prompt", "response_format", "stream", "language", "languages", "include",
        "temperature", "timestamp_granularities", "chunking_strategy", "keywords", "url",
        "known_speaker_names", "known_speaker_references", "input_audio",
    }
)
_LISTS: Final = frozenset(
    {
        "include", "timestamp_granularities", "keywords", "languages", "chunking_strategy",
        "known_speaker_names", "known_speaker_references",
    }
)
# fmt: on
_SPOKEN_BY_TOKENS: Final = re.compile(r"(?:.*/)?gpt-")
_HEARD_BY_TOKENS: Final = re.compile(r"(?:.*/)?gpt-4o(?:-mini)?-transcribe")
"""All others have a price for the time: whisper, gpt-transcribe, voxtral."""
_TOKENS_PER_CHARACTER: Final = 2
"""0.015 USD a minute at 12 USD a million tokens are 21 tokens a second
(https://platform.openai.com/docs/pricing), and speech has 10 characters a second or more."""
_WORDS_TOKENS_PER_SECOND: Final = 5
"""Fast speech has 200 words a minute, of 1.3 tokens each: https://help.openai.com/en/articles/4936856."""
_AROUND: Final = 1_024
"""``worst``: text that the provider puts around the request's. It is a margin: no number is published."""
_BYTES_PER_TOKEN: Final = 1_024
"""Bytes of an event that stand for one token: base64 of an mp3 of 128 kbit/s, 21 tokens a second."""
_LONGEST_FILE: Final = 100 << 20
"""Bytes of a file that is fetched from elsewhere: https://console.groq.com/docs/speech-to-text."""
_BARE: Final = frozenset({"text", "srt", "vtt"})


@dataclass(frozen=True, slots=True)
class SpeechCall:
    """``characters`` and ``text`` (bytes) of what is read aloud."""

    characters: int
    text: int


def read_speech(request: Request, dialect: Dialect) -> Asked:
    fields = form_fields(request, _SPEECH)
    if fields.sent_as_form:
        refuse("The body must be JSON.")
    model = fields.model()
    characters, text = fields.size("input")
    return Asked(
        model,
        stream=fields.text("stream_format") == "sse",
        writes=False,
        reasons=False,
        detail=SpeechCall(characters, text + fields.size("instructions")[1]),
        document=fields,
    )


def estimate_speech(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    call: SpeechCall = asked.detail
    if not _SPOKEN_BY_TOKENS.match(asked.model):
        return Estimate(Units(characters=call.characters, requests=1))
    if mode == "worst":
        units = Units(input=call.text + _AROUND, output=limits.answer, requests=1)
    else:
        spoken = max(call.characters * _TOKENS_PER_CHARACTER, 1)
        tokens = max(-(-call.text // BYTES_PER_TOKEN), 1)
        units = Units(input=tokens, output=min(spoken, limits.answer), requests=1)
    return Estimate(units)


def meter_speech(asked: Asked, head: AnswerHead) -> Meter:
    """An answer of sound tells nothing. That of a model with a price for characters has been told
    by the request."""
    call: SpeechCall = asked.detail
    fixed: tuple[Charge, ...] = ()
    if not _SPOKEN_BY_TOKENS.match(asked.model):
        fixed = (Charge("", Units(characters=call.characters, requests=1)),)
    kind = head.get("content-type").strip().lower()
    if not asked.stream and not kind.startswith(("application/json", "text/event-stream")):
        return FixedMeter(fixed)
    reader = partial(_read_speech, fixed)
    return Sniffed(
        asked.stream,
        kind,
        of_json=lambda: WholeMeter(reader),
        of_events=lambda: EventsMeter(reader, ("speech.audio.done",), bytes_each=_BYTES_PER_TOKEN),
        may_edit=False,
    )


def _read_speech(
    fixed: tuple[Charge, ...], found: Members, before: tuple[Charge, ...]
) -> tuple[Charge, ...]:
    return fixed or told(found, media_units(found.get("usage"))) or before


@dataclass(frozen=True, slots=True)
class HeardCall:
    """``ordinary_s`` and ``most_s`` are the seconds of sound that the file has at most, by what is
    usual and by what can be. ``text`` are the bytes of the prompt. ``least_s`` are the fewest
    seconds that are charged."""

    ordinary_s: float
    most_s: float
    text: int
    least_s: int
    bare: bool


def read_heard(request: Request, dialect: Dialect) -> Asked:
    fields = form_fields(request, _HEARD, _LISTS, frozenset({"file"}))
    model = fields.model()
    files = list(_files(fields))
    if fields.text("url"):
        files.append((b"", _LONGEST_FILE))
    if not files:
        refuse('The body has no "file".')
    ordinary = sum(sound.seconds(head, length, worst=False) for head, length in files)
    most = sum(sound.seconds(head, length, worst=True) for head, length in files)
    text = sum(fields.size(key)[1] for key in ("prompt", "language"))
    return Asked(
        model,
        stream=fields.flag("stream"),
        writes=False,
        reasons=False,
        detail=HeardCall(
            ordinary,
            most,
            text,
            dialect.least_seconds,
            fields.text("response_format") in _BARE,
        ),
        document=fields,
    )


def _files(fields: FormFields) -> Iterator[tuple[bytes, int]]:
    """How each file begins, and its bytes. In JSON there may be one, in base64:
    https://openrouter.ai/docs/guides/overview/multimodal/stt."""
    if fields.form is not None:
        for part in fields.files:
            if part.base == "file":
                yield fields.form.head(part, sound.HEAD), part.end - part.start
        return
    given = fields.tree.get("input_audio")
    data = given.get("data") if isinstance(given, dict) else None
    if not isinstance(data, str):
        refuse(
            'The body must be multipart/form-data with the sound as "file", or JSON with it in '
            'base64 as "input_audio.data".'
        )
    long = fields.long.get(data)
    text, length = (data, len(data)) if long is None else (long.head, long.bytes)
    head = b""
    with contextlib.suppress(ValueError):
        head = base64.b64decode(text[: -(-sound.HEAD // 3) * 4])
    yield head, length * 3 // 4


def estimate_heard(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    call: HeardCall = asked.detail
    worst = mode == "worst"
    seconds = max(call.most_s if worst else call.ordinary_s, call.least_s)
    if not _HEARD_BY_TOKENS.match(asked.model):
        # Whole seconds, as whisper's are charged: https://platform.openai.com/docs/pricing.
        return Estimate(Units(milliseconds=1_000 * math.ceil(seconds), requests=1))
    rate = AUDIO_TOKENS_PER_SECOND_MOST if worst else AUDIO_TOKENS_PER_SECOND
    heard = math.ceil(seconds * rate)
    text = call.text + _AROUND if worst else -(-call.text // BYTES_PER_TOKEN)
    written = limits.answer if worst else math.ceil(seconds * _WORDS_TOKENS_PER_SECOND)
    output = min(max(written, 1), limits.answer)
    return Estimate(Units(input=heard + text, output=output, input_audio=heard, requests=1))


def meter_heard(asked: Asked, head: AnswerHead) -> Meter:
    call: HeardCall = asked.detail
    if call.bare and not asked.stream:
        # Plain text, which may begin like anything.
        return FixedMeter(())
    by_tokens = _HEARD_BY_TOKENS.match(asked.model) is not None
    reader = partial(_read_heard, call, by_tokens)
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: WholeMeter(reader),
        of_events=lambda: EventsMeter(reader, ("transcript.text.done",)),
        may_edit=False,
    )


def _read_heard(
    call: HeardCall, by_tokens: bool, found: Members, before: tuple[Charge, ...]
) -> tuple[Charge, ...]:
    """``usage.seconds`` is what is charged. An answer with a ``duration`` alone is charged for the
    whole seconds of it."""
    units = media_units(found.get("usage"))
    if units is None and not by_tokens:
        units = duration(found.get("duration"))
        if units is not None:
            units = units._replace(milliseconds=1_000 * -(-units.milliseconds // 1_000))
    if units is not None and units.milliseconds:
        units = units._replace(milliseconds=max(units.milliseconds, 1_000 * call.least_s))
    return told(found, units) or before


SPEECH: Final = Kind(read_speech, estimate_speech, meter_speech, sent_headers=sent_headers)
HEARD: Final = Kind(read_heard, estimate_heard, meter_heard, sent_headers=sent_headers)
