"""Width and height of an image that stands in the request, from the first bytes of its file.

PNG: https://www.w3.org/TR/png/#11IHDR; GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt; WebP: RFC 9649; JPEG: ITU-T
T.81, B.2.2. These are the formats that OpenAI takes: https://developers.openai.com/api/docs/guides/images-vision.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final

_HEAD: Final = 400_000
"""Characters of base64 that are looked at: a camera's JPEG has its metadata, at most a few times 64 kB, before its frame."""
_STARTS_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""


def size(url: str) -> tuple[int, int] | None:
    """Pixels of the image in a ``data:`` URL; None for any other URL and for what can't be read."""
    scheme, comma, _ = url[:256].partition(",")
    if not comma or scheme[:5].lower() != "data:" or not scheme.lower().endswith(";base64"):
        return None
    start = len(scheme) + 1
    text = url[start : start + _HEAD]
    try:
        head = base64.b64decode(text[: len(text) & ~3], validate=True)
        found = _of(head)
    except (binascii.Error, ValueError, struct.error, IndexError):
        return None
    return found if found is not None and all(found) else None


def _of(head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    if head.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack("<HH", head[6:10])
        return width, height
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head)
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        if head[at] != 0xFF:
            return None
        while head[at] == 0xFF:
            at += 1
        marker = head[at]
        at += 1
        if marker in _ALONE:
            continue
        if marker in _STARTS_FRAME:
            height, width = struct.unpack(">HH", head[at + 3 : at + 7])
            return width, height
        at += int.from_bytes(head[at : at + 2], "big") or len(head)
