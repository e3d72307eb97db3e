"""The most tokens that an image, audio or a file of a request takes. The length of its base64 is
never the measure.

None stands for an amount that nobody can know from the request. The caller holds the model's
context limit then. The rules for images are those of OpenAI's guide,
https://developers.openai.com/api/docs/guides/images-vision ("Model sizing behavior", "Calculating
costs").
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.openai.pixels import size

IMAGE_LOW: Final = 85
IMAGE_HIGH: Final = 85 + 8 * 170
"""``detail`` low, and high at its most: fitted into 2048 x 2048, the shorter side brought down to 768, then 170 for
each 512-pixel tile (at most 2 x 4) and 85 once (gpt-4o, gpt-4.1; gpt-5 and the o series cost less)."""
_MINI_LOW: Final = 2833
_MINI_HIGH: Final = 2833 + 8 * 5667
"""gpt-4o-mini, by the same tiles."""
_PATCHES: Final = 1536
"""Models counted by 32-pixel patches scale an image down to so many at most, times a factor."""
_PATCH_FACTORS: Final = (("nano", 2.46), ("gpt-5-mini", 1.62), ("mini", 1.72))
"""2.46 the nano models, 1.62 gpt-4.1-mini, gpt-5-mini and gpt-5.4-mini, 1.72 o4-mini; 1 for all others."""
_PATCHES_LOW: Final = 256
"""``detail = "low"`` from gpt-5.4 on: 512 x 512 pixels."""
_PATCHES_HIGH: Final = 2_500
"""``detail = "high"`` from gpt-5.4 on."""
_PATCHES_ORIGINAL: Final = 10_000
"""``detail = "original"`` of gpt-5.4 and gpt-5.5. From gpt-5.6 on nothing is scaled down: an image is as dear as it has
pixels, also with ``auto`` and without a ``detail``."""
_DEAREST_FACTOR: Final = 2.46
IMAGE_MOST: Final = _MINI_HIGH
"""The most of all rules that have a limit."""

AUDIO_TOKENS_PER_SECOND: Final = 10
"""One token for 100 ms of the user's audio: https://platform.openai.com/docs/guides/realtime-costs."""
AUDIO_TOKENS_PER_SECOND_MOST: Final = 32
"""Gemini's, the dearest of those that say: https://ai.google.dev/gemini-api/docs/audio (Voxtral 12.5, OpenAI 10)."""
_AUDIO_BYTES_PER_SECOND: Final = {"wav": 8_000, "mp3": 4_000}
"""The lowest rate in ordinary use, so the longest the bytes can be: 8 kHz of 8 bits, and 32 kbit/s."""
_AUDIO_UNKNOWN_RATE: Final = 1_000
_MP3_LEAST: Final = 1_000
"""8 kbit/s, the lowest rate that MPEG audio layer III has: ISO/IEC 13818-3, 2.4.2.3."""
_PCM: Final = frozenset({1, 3, 0xFFFE})
"""WAVE_FORMAT_PCM, IEEE_FLOAT and EXTENSIBLE: not compressed, so that the header's rate is the sound's."""

FILE_BYTES_PER_TOKEN: Final = 2
"""A PDF counts by its text and by an image of each page, and is compressed: guides/pdf-files."""

_OPENAI: Final = re.compile(r"(?:.*[/:])?(?:gpt-|chatgpt-|o\d|computer-use|codex)")
_VERSION: Final = re.compile(r"(?:^|[/:])gpt-(\d{1,3})(?:\.(\d{1,3}))?")


class Data(NamedTuple):
    """A text that may be long: its beginning, at least 400,000 characters or all of it, and its length."""

    head: str
    length: int


Look = Callable[[Any], Data | None]
"""Gives the text of a value of the request. None if the value is no text."""


def image_tokens(
    models: Iterable[str], image: Any, look: Look, *, worst: bool, openai: bool
) -> float | None:
    """The most that an ``image_url`` (a URL, or an object with ``url`` and ``detail``) takes at any of ``models``.

    ``worst`` believes a model's name only at OpenAI itself (``openai``). Any other model's images
    count by their pixels or by the dearest known rule, whichever is more.
    """
    found = image if isinstance(image, dict) else {"url": image}
    url, detail = look(found.get("url")), found.get("detail")
    most = 0.0
    for model in models:
        if worst and not (openai and _OPENAI.match(model)):
            tokens = _by_pixels(url, _DEAREST_FACTOR)
            tokens = None if tokens is None else max(tokens, IMAGE_MOST)
        else:
            tokens = _by_rule(model, detail if isinstance(detail, str) else "auto", url)
        if tokens is None:
            return None
        most = max(most, tokens)
    return most


