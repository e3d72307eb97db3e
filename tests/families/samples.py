"""What each family's contract is tried with. A new family adds its own `Samples`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.families.tiny import TINY

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.azure import AZURE
from tollhouse.families.base import Dialect, Family, Headers, Verdict
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.cohere import COHERE
from tollhouse.families.google import GOOGLE
from tollhouse.families.mistral import MISTRAL
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units
from tollhouse.families.vertex import VERTEX

EVENTS: Headers = (("content-type", "text/event-stream"),)
JSON: Headers = (("content-type", "application/json"),)


@dataclass(frozen=True)
class Exchange:
    """One request, and what its provider answers. ``passed`` is what the client gets, if not the same. ``text`` says at which
    byte of the answer its first text has come whole; None for an answer that shows none on its way."""

    name: str
    path: str
    request: bytes
    answer: bytes
    charges: tuple[Charge, ...]
    headers: Headers = JSON
    passed: bytes | None = None
    text: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Samples:
    family: Family
    open: tuple[tuple[str, str], ...]
    """Method and path of one request for each route."""
    host: str = ""
    exchanges: tuple[Exchange, ...] = ()
    malformed: tuple[bytes, ...] = ()
    """Requests to the first exchange's path that two parsers could read differently."""
    verdicts: tuple[tuple[int, bytes, Verdict | None], ...] = ()
    """A status, an error's body, and what it says of the key."""
    dialect: Dialect = field(default_factory=Dialect)


def _sse(*events: str) -> bytes:
    return b"".join(f"data: {event}\n\n".encode() for event in events)


_CHUNK = (
    '{"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"%s"}}],"usage":null}'
)
_PLAIN_CHUNK = _CHUNK.replace(',"usage":null', "")
_COUNTS = (
    '{"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}'
)
_ASKED = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}],"stream":true,"max_tokens":20}'
_OPENAI_BROKE = b'{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}'

_SPEAKS_OPENAI: dict[str, Any] = {
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
                _sse(_CHUNK % "Hel", _CHUNK % "lo.", _COUNTS, "[DONE]"),
                (Charge("gpt-4o-2024-08-06", Units(input=9, output=4, requests=1)),),
                EVENTS,
                passed=_sse(_PLAIN_CHUNK % "Hel", _PLAIN_CHUNK % "lo.", "[DONE]"),
                text=len(_sse(_CHUNK % "Hel")),
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
                _sse(
                    _PLAIN_CHUNK % "Hel",
                    '{"error":{"message":"m","type":"server_error","code":null}}',
                ),
                (),
                EVENTS,
                text=len(_sse(_PLAIN_CHUNK % "Hel")),
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
        **_SPEAKS_OPENAI,
    ),
    Samples(
        TINY,
        (("POST", "/talk"), ("GET", "/parrots"), ("GET", "/parrots/parrot-1")),
        exchanges=(
            Exchange(
                "whole",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello"}',
                b'{"t":"hello","in":5,"out":2,"by":"parrot-1.2"}',
                (Charge("parrot-1.2", Units(input=5, output=2, requests=1)),),
            ),
            Exchange(
                "live",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello","live":true}',
                b'{"t":"hel"}\n{"t":"lo"}\n{"in":5,"out":2,"by":"parrot-1.2"}\n',
                (Charge("parrot-1.2", Units(input=5, output=2, requests=1)),),
                text=len(b'{"t":"hel"}\n'),
            ),
            Exchange(
                "error",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello","live":true}',
                b'{"t":"hel"}\n{"oops":"internal"}\n',
                (),
                text=len(b'{"t":"hel"}\n'),
                error="internal",
            ),
        ),
        malformed=(b"", b"[]", b'{"m":"a","m":"b"}', b"{}"),
        verdicts=(
            (403, b'{"oops":"broke"}', "no_money"),
            (403, b'{"oops":"other"}', None),
            (401, b"", "refused"),
        ),
    ),
    Samples(AZURE, (("GET", "/openai/v1/models"), ("GET", "/openai/models/m")), **_SPEAKS_OPENAI),
    Samples(
        ANTHROPIC,
        (("GET", "/v1/models"), ("GET", "/v1/models/claude-fable-5")),
        verdicts=(
            (
                400,
                b'{"type":"error","error":{"message":"Your credit balance is too low to access"}}',
                "no_money",
            ),
            (429, b'{"error":{"type":"billing_error"}}', "no_money"),
            (400, b'{"error":{"type":"invalid_request_error"}}', None),
            (401, b"", "refused"),
        ),
    ),
    Samples(
        GOOGLE,
        (("GET", "/v1beta/models"), ("GET", "/v1beta/models/gemini-x"), ("GET", "/v1/models")),
        verdicts=(
            (400, b'{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}', "refused"),
            (400, b'[{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}]', "refused"),
            (429, b'{"error":{"message":"Your prepayment credits are depleted."}}', "no_money"),
            (429, b'{"error":{"message":"slow down"}}', None),
        ),
    ),
    Samples(VERTEX, (("GET", "/v1beta1/publishers/google/models"),)),
    Samples(
        BEDROCK,
        (("GET", "/foundation-models"),),
        host="bedrock.us-east-1.amazonaws.com",
        verdicts=(
            (
                403,
                b'{"message":"Authentication failed: Please make sure your API Key is valid."}',
                "refused",
            ),
            (403, b'{"Message":"User is not authorized"}', None),
        ),
    ),
    Samples(COHERE, (("GET", "/v1/models"),), verdicts=((498, b"", "refused"),)),
    Samples(MISTRAL, (("GET", "/v1/models"),), verdicts=((402, b"", "no_money"),)),
)
