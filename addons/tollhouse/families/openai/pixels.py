"""Width and height of an image that stands in the request, from the first bytes of its file."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Final

import imagesize

_HEAD: Final = 400_000
"""Characters of base64 that are looked at: a camera's JPEG has its metadata, at most a few times 64 kB, before its frame."""
_KNOWN: Final = (b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"RIFF", b"\xff\xd8")
"""How the formats begin that OpenAI takes: https://developers.openai.com/api/docs/guides/images-vision. The library knows more,
some of which (SVG, for one) have no size of their own."""


def size(url: str) -> tuple[int, int] | None:
    """Pixels of the image in a ``data:`` URL; None for any other URL and for what can't be read."""
    scheme, comma, _ = url[:256].partition(",")
    if not comma or scheme[:5].lower() != "data:" or not scheme.lower().endswith(";base64"):
        return None
    start = len(scheme) + 1
    text = url[start : start + _HEAD]
    try:
        head = base64.b64decode(text[: len(text) & ~3], validate=True)
    except (binascii.Error, ValueError):
        return None
    if not head.startswith(_KNOWN):
        return None
    try:
        width, height = imagesize.get(io.BytesIO(head))
    except Exception:
        # The library tells of what it can't read in several ways.
        return None
    if head[12:16] == b"VP8 ":
        # Its two highest bits are a scale (RFC 6386, section 9.1), which the library counts in.
        width, height = width & 0x3FFF, height & 0x3FFF
    return (int(width), int(height)) if width > 0 and height > 0 else None
