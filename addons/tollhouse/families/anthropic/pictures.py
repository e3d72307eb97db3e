"""The most tokens that an image or a document of a request takes. The length of its base64 is never
the measure of an image.

None stands for an amount that nobody can know from the request.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.openai.pixels import size

IMAGE_MOST: Final = 4_784
"""The largest image that a model sees, from Opus 4.7 on; a larger one is scaled down. It is one token
for each 28 by 28 pixels: https://platform.claude.com/docs/en/build-with-claude/vision."""
_PATCH: Final = 28
_PIXELS_PER_TOKEN: Final = 750
"""The older rule of the same page, up to Opus 4.6."""

PAGE: Final = 4_600
"""A page of a PDF: 3,000 tokens of text and an image of 1,600, the most of what is told:
https://platform.claude.com/docs/en/build-with-claude/pdf-support."""
_PAGES: Final = 600
"""The most pages of one request: same source."""
PDF_BYTES_PER_TOKEN: Final = 2
"""Of a PDF whose pages can't be counted. Its text is compressed."""
_PAGE_MARK: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")


class Encoded(NamedTuple):
    """A text that may be long: its beginning, at least 400,000 characters or all of it, and its
    length."""

    head: str
    length: int


Look = Callable[[Any], Encoded | None]
"""Gives the text of a value of the request. None if the value is no text."""


def image_tokens(source: Any, look: Look) -> int:
    """Tokens of an image. One whose pixels can't be read, or that is elsewhere, takes the most."""
    if not isinstance(source, Mapping):
        return IMAGE_MOST
    data, kind = look(source.get("data")), look(source.get("media_type"))
    if data is None or kind is None:
        return IMAGE_MOST
    pixels = size(f"data:{kind.head[:100]};base64,{data.head}")
    if pixels is None:
        return IMAGE_MOST
    width, height = pixels
    patches = -(-width // _PATCH) * -(-height // _PATCH)
    return min(max(patches, -(-width * height // _PIXELS_PER_TOKEN)), IMAGE_MOST)


def pdf_tokens(source: Mapping[str, Any], look: Look, *, worst: bool) -> float | None:
    """Tokens of a PDF in base64. Its bytes do not say for sure how many pages it has, so ``worst``
    gives None."""
    data = look(source.get("data"))
    if worst or data is None:
        return None
    return max(_pages(data) * PAGE, 0) or min(
        max(data.length * 3 / 4 / PDF_BYTES_PER_TOKEN, PAGE), _PAGES * PAGE
    )


def _pages(data: Encoded) -> int:
    """Pages that stand in the file uncompressed, if all of it is there to be looked at; else 0."""
    if len(data.head) < data.length:
        return 0
    try:
        found = base64.b64decode(data.head, validate=True)
    except (binascii.Error, ValueError):
        return 0
    return len(_PAGE_MARK.findall(found))
