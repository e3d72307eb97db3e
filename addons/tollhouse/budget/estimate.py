"""How many input tokens a request will take, before it is sent. An estimate is held; usage is what is charged.

No tokenizer: text counts by its UTF-8 bytes, an image by the most that its detail can cost, audio by its length. What
this file does not know counts as text, by every byte of it. The constants, and where they come from:
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any, Final

BYTES_PER_TOKEN: Final = 4
"""English text: https://help.openai.com/en/articles/4936856 ("1 token ~= 4 chars in English"). A CJK character is 3
bytes of UTF-8 and about 0.75 tokens with o200k, so bytes serve better than characters."""

TOKENS_PER_MESSAGE: Final = 4
"""3 a message and 1 for a name: OpenAI cookbook, "How to count tokens with tiktoken"."""
TOKENS_PER_REPLY: Final = 3
"""The answer is primed with three tokens: same source."""
TOKENS_PER_FUNCTION: Final = 12
"""7 to 10 a function and 3 each for its parts: same source, section on tool calls. Its JSON counts as text beside
that."""

IMAGE_LOW: Final = 85
IMAGE_HIGH: Final = 85 + 8 * 170
"""``detail`` low, and high at its most: fitted into 2048 x 2048, the shorter side brought down to 768, then 170 for
each 512-pixel tile (at most 2 x 4) and 85 once: https://platform.openai.com/docs/guides/images-vision (gpt-4o, gpt-4.1;
gpt-5 and the o series cost less)."""
_MINI_LOW: Final = 2833
_MINI_HIGH: Final = 2833 + 8 * 5667
"""gpt-4o-mini, by the same tiles: same source."""
_PATCHES: Final = 1536
_PATCH_MULTIPLIERS: Final = (("nano", 2.46), ("gpt-5-mini", 1.62), ("mini", 1.72))
"""Models counted by 32-pixel patches, at most 1536 of them, times a factor: 2.46 the nano models, 1.62 gpt-4.1-mini and
gpt-5-mini, 1.72 o4-mini: same source."""
IMAGE_ORIGINAL: Final = 10_000 * 2.46
"""``detail = "original"``: at most 10,000 patches; taken at the dearest factor."""

AUDIO_TOKENS_PER_SECOND: Final = 10
"""One token for 100 ms of the user's audio: https://platform.openai.com/docs/guides/realtime-costs."""
_AUDIO_BYTES_PER_SECOND: Final = {"wav": 8_000, "mp3": 4_000}
"""The lowest rate in ordinary use, so the longest the bytes can be: 8 kHz of 8 bits, and 32 kbit/s."""
_AUDIO_UNKNOWN_RATE: Final = 1_000

AUDIO_BY_ID: Final = 3_000
"""An earlier answer's audio, named by id: five minutes of it."""
FILE_BY_ID: Final = 128_000
"""A file named by id can be as large as the context of the models in use allows."""
FILE_BYTES_PER_TOKEN: Final = 2
"""A PDF counts by its text and by an image of each page, and is compressed: guides/pdf-files."""

# Fields that are no input of the model. All others count.
_NOT_INPUT: Final = frozenset(
    {
        "model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop",
        "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "seed",
        "service_tier", "parallel_tool_calls", "store", "metadata", "modalities", "audio", "reasoning_effort",
        "verbosity", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "encoding_format", "dimensions",
    }
)  # fmt: skip


def estimate_input_tokens(request: Mapping[str, Any]) -> int:
    """The input tokens of a chat completion or an embeddings request, as parsed from its JSON. Never raises for what a
    client may send: a field of another type than the API's counts as text."""
    model = request.get("model")
    counter = _Counter(model if isinstance(model, str) else "")
    if "messages" not in request and "input" in request:
        return max(counter.embeddings(request["input"]), 1)
    total = float(TOKENS_PER_REPLY)
    for key, value in request.items():
        if key == "messages" and isinstance(value, list):
            total += sum(counter.message(message) for message in value)
        elif key in ("tools", "functions") and isinstance(value, list):
            total += TOKENS_PER_FUNCTION * len(value) + counter.text(value)
        elif key not in _NOT_INPUT:
            total += counter.text(value)
    return max(_up(total), 1)


