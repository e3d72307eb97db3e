"""Tokens of images, sound, video and documents that stand in a request.

https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens has the rules. None stands for an
amount that nobody can know from the request: the caller holds the model's context limit then.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tollhouse.families.openai.media import Data, audio_tokens
from tollhouse.families.openai.pixels import size

TILE_TOKENS: Final = 258
"""An image of at most 384 x 384, or a tile of a larger one: #multimodal-tokens of the same page."""
_SMALL: Final = 384
_TILE_LEAST, _TILE_MOST = 256, 768
"""A tile's side is the image's shorter side divided by 1.5, and within these: the same page, and
https://ai.google.dev/gemini-api/docs/image-understanding#calculate-tokens."""
RESOLUTIONS: Final = {
    "MEDIA_RESOLUTION_LOW": 280,
    "MEDIA_RESOLUTION_MEDIUM": 560,
    "MEDIA_RESOLUTION_HIGH": 1_120,
    "MEDIA_RESOLUTION_ULTRA_HIGH": 2_240,
}
"""An image from Gemini 3 on, HIGH if nothing is said:
https://ai.google.dev/gemini-api/docs/media-resolution#token-counts."""
_HIGH: Final = 1_120
IMAGE_MOST: Final = 2_240
IMAGE_UNREADABLE: Final = 6 * TILE_TOKENS
"""An image whose size can't be read, as one of 960 x 540."""
AUDIO_A_SECOND: Final = 32
"""https://ai.google.dev/gemini-api/docs/audio."""
_OPENAI_AUDIO_A_SECOND: Final = 10
VIDEO_A_SECOND: Final = 263
"""At one frame a second: #multimodal-tokens of the first page."""
_VIDEO_BYTES_A_SECOND: Final = 62_500
"""500 kbit/s, the lowest rate of ordinary video of 480 lines:
https://support.google.com/youtube/answer/2853702."""
PAGE_TOKENS: Final = 258
"""A page of a PDF: https://ai.google.dev/gemini-api/docs/document-processing#technical-details."""
_PAGE_BYTES: Final = 5_000
"""Assumed: a page of text alone, compressed."""
_WAVES: Final = frozenset({"wav", "x-wav", "wave", "vnd.wave"})
_MP3: Final = frozenset({"mp3", "mpeg", "mpga"})
_TEXTS: Final = frozenset({"application/json", "application/xml", "application/x-javascript"})
_URL_SAFE: Final = str.maketrans("-_", "+/")


class Tokens(NamedTuple):
    typical: float
    worst: float | None


def tokens(mime: str, data: Data, resolution: str, third: bool, fps: float) -> Tokens:
    """Of ``data`` (base64) of the type ``mime``. ``third``: the model may be of Gemini 3 or later.
    ``resolution`` is the ``mediaResolution`` that holds for it, ``fps`` the frames a second."""
    kind, _, form = mime.lower().partition(";")[0].strip().partition("/")
    data = data._replace(head=data.head.translate(_URL_SAFE))
    decoded = data.length * 3 / 4
    if kind == "image":
        return image_tokens(data, resolution, third)
    if kind == "audio":
        return _audio(form, data)
    if kind == "video":
        seconds = decoded / _VIDEO_BYTES_A_SECOND
        return Tokens(seconds * VIDEO_A_SECOND * max(fps, 1.0), None)
    if (kind, form) == ("application", "pdf"):
        return Tokens(max(decoded / _PAGE_BYTES, 1.0) * PAGE_TOKENS, None)
    if kind == "text" or f"{kind}/{form}" in _TEXTS:
        return Tokens(decoded / 4, decoded)
    return Tokens(decoded / 4, None)


def image_tokens(data: Data, resolution: str, third: bool) -> Tokens:
    fixed = RESOLUTIONS.get(resolution, _HIGH) if third else 0
    pixels = size("data:image;base64," + data.head)
    if pixels is None:
        return Tokens(max(IMAGE_UNREADABLE, fixed), None)
    tiles = tiles_of(*pixels) * TILE_TOKENS
    return Tokens(max(tiles, fixed) if third else tiles, max(tiles, IMAGE_MOST))


def tiles_of(width: int, height: int) -> int:
    if width <= _SMALL and height <= _SMALL:
        return 1
    side = min(max(int(min(width, height) / 1.5), _TILE_LEAST), _TILE_MOST)
    return -(-width // side) * -(-height // side)


def _audio(form: str, data: Data) -> Tokens:
    sound = {"data": data, "format": "wav" if form in _WAVES else "mp3" if form in _MP3 else ""}
    typical = audio_tokens(sound, _as_it_is, worst=False)
    scale = AUDIO_A_SECOND / _OPENAI_AUDIO_A_SECOND
    return Tokens((typical or 0.0) * scale, audio_tokens(sound, _as_it_is, worst=True))


def _as_it_is(data: Data) -> Data:
    return data
