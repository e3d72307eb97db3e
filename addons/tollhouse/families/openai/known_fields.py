"""The known fields of a request for chat completions or embeddings: OpenAI's own, and those of
servers that speak its format."""

from __future__ import annotations

from typing import Final

# fmt: off
NOT_INPUT: Final = frozenset(
    {
        "model", "models", "stream", "stream_options", "n", "best_of", "max_tokens",
        "max_completion_tokens", "temperature", "top_p", "stop", "presence_penalty",
        "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "seed",
        "service_tier", "parallel_tool_calls", "store", "metadata", "modalities", "audio",
        "reasoning_effort", "verbosity", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options", "safety_identifier", "encoding_format", "dimensions", "prediction",
    }
)
"""Fields that are no input of the model. All others count as input."""

KNOWN: Final = NOT_INPUT | frozenset(
    {
        "messages", "input", "tools", "tool_choice", "functions", "function_call",
        "response_format", "web_search_options", "fallbacks", "context_window_fallbacks",
        "content_policy_fallbacks", "route",
    }
)
"""Known fields. A field that differs from one of them only in case is refused: a parser that folds
case would read it."""
# fmt: on
