"""How long the sound of a file can be, by its first bytes and its length."""

from __future__ import annotations

from typing import Final

from tollhouse.families.openai.media import wav_rate

_MP3_LEAST: Final = 1_000
"""Bytes a second: 8 kbit/s, the lowest rate of MPEG audio layer III. ISO/IEC 13818-3, 2.4.2.3."""
_LEAST: Final = 750
"""6 kbit/s, the lowest rate of Opus (RFC 6716, section 2.1.1), which is lower than those of the
other formats that are taken. A codec that leaves out silence can be below it."""
_ORDINARY: Final = 4_000
"""32 kbit/s, the lowest rate in ordinary use."""
_PCM: Final = frozenset({1, 3, 0xFFFE})
HEAD: Final = 64


def seconds(head: bytes, length: int, *, worst: bool) -> float:
    """Upper bound of the seconds of a file of ``length`` bytes that begins with ``head``. A WAV
    file without compression says its rate itself."""
    rate, code = wav_rate(head)
    if code in _PCM and rate >= _MP3_LEAST:
        return length / rate
    if not worst:
        return length / _ORDINARY
    mp3 = head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2)
    return length / (_MP3_LEAST if mp3 else _LEAST)