class _Counter:
    def __init__(self, model: str) -> None:
        self._model = model

    def embeddings(self, value: Any) -> int:
        """A string, tokens, or a list of either."""
        if isinstance(value, list):
            if all(isinstance(item, int) for item in value):
                return len(value)
            return sum(max(self.embeddings(item), 1) for item in value)
        return _up(self.text(value))

    def message(self, message: Any) -> float:
        if not isinstance(message, dict):
            return TOKENS_PER_MESSAGE + self.text(message)
        total = float(TOKENS_PER_MESSAGE)
        for key, value in message.items():
            if key == "content" and isinstance(value, list):
                total += sum(self.part(part) for part in value)
            elif key == "audio" and isinstance(value, dict) and isinstance(value.get("id"), str):
                total += AUDIO_BY_ID
            elif key != "role":
                total += self.text(value)
        return total

    def part(self, part: Any) -> float:
        if isinstance(part, dict):
            kind = part.get("type")
            if kind == "text":
                return self.text(part.get("text")) + self._rest(part, "text")
            if kind == "image_url":
                return self.image(part.get("image_url")) + self._rest(part, "image_url")
            if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
                return self.audio(part["input_audio"]) + self._rest(part, "input_audio")
            if kind == "file" and isinstance(part.get("file"), dict):
                return self.file(part["file"]) + self._rest(part, "file")
        return self.text(part)

    def image(self, image: Any) -> float:
        detail = image.get("detail") if isinstance(image, dict) else None
        if detail == "original":
            return IMAGE_ORIGINAL
        low = detail == "low"
        if "gpt-4o-mini" in self._model:
            return _MINI_LOW if low else _MINI_HIGH
        for name, factor in _PATCH_MULTIPLIERS:
            if name in self._model:
                # Patches know no detail low in all of these models.
                return _PATCHES * factor
        return IMAGE_LOW if low else max(IMAGE_HIGH, _PATCHES)

    def audio(self, audio: Mapping[str, Any]) -> float:
        data, form = audio.get("data"), audio.get("format")
        if not isinstance(data, str):
            return self.text(dict(audio))
        rate = _AUDIO_BYTES_PER_SECOND.get(form, _AUDIO_UNKNOWN_RATE) if isinstance(form, str) else _AUDIO_UNKNOWN_RATE
        if form == "wav":
            rate = max(rate, _wav_rate(data))
        return _decoded_length(data) / rate * AUDIO_TOKENS_PER_SECOND

    def file(self, file: Mapping[str, Any]) -> float:
        data = file.get("file_data")
        if isinstance(data, str):
            return _decoded_length(data.partition(",")[2] or data) / FILE_BYTES_PER_TOKEN
        return FILE_BY_ID

    def text(self, value: Any) -> float:
        """Every string in ``value``, keys too, by its bytes; a number, a constant or a pair of brackets is one
        token."""
        if isinstance(value, str):
            return (len(value) if value.isascii() else len(value.encode("utf-8", "replace"))) / BYTES_PER_TOKEN
        if isinstance(value, dict):
            return 1.0 + sum(self.text(key) + self.text(item) for key, item in value.items())
        if isinstance(value, list):
            return 1.0 + sum(map(self.text, value))
        return 0.0 if value is None else 1.0

    def _rest(self, part: Mapping[str, Any], known: str) -> float:
        return sum(self.text(value) for key, value in part.items() if key not in ("type", known))


def _decoded_length(data: str) -> float:
    return len(data) * 3 / 4


def _wav_rate(data: str) -> int:
    """Bytes a second by a WAV's own ``fmt`` chunk, checked against its other fields; 0 if it does not say.
    http://soundfile.sapp.org/doc/WaveFormat/"""
    try:
        head = base64.b64decode(data[:48], validate=True)
    except (binascii.Error, ValueError):
        return 0
    if len(head) < 36 or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
        return 0
    _, channels, samples, rate, _, bits = struct.unpack("<HHIIHH", head[20:36])
    # Above 48 kHz stereo of 16 bits a header claims a rate that makes the sound shorter than it is.
    return int(rate) if rate == samples * channels * bits // 8 and rate <= 192_000 else 0


def _up(value: float) -> int:
    return int(-(-value // 1))
