"""Sound: what is held for, and what the answers come to."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.families.samples.forms import FORM, form, wav

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units

LIMITS = Limits(context=100_000, answer=8_000)
PLAIN = Dialect()
TEN_SECONDS = Dialect(least_seconds=10)
MP3 = b"ID3" + b"\x00" * 11_997


def heard(*fields: Any, dialect: Dialect = PLAIN, path: str = "transcriptions") -> Asked:
    path = f"/v1/audio/{path}"
    operation = OPENAI.operation("POST", path)
    assert operation is not None
    return OPENAI.read(Request(operation, path, FORM, form(*fields)), dialect)


def spoken(**fields: Any) -> Asked:
    operation = OPENAI.operation("POST", "/v1/audio/speech")
    assert operation is not None
    body = json.dumps({"model": "tts-1", "voice": "alloy", **fields}).encode()
    return OPENAI.read(Request(operation, "/v1/audio/speech", (), body), PLAIN)


def held(call: Asked, mode: Mode = "typical") -> Units:
    return OPENAI.estimate(call, mode, LIMITS, PLAIN).units


def charges(
    call: Asked, answer: bytes, content_type: str = "application/json"
) -> tuple[Charge, ...]:
    meter = OPENAI.meter(call, AnswerHead(200, (("content-type", content_type),)))
    assert meter.feed(answer) == answer
    meter.flush()
    return meter.finish()


@pytest.mark.parametrize(
    ("file", "typical_s", "worst_s"),
    [
        # 44 bytes beside 112,000 of sound, at 32,000 a second.
        (wav(3.5), 4, 4),
        # 32 kbit/s, and the lowest that mp3 has.
        (MP3, 3, 12),
        (b"\xff\xf3" + b"\x00" * 11_998, 3, 12),
        # Anything else: 6 kbit/s.
        (b"OggS" + b"\x00" * 11_996, 3, 16),
        (b"", 0, 0),
        # A WAV that says a rate that it cannot have.
        (wav(3.5)[:28] + b"\xff\xff\xff\x7f" + wav(3.5)[32:12_000], 3, 16),
    ],
)
def test_seconds_of_a_file(file: bytes, typical_s: int, worst_s: int) -> None:
    """Whole seconds, rounded up."""
    call = heard(("file", file, "a"), ("model", b"whisper-1"))
    assert held(call) == Units(milliseconds=1_000 * typical_s, requests=1)
    assert held(call, "worst") == Units(milliseconds=1_000 * worst_s, requests=1)


def test_ten_seconds_at_least() -> None:
    """Where the provider charges so, of the hold and of the charge."""
    call = heard(("file", wav(2), "a"), ("model", b"whisper-large-v3"), dialect=TEN_SECONDS)
    ten = Units(milliseconds=10_000, requests=1)
    assert held(call) == held(call, "worst") == ten
    assert charges(call, b'{"text":"t","duration":2.0}') == (Charge("", ten),)
    assert charges(call, b'{"text":"t","duration":12.1}') == (
        Charge("", Units(milliseconds=13_000, requests=1)),
    )


def test_tokens_of_a_file() -> None:
    """10 a second, 32 at worst; the text of the request beside it."""
    call = heard(
        ("file", wav(3.5), "a"), ("model", b"gpt-4o-mini-transcribe"), ("prompt", b"tolltoll")
    )
    assert held(call) == Units(input=38, input_audio=36, output=18, requests=1)
    assert held(call, "worst") == Units(input=1_145, input_audio=113, output=8_000, requests=1)


@pytest.mark.parametrize(
    ("answer", "milliseconds"),
    [
        (b'{"usage":{"type":"duration","seconds":4}}', 4_000),
        # What is charged is the usage, and not the duration beside it.
        (b'{"duration":3.2,"usage":{"type":"duration","seconds":4.25}}', 4_250),
        (b'{"duration":3.2}', 4_000),
        (b'{"duration":"3"}', None),
        (b'{"duration":-1}', None),
        (b'{"text":"t"}', None),
        (b'{"duration":3.2', None),
    ],
)
def test_a_charge_by_time(answer: bytes, milliseconds: int | None) -> None:
    """By the usage, else by the whole seconds of the duration. Without either the hold is charged."""
    call = heard(("file", wav(1), "a"), ("model", b"whisper-1"), path="translations")
    found = charges(call, answer)
    if milliseconds is None:
        assert found == ()
    else:
        assert found == (Charge("", Units(milliseconds=milliseconds, requests=1)),)


@pytest.mark.parametrize("form_", [b"text", b"srt", b"vtt"])
def test_a_text_is_not_read(form_: bytes) -> None:
    """Words that look like a usage are words."""
    call = heard(("file", wav(1), "a"), ("model", b"whisper-1"), ("response_format", form_))
    assert charges(call, b'{"usage":{"type":"duration","seconds":9}}', "text/plain") == ()


def test_time_that_a_stream_tells() -> None:
    """gpt-transcribe has a price for the time; its stream ends with the seconds."""
    call = heard(("file", wav(1), "a"), ("model", b"gpt-transcribe"), ("stream", b"true"))
    assert call.stream
    event = b'data: {"type":"transcript.text.done","text":"t","usage":{"type":"duration","seconds":1}}\n\n'
    assert charges(call, event, "text/event-stream") == (
        Charge("", Units(milliseconds=1_000, requests=1)),
    )


@pytest.mark.parametrize(
    "fields",
    [
        (("model", b"whisper-1"),),
        (("file", b"x", "a"),),
        (("file", b"x", "a"), ("file", b"y", "b"), ("model", b"whisper-1")),
        (("file", b"x", "a"), ("model", b"")),
        (("file", b"x", "a"), ("model", b"whisper-1"), ("stream", b"1")),
    ],
)
def test_forms_that_are_refused(fields: Any) -> None:
    with pytest.raises(Refused) as refused:
        heard(*fields)
    assert refused.value.denial.code == "bad_request"


def test_a_transcription_is_a_form() -> None:
    operation = OPENAI.operation("POST", "/v1/audio/transcriptions")
    assert operation is not None
    with pytest.raises(Refused):
        OPENAI.read(Request(operation, "/v1/audio/transcriptions", (), b'{"model":"m"}'), PLAIN)


def test_a_file_from_elsewhere_may_be_as_long_as_any() -> None:
    """100 MiB at 4,000 bytes a second."""
    call = heard(("url", b"https://a/b.mp3"), ("model", b"whisper-large-v3"))
    assert held(call) == Units(milliseconds=26_215_000, requests=1)


def test_characters() -> None:
    """Of the text, and not of its bytes or of what else is said."""
    call = spoken(input="Zwölf €", instructions="slowly")
    assert held(call) == held(call, "worst") == Units(characters=7, requests=1)
    assert charges(call, b"sound", "audio/mpeg") == (Charge("", held(call)),)
    assert charges(call, b'{"error":{"code":"server_error"}}') == ()


def test_characters_of_a_long_text() -> None:
    """Beyond 64 kB they are counted by bytes, of which there are more."""
    assert held(spoken(input="ö" * 40_000)).characters == 80_000
    assert held(spoken(input="ö" * 4_096)).characters == 4_096


def test_tokens_of_speech() -> None:
    """2 for each character; the longest answer at worst."""
    call = spoken(model="gpt-4o-mini-tts", input="x" * 100, instructions="slowly")
    assert held(call) == Units(input=27, output=200, requests=1)
    assert held(call, "worst") == Units(input=1_130, output=8_000, requests=1)
    assert charges(call, b"sound", "audio/mpeg") == ()


def test_a_stream_of_speech() -> None:
    """A token for each kilobyte of it that passes by, and then what the provider has counted."""
    call = spoken(model="gpt-4o-mini-tts", input="x", stream_format="sse")
    meter = OPENAI.meter(call, AnswerHead(200, (("content-type", "text/event-stream"),)))
    meter.feed(b'data: {"type":"speech.audio.delta","audio":"%b"}\n\n' % (b"A" * 10_240))
    assert meter.output_seen == 11
    assert meter.finish() == ()
    meter.feed(
        b'data: {"type":"speech.audio.done","usage":{"input_tokens":2,"output_tokens":9}}\n\n'
    )
    assert (meter.finish(), meter.done) == (
        (Charge("", Units(input=2, output=9, requests=1)),),
        True,
    )


@pytest.mark.parametrize("fields", [{"input": 5}, {"model": None}, {"Input": "x"}])
def test_speech_that_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        spoken(**fields)


def heard_as_json(**fields: Any) -> Asked:
    operation = OPENAI.operation("POST", "/v1/audio/transcriptions")
    assert operation is not None
    body = json.dumps({"model": "openai/whisper-1", **fields}).encode()
    return OPENAI.read(Request(operation, "/v1/audio/transcriptions", (), body), PLAIN)


def test_sound_in_json() -> None:
    """OpenRouter's form of a transcription: the seconds are those of the file in it."""
    for file, seconds in ((wav(3.5), 4), (wav(0.01), 1), (MP3, 3)):
        data = base64.b64encode(file).decode()
        call = heard_as_json(input_audio={"data": data, "format": "wav"}, language="en")
        assert held(call).milliseconds == 1_000 * seconds
    json_type = (("content-type", "application/json"),)
    assert OPENAI.sent_headers((), call) == json_type
    answer = b'{"text":"Paid.","usage":{"seconds":9.2,"cost":0.000508}}'
    paid = Charge("", Units(milliseconds=9_200, requests=1), paid=508_000)
    assert charges(call, answer) == (paid,)
    alone = Charge("", Units(requests=1), paid=508_000)
    assert charges(call, b'{"text":"Paid.","usage":{"cost":0.000508,"is_byok":false}}') == (alone,)


@pytest.mark.parametrize("fields", [{}, {"input_audio": "x"}, {"input_audio": {"data": 7}}])
def test_json_without_sound(fields: dict[str, Any]) -> None:
    """What is to be done is said."""
    with pytest.raises(Refused) as refused:
        heard_as_json(**fields)
    assert "input_audio.data" in refused.value.denial.why
