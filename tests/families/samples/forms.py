"""Bodies of multipart/form-data for the samples."""

from __future__ import annotations

import struct

from tollhouse.headers import Headers

BOUNDARY = "b0undary"
FORM: Headers = (("content-type", f"multipart/form-data; boundary={BOUNDARY}"),)


def form(*fields: tuple[str, bytes] | tuple[str, bytes, str]) -> bytes:
    """The third of a field is its file's name."""
    body = b""
    for name, value, *filename in fields:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename:
            head += f'; filename="{filename[0]}"\r\nContent-Type: application/octet-stream'
        body += f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + value + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def wav(seconds: float, rate: int = 16_000) -> bytes:
    """Silence of 16 bits, one channel. It has 44 bytes beside the sound."""
    sound = b"\x00" * (int(seconds * rate) * 2)
    head = struct.pack(
        "<4sI8sIHHIIHH", b"RIFF", 36 + len(sound), b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16
    )
    return head + struct.pack("<4sI", b"data", len(sound)) + sound
