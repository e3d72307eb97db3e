"""Images, audio and files: by their own rules, never by the length of their base64."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from tollhouse.families.openai.media import (
    IMAGE_MOST,
    Data,
    audio_tokens,
    elsewhere,
    file_tokens,
    image_tokens,
)

LINK = "https://example.com/cat.png"


def look(value: Any) -> Data | None:
    return Data(value, len(value)) if isinstance(value, str) else None


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(9)
    return "data:image/png;base64," + base64.b64encode(head + bytes(1_000_000)).decode()


def wav(seconds: int, rate: int = 16_000, code: int = 1) -> str:
    data = bytes(seconds * rate * 2)
    form = struct.pack("<IHHIIHH", 16, code, 1, rate, rate * 2, 2, 16)
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + form
    return base64.b64encode(head + b"data" + struct.pack("<I", len(data)) + data).decode()


def image(
    model: str, detail: Any, url: str, *, worst: bool = False, openai: bool = True
) -> float | None:
    return image_tokens([model], {"url": url, "detail": detail}, look, worst=worst, openai=openai)


@pytest.mark.parametrize(
    ("model", "detail", "tokens"),
    [
        ("gpt-4o", "low", 85),
        ("gpt-4o", "high", 1536),
        ("gpt-4o", None, 1536),
        ("ft:gpt-4o-2024-08-06:org::1", None, 1536),
        ("gpt-4o-mini", "low", 2833),
        ("gpt-4o-mini", "auto", 48_169),
        ("gpt-4.1-nano", "low", 3778.56),
        ("gpt-5-mini", None, 2488.32),
        ("gpt-5", "original", 24_600),
        ("gpt-5.4-mini", "high", 2641.92),
        ("gpt-5.4", None, 2_500),
        ("gpt-5.4", "original", 10_000),
        ("gpt-5.5", None, 10_000),
        ("gpt-5.5", "high", 2_500),
        ("gpt-5.5-pro", "low", 256),
        ("gpt-5.6-sol", "high", 2_500),
        ("gpt-6-luna", "low", 256),
        ("openai/gpt-6.1-sol", "high", 2_500),
    ],
)
@pytest.mark.parametrize("worst", [False, True])
@pytest.mark.parametrize("url", [LINK, png(60_000, 60_000)])
def test_an_image_that_is_scaled_down(
    model: str, detail: str | None, tokens: float, worst: bool, url: str
) -> None:
    """The most that this detail comes to, whether the image is here or at a URL."""
    assert image(model, detail, url, worst=worst) == pytest.approx(tokens)


@pytest.mark.parametrize("detail", ["auto", "original", None, "unheard of", 7])
@pytest.mark.parametrize(
    ("model", "factor"), [("gpt-5.6-sol", 1), ("gpt-6-astra", 1), ("gpt-7-nano", 2.46)]
)
def test_an_image_that_is_not(model: str, factor: float, detail: Any) -> None:
    """From gpt-5.6 on: by its own pixels, each patch that is begun, or not to be known."""
    assert image(model, detail, png(1024, 1025)) == pytest.approx(32 * 33 * factor)
    assert image(model, detail, LINK) is None
    assert image(model, detail, "data:image/png;base64,AAAA") is None


def test_an_image_for_several_models() -> None:
    """The dearest of all that may be used."""
    assert image_tokens(["gpt-4o", "gpt-4o-mini"], LINK, look, worst=False, openai=True) == 48_169
    assert image_tokens(["gpt-4o", "gpt-6-sol"], LINK, look, worst=False, openai=True) is None


@pytest.mark.parametrize(
    ("model", "openai"), [("Qwen/Qwen2.5-VL", True), ("gpt-4o", False), ("", True)]
)
def test_an_image_for_a_model_that_is_not_known(model: str, openai: bool) -> None:
    """At worst the dearest rule, or its pixels if that is more; of a URL nothing is known. Typically as gpt-4o."""
    assert image(model, "low", png(64, 64), worst=True, openai=openai) == IMAGE_MOST
    assert image(model, "low", png(32_000, 32_000), worst=True, openai=openai) == pytest.approx(
        1_000_000 * 2.46
    )
    assert image(model, "low", LINK, worst=True, openai=openai) is None
    assert image(model, None, LINK, openai=openai) == 1536


def audio(data: str, form: Any, *, worst: bool = False) -> float | None:
    return audio_tokens({"data": data, "format": form}, look, worst=worst)


def test_audio_costs_by_its_length() -> None:
    """Ten tokens a second: of a WAV by its own header, of an MP3 by the lowest bit rate in ordinary use."""
    assert audio(wav(60), "wav") == pytest.approx(600, abs=2)
    mp3 = base64.b64encode(b"\xff\xfb" + bytes(4_000 * 60)).decode()
    assert audio(mp3, "mp3") == pytest.approx(600, abs=2)
    assert audio(mp3, ["mp3"]) == pytest.approx(2400, abs=2)


def test_audio_at_worst() -> None:
    """The lowest rate that there is, of sound that is not compressed its own; of all else nothing is known."""
    assert audio(wav(60), "wav", worst=True) == pytest.approx(60 * 32, abs=2)
    for start in (b"\xff\xfb", b"\xff\xe3", b"ID3\x04"):
        mp3 = base64.b64encode(start + bytes(1_000 * 60)).decode()
        assert audio(mp3, "mp3", worst=True) == pytest.approx(60 * 32, abs=2)
    assert audio(wav(60, code=0x31), "wav", worst=True) is None, "GSM"
    assert audio(wav(60, rate=100), "wav", worst=True) is None
    assert audio(base64.b64encode(b"fLaC" + bytes(99)).decode(), "mp3", worst=True) is None
    assert audio("not base64", "wav", worst=True) is None


def test_a_lying_wav_header_makes_the_sound_no_shorter_than_48_khz_stereo() -> None:
    """A header that claims an impossible rate is not believed."""
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 4 * 10**9, 4 * 10**9, 1, 8)
    data = base64.b64encode(head + bytes(80_000)).decode()
    tokens = audio(data, "wav")
    assert tokens is not None
    assert tokens >= 100
    assert audio(data, "wav", worst=True) is None


def test_a_file() -> None:
    """By its bytes; at worst nobody knows its pages."""
    data = "data:application/pdf;base64," + base64.b64encode(bytes(20_000)).decode()
    assert file_tokens({"file_data": data}, look, worst=False) == pytest.approx(10_000, abs=2)
    assert file_tokens({"file_data": data}, look, worst=True) is None
    assert file_tokens({"file_id": "file-1"}, look, worst=False) is None
    assert file_tokens({"file_data": "https://example.com/a.pdf"}, look, worst=False) is None


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("https://x", True),
        ("gs://b/o", True),
        ("s3+x://y", True),
        ("data:a;base64,x//y", False),
        ("AAAA", False),
    ],
)
def test_elsewhere(text: str, away: bool) -> None:
    """A URL that is to be fetched, of any scheme."""
    assert elsewhere(text) is away
