"""What the stand-in has billed of WebSocket sessions (`Received.bills`), as the line names its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Bill = Mapping[str, Any]


def realtime_tokens(bills: Iterable[Bill]) -> dict[str, int]:
    """Of OpenAI's Realtime API."""
    tokens: Counter[str] = Counter()
    for bill in bills:
        heard, said = bill["input_token_details"], bill["output_token_details"]
        tokens.update(
            {
                "input": bill["input_tokens"],
                "output": bill["output_tokens"],
                "cached": heard["cached_tokens"],
                "input_audio": heard["audio_tokens"],
                "output_audio": said["audio_tokens"],
            }
        )
    return _counted(tokens)


def responses_tokens(bills: Iterable[Bill]) -> dict[str, int]:
    """Of OpenAI's Responses API."""
    tokens: Counter[str] = Counter()
    for bill in bills:
        tokens.update({"input": bill["input_tokens"], "output": bill["output_tokens"]})
        tokens["cached"] += bill.get("input_tokens_details", {}).get("cached_tokens", 0)
        tokens["reasoning"] += bill.get("output_tokens_details", {}).get("reasoning_tokens", 0)
    return _counted(tokens)


def live_tokens(bills: Iterable[Bill]) -> dict[str, int]:
    """Of Gemini Live. Vertex AI has other names for what was said."""
    tokens: Counter[str] = Counter()
    for bill in bills:
        said = "response" if "responseTokenCount" in bill else "candidates"
        tokens["input"] += bill["promptTokenCount"]
        tokens["output"] += bill[f"{said}TokenCount"]
        tokens["input_audio"] += _of_audio(bill["promptTokensDetails"])
        tokens["output_audio"] += _of_audio(bill[f"{said}TokensDetails"])
    return _counted(tokens)


def _of_audio(details: Iterable[Mapping[str, Any]]) -> int:
    return sum(one["tokenCount"] for one in details if one["modality"] == "AUDIO")


def _counted(tokens: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in tokens.items() if count}
