"""Tokens of what stands in a request, by Google's published numbers."""

from __future__ import annotations

import base64
import io
import struct
import wave
from typing import Any

import pytest

from tollhouse.families.google.inline_media import Tokens, tiles_of, tokens
from tollhouse.families.openai.media import Data


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06"


def data(raw: bytes) -> Data:
    text = base64.urlsafe_b64encode(raw).decode()
    return Data(text, len(text))


def counted(mime: str, raw: bytes, **more: Any) -> Tokens:
    given = {"resolution": "", "third": False, "fps": 1.0, **more}
    return tokens(mime, data(raw), **given)


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [(384, 384, 1), (385, 100, 2), (960, 540, 6), (3840, 2160, 15), (100, 10_000, 40)],
)
def test_tiles(width: int, height: int, tiles: int) -> None:
    """960 x 540 is the example of the documentation."""
    assert tiles_of(width, height) == tiles
    assert counted("image/png", png(width, height)).typical == 258 * tiles


@pytest.mark.parametrize(
    ("resolution", "typical"),
    [
        ("", 1_120),
        ("MEDIA_RESOLUTION_LOW", 280),
        ("MEDIA_RESOLUTION_ULTRA_HIGH", 2_240),
        ("unknown", 1_120),
    ],
)
def test_images_from_gemini_3_on(resolution: str, typical: int) -> None:
    """By the resolution that is asked for. The worst is the most of all rules."""
    found = counted("image/png", png(300, 300), third=True, resolution=resolution)
    assert found == (typical, 2_240)


def test_an_image_that_can_not_be_read() -> None:
    """Its worst is unknown."""
    assert counted("image/heic", b"whatever") == (6 * 258, None)


def test_sound() -> None:
    """32 tokens a second, by the rate of its header."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 16_000 * 10))
    typical, worst = counted("audio/wav", file.getvalue())
    assert round(typical) == 320
    assert worst is not None
    assert round(worst) == 320
    assert counted("audio/ogg", b"OggS" * 100)[1] is None


def test_video_and_documents() -> None:
    """263 tokens a second and 258 a page; neither can be known from the bytes alone."""
    assert counted("video/mp4", bytes(125_000)).typical == pytest.approx(526, abs=1)
    assert counted("video/mp4", bytes(125_000), fps=4.0).typical == pytest.approx(2_104, abs=4)
    assert counted("application/pdf", b"%PDF") == (258, None)


def test_text() -> None:
    """As many tokens as its decoded bytes at most."""
    typical, worst = counted("text/plain; charset=utf-8", b"a" * 300)
    assert (typical, worst) == (75, 300)
