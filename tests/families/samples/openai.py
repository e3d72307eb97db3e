"""OpenAI's samples."""

from __future__ import annotations

from typing import Any

from tests.families.samples.kit import EVENTS, Exchange, Samples, sse

from tollhouse.families.base import Dialect
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units

_CHUNK = (
    '{"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"%s"}}],"usage":null}'
)
_PLAIN_CHUNK = _CHUNK.replace(',"usage":null', "")
_COUNTS = (
    '{"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}'
)
_ASKED = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}],"stream":true,"max_tokens":20}'
_OPENAI_BROKE = b'{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}'

SPEAKS_OPENAI: dict[str, Any] = {
    "verdicts": (
        (401, b'{"error":{"code":"invalid_api_key"}}', "refused"),
        (
            401,
            b'{"error":{"message":"You have insufficient permissions for this operation. Missing"}}',
            "request",
        ),
        (429, _OPENAI_BROKE, "no_money"),
        (429, b'{"error":{"message":"Request too large for gpt-4o"}}', "request"),
        (429, b'{"error":{"code":"rate_limit_exceeded"}}', None),
        (402, b"", "no_money"),
    ),
}

SAMPLES = (
    Samples(
        OPENAI,
        (
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/embeddings"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/m"),
        ),
        dialect=Dialect("on_request"),
        exchanges=(
            Exchange(
                "chat",
                "/v1/chat/completions",
                b'{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20}',
                b'{"id":"1","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"Hello."}}],'
                b'"usage":{"prompt_tokens":9,"completion_tokens":4},"service_tier":"default"}',
                (Charge("gpt-4o-2024-08-06", Units(input=9, output=4, requests=1), "default"),),
            ),
            Exchange(
                "stream",
                "/v1/chat/completions",
                _ASKED,
                sse(_CHUNK % "Hel", _CHUNK % "lo.", _COUNTS, "[DONE]"),
                (Charge("gpt-4o-2024-08-06", Units(input=9, output=4, requests=1)),),
                EVENTS,
                passed=sse(_PLAIN_CHUNK % "Hel", _PLAIN_CHUNK % "lo.", "[DONE]"),
                text=len(sse(_CHUNK % "Hel")),
            ),
            Exchange(
                "embeddings",
                "/v1/embeddings",
                b'{"model":"text-embedding-3-small","input":"Say hello."}',
                b'{"data":[{"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":3}}',
                (Charge("text-embedding-3-small", Units(input=3, requests=1)),),
            ),
            Exchange(
                "error",
                "/v1/chat/completions",
                _ASKED,
                b'{"error":{"message":"m","type":"server_error","code":null}}',
                (),
                error="server_error",
            ),
            Exchange(
                "error in a stream",
                "/v1/chat/completions",
                _ASKED,
                sse(
                    _PLAIN_CHUNK % "Hel",
                    '{"error":{"message":"m","type":"server_error","code":null}}',
                ),
                (),
                EVENTS,
                text=len(sse(_PLAIN_CHUNK % "Hel")),
                error="server_error",
            ),
        ),
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"messages":[]}',
        ),
        **SPEAKS_OPENAI,
    ),
)