def _by_rule(model: str, detail: str, url: Data | None) -> float | None:
    version = _VERSION.search(model)
    number = (int(version[1]), int(version[2] or 0)) if version else (0, 0)
    factor = next((factor for name, factor in _PATCH_FACTORS if name in model), 1.0)
    low, high = detail == "low", detail == "high"
    if number >= (5, 6) and not low and not high:
        return _by_pixels(url, factor)
    if number >= (5, 5) or (number == (5, 4) and factor == 1.0):
        if low:
            return _PATCHES_LOW * factor
        scaled = high or (detail != "original" and number == (5, 4))
        return (_PATCHES_HIGH if scaled else _PATCHES_ORIGINAL) * factor
    if detail == "original":
        return _PATCHES_ORIGINAL * _DEAREST_FACTOR
    if "gpt-4o-mini" in model:
        return _MINI_LOW if low else _MINI_HIGH
    if factor != 1.0:
        return _PATCHES * factor
    return IMAGE_LOW if low else max(IMAGE_HIGH, _PATCHES)


def _by_pixels(url: Data | None, factor: float) -> float | None:
    pixels = size(url.head) if url is not None else None
    return None if pixels is None else -(-pixels[0] // 32) * -(-pixels[1] // 32) * factor


def audio_tokens(audio: Mapping[str, Any], look: Look, *, worst: bool) -> float | None:
    """Tokens of an ``input_audio``: by the rate that its header says, else by the lowest of its format."""
    data, form = look(audio.get("data")), audio.get("format")
    if data is None or elsewhere(data.head):
        return None
    if not worst:
        known = (
            _AUDIO_BYTES_PER_SECOND.get(form, _AUDIO_UNKNOWN_RATE)
            if isinstance(form, str)
            else _AUDIO_UNKNOWN_RATE
        )
        rate = max(known, _wav_rate(data.head)[0]) if form == "wav" else known
        return _decoded_length(data.length) / rate * AUDIO_TOKENS_PER_SECOND
    least = _MP3_LEAST if _is_mp3(data.head) else _plain_wav_rate(data.head)
    return (
        None
        if least is None
        else _decoded_length(data.length) / least * AUDIO_TOKENS_PER_SECOND_MOST
    )


def file_tokens(file: Mapping[str, Any], look: Look, *, worst: bool) -> float | None:
    """Tokens of a ``file``. Its bytes do not say how many pages it has, so ``worst`` gives None."""
    data = look(file.get("file_data"))
    if worst or data is None or elsewhere(data.head):
        return None
    prefix, comma, _ = data.head.partition(",")
    return (
        _decoded_length(data.length - len(prefix) - 1 if comma else data.length)
        / FILE_BYTES_PER_TOKEN
    )


def elsewhere(text: str) -> bool:
    """Whether ``text`` is a URL that somebody will fetch, and not the data itself."""
    scheme, colon, _ = text[:64].partition("://")
    return bool(colon) and scheme.isascii() and scheme.replace("+", "").isalnum()


def _decoded_length(length: int) -> float:
    return length * 3 / 4


def _head(data: str) -> bytes:
    try:
        return base64.b64decode(data[:48], validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_mp3(data: str) -> bool:
    head = _head(data)
    return head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2)


def _plain_wav_rate(data: str) -> int | None:
    rate, code = _wav_rate(data)
    return rate if code in _PCM and rate >= _MP3_LEAST else None


def _wav_rate(data: str) -> tuple[int, int]:
    return wav_rate(_head(data))


def wav_rate(head: bytes) -> tuple[int, int]:
    """Bytes a second by a WAV's own ``fmt`` chunk, checked against its other fields, and its format's code; 0 if it does
    not say. http://soundfile.sapp.org/doc/WaveFormat/"""
    if len(head) < 36 or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
        return 0, 0
    code, channels, samples, rate, _, bits = struct.unpack("<HHIIHH", head[20:36])
    # A header with a rate above 48 kHz stereo of 16 bits is not believed: it would make the sound
    # look shorter than it is.
    return (
        (int(rate), code)
        if rate == samples * channels * bits // 8 and rate <= 192_000
        else (0, code)
    )
