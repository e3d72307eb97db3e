"""OpenTelemetry's names for calls of generative AI, in the version that the configuration asks for.

0.1 is https://github.com/open-telemetry/semantic-conventions-genai, v0.1.0. 1.41 is the last of
https://github.com/open-telemetry/semantic-conventions that had them itself: most dashboards know its names. Pure.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Version = Literal["0.1", "1.41"]

_OPERATIONS: Final = {
    "embed": "embeddings",
    "predict_vectors": "embeddings",
    "compatible embeddings": "embeddings",
    "completions": "text_completion",
    "fim": "text_completion",
    "generate": "generate_content",
    "stream": "generate_content",
    "interaction": "generate_content",
}
"""By the family's kind. Others that write text are `CHAT`, and what is left goes by the family's kind."""
CHAT: Final = "chat"
UNKNOWN: Final = "unknown"
_SOCKETS: Final = frozenset({"realtime", "live"})


def operation(kind: str, *, metered: bool, writes: bool) -> str:
    """``gen_ai.operation.name``."""
    if not kind:
        return UNKNOWN
    if found := _OPERATIONS.get(kind):
        return found
    if kind in _SOCKETS or not (metered and writes):
        return kind.replace(" ", "_")
    return CHAT


class Names(NamedTuple):
    """What the versions call differently. A metric whose name is None is not in the version."""

    schema_url: str
    duration: str
    other_duration: str
    """Of operations that are no inference."""
    first_chunk: str
    cache_write: str
    token_usage: str | None
    """A histogram by ``gen_ai.token.type``."""
    usage: str | None
    """Of counters: their names begin with it."""
    input_tokens: str | None
    """A histogram."""
    output_tokens: str | None


NAMES: Final[dict[Version, Names]] = {
    "0.1": Names(
        "https://opentelemetry.io/schemas/gen-ai/0.1.0",
        "gen_ai.client.inference.duration",
        "gen_ai.client.operation.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.usage.cache_write.input_tokens",
        None,
        "gen_ai.client.inference.usage.",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
    ),
    "1.41": Names(
        "https://opentelemetry.io/schemas/1.41.0",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.client.token.usage",
        None,
        None,
        None,
    ),
}
