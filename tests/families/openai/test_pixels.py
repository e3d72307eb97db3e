"""Width and height from the first bytes of a file."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.openai.pixels import size


def url(head: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64," + base64.b64encode(head + bytes(100)).decode()


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480)
VP8X = (
    b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
)
VP8L = b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")
VP8 = b"RIFF\0\0\0\0WEBPVP8 " + bytes(7) + b"\x9d\x01\x2a" + struct.pack("<HH", 640 | 1 << 14, 480)
FRAME = struct.pack(">HBHHB", 17, 8, 480, 640, 3)
JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + bytes(14) + b"\xff\xc0" + FRAME
CAMERA = (
    b"\xff\xd8"
    + (b"\xff\xe1" + struct.pack(">H", 65_000) + bytes(64_998)) * 3
    + b"\xff\xc4\0\x04\0\0\xff\xff\xc2"
    + FRAME
)


@pytest.mark.parametrize("head", [PNG, GIF, VP8X, VP8L, VP8, JPEG, CAMERA])
def test_the_formats_that_there_are(head: bytes) -> None:
    """By the file itself, whatever the URL calls it."""
    assert size(url(head)) == (640, 480)
    assert size(url(head, "image/anything;x=y")) == (640, 480)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/cat.png",
        "data:image/png,%89PNG",
        "data:image/svg+xml;base64,PHN2Zz4=",
        url(PNG).replace("data:", "http:"),
        url(PNG)[:40],
        "data:image/png;base64,\n" + url(PNG).partition(",")[2],
        url(PNG[:16] + bytes(8)),
        url(b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 0, 640, 3)),
        url(b"\xff\xd8\xff\xe0\0\0"),
        url(b"\xff\xd8\0\0"),
        url(b"RIFF\0\0\0\0WEBPXXXX"),
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    """None, which is held as what nobody knows; a height of 0 is told later in the file."""
    assert size(text) is None


@given(st.binary(max_size=80), st.sampled_from([b"", PNG[:14], JPEG[:4], VP8[:14], GIF[:6]]))
def test_nothing_breaks_it(rest: bytes, start: bytes) -> None:
    """Any bytes are an image or none."""
    found = size("data:;base64," + base64.b64encode(start + rest).decode())
    assert found is None or all(side > 0 for side in found)
