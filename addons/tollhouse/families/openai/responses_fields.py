"""The known fields of a request to the Responses API: openai-python
`types/responses/response_create_params.py`, `types/beta/response_create_params.py`,
`response_compact_params.py` and `input_token_count_params.py`."""

from __future__ import annotations

from typing import Final

from tollhouse.families.openai.body_fields import (
    FLAG,
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    TEXT_OR_LIST,
    TEXT_OR_OBJECT,
    Table,
)

NOT_INPUT: Final[Table] = {
    "access_programs": OBJECT,
    "background": FLAG,
    "background_options": OBJECT,
    "context_management": LIST,
    "image": OBJECT,
    "include": LIST,
    "max_output_tokens": NUMBER,
    "max_tool_calls": NUMBER,
    "metadata": OBJECT,
    "model": TEXT,
    "moderation": OBJECT,
    "multi_agent": OBJECT,
    "parallel_tool_calls": FLAG,
    "prompt_cache_key": TEXT,
    "prompt_cache_options": OBJECT,
    "prompt_cache_retention": TEXT,
    "reasoning": OBJECT,
    "safety_identifier": TEXT,
    "service_tier": TEXT,
    "store": FLAG,
    "stream": FLAG,
    "stream_options": OBJECT,
    "temperature": NUMBER,
    "tool_choice": TEXT_OR_OBJECT,
    "top_logprobs": NUMBER,
    "top_p": NUMBER,
    "truncation": TEXT,
    "user": TEXT,
}
"""Fields that are no input of the model. All others count as input."""

KNOWN: Final[Table] = {
    **NOT_INPUT,
    "conversation": TEXT_OR_OBJECT,
    "input": TEXT_OR_LIST,
    "instructions": TEXT_OR_LIST,
    "personality": TEXT,
    "previous_response_id": TEXT,
    "prompt": OBJECT,
    "text": OBJECT,
    "tools": LIST,
}

REASONING: Final[Table] = {
    "context": TEXT,
    "effort": TEXT,
    "generate_summary": TEXT,
    "mode": TEXT,
    "summary": TEXT,
}
MULTI_AGENT: Final[Table] = {"enabled": FLAG, "max_concurrent_subagents": NUMBER}

CONVERSATION: Final[Table] = {"items": LIST, "metadata": OBJECT, "include": LIST}
