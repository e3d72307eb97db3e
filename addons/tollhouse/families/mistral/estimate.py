"""What a request may use. Tokens of text, images and tools are counted as of OpenAI's format (`openai.estimate`), which Mistral's
is; what an agent or an earlier conversation brings counts as the context."""

from __future__ import annotations

from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.formats.document import Document
from tollhouse.families.mistral.connectors import PAID, ROUNDS, bounds
from tollhouse.families.mistral.request import Talk
from tollhouse.families.openai.estimate import (
    FIRST_SLICE_TOKENS,
    estimate_input_tokens,
    estimate_prediction_tokens,
)
from tollhouse.families.units import Estimate, Units

MAX_PAGES: Final = 1_000
"""Of one document: https://docs.mistral.ai/capabilities/document_ai/basic_ocr."""
USUAL_PAGES: Final = 100
"""``typical``, of a document whose pages nobody has counted."""
MAX_AUDIO_S: Final = 3 * 3_600
"""``worst``: of one recording, https://docs.mistral.ai/capabilities/audio."""
USUAL_AUDIO_S: Final = 600
"""``typical``, of a recording that is not in the request."""
_LEAST_BYTES_A_SECOND: Final = 1_000
"""8 kbit/s, the least of MP3 (ISO/IEC 13818-3)."""
_NO_INPUT: Final = frozenset(
    {
        "inputs", "completion_args", "name", "description", "metadata", "random_seed", "store",
        "handoff_execution", "safe_prompt", "guardrails", "agent_version", "min_tokens", "prompt_mode",
        "output_dimension", "output_dtype", "top_k",
    }
)  # fmt: skip


def estimate_text(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    worst = mode == "worst"
    talk: Talk = asked.detail
    document: Document = asked.document
    tokens = estimate_input_tokens(
        _as_messages(document),
        worst=worst,
        models=(asked.model,),
        context=limits.context,
        answer=limits.answer,
    )
    if talk.hidden:
        tokens = max(tokens, limits.context)
    if worst and (talk.tools or talk.hidden):
        # Each turn to a tool reads all of it anew.
        tokens *= 1 + ROUNDS
    if not asked.writes:
        return Estimate(Units(input=tokens, requests=1))
    slices = asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    names = PAID if talk.hidden and worst else talk.tools
    return Estimate(
        Units(
            input=tokens,
            output=each * asked.choices,
            milliseconds=1_000 * _audio_seconds(document, worst),
            requests=1,
        ),
        predicted=estimate_prediction_tokens(document, worst=worst) * asked.choices,
        beside=bounds(names),
        grows=slices,
    )


def estimate_pages(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    most = MAX_PAGES if mode == "worst" else USUAL_PAGES
    return Estimate(Units(pages=most if asked.detail is None else asked.detail, requests=1))


def estimate_speech(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return Estimate(Units(characters=asked.detail, requests=1))


def seconds_of(size: int) -> int:
    """The most seconds that a recording of so many bytes has."""
    return min(size // _LEAST_BYTES_A_SECOND + 1, MAX_AUDIO_S)


def _as_messages(document: Document) -> Document:
    """A conversation's inputs are messages."""
    tree = {key: value for key, value in document.tree.items() if key not in _NO_INPUT}
    inputs = document.tree.get("inputs")
    if inputs is not None:
        tree["messages"] = inputs if isinstance(inputs, list) else [inputs]
    return Document(tree, document.long)


def _audio_seconds(document: Document, worst: bool) -> int:
    """Of the recordings in the messages: https://docs.mistral.ai/capabilities/audio."""
    total = 0
    for part in _parts(document.tree):
        if part.get("type") != "input_audio":
            continue
        sound = part.get("input_audio")
        sound = sound.get("data", sound.get("url")) if isinstance(sound, dict) else sound
        if not isinstance(sound, str) or sound.startswith(("http://", "https://")):
            total += MAX_AUDIO_S if worst else USUAL_AUDIO_S
            continue
        long = document.long.get(sound)
        size = (len(sound) if long is None else long.bytes) * 3 // 4
        total += seconds_of(size)
    return total


def _parts(tree: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for entries in (tree.get("messages"), tree.get("inputs")):
        for entry in entries if isinstance(entries, list) else ():
            content = entry.get("content") if isinstance(entry, dict) else None
            found += (
                [one for one in content if isinstance(one, dict)]
                if isinstance(content, list)
                else []
            )
    return found
