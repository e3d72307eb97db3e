"""Azure's samples: OpenAI's and Claude's, at Azure's paths, and the chunks that only Azure sends."""

from __future__ import annotations

from dataclasses import replace

from tests.families.samples import anthropic, openai
from tests.families.samples.kit import EVENTS, Exchange, Samples, sse

from tollhouse.families.azure import AZURE
from tollhouse.families.azure.routes import OF_DEPLOYMENT
from tollhouse.families.units import Charge, Units

_OF_OPENAI = openai.SAMPLES[0]
_OF_CLAUDE = anthropic.SAMPLES[0]
_MODEL = "gpt-4o-2024-08-06"
_COUNTED = (Charge(_MODEL, Units(input=9, output=4, requests=1)),)
_ASKED = b'{"messages":[{"role":"user","content":"Say hello."}],"stream":true,"max_tokens":20}'
_FILTER = '{"choices":[],"model":"","object":"","prompt_filter_results":[{"prompt_index":0}],"usage":null}'
_PLAIN_FILTER = _FILTER.replace(',"usage":null', "")
_ANNOTATION = '{"choices":[{"content_filter_offsets":{"check_offset":4},"finish_reason":null,"index":0}],"model":"","usage":null}'
_PLAIN_ANNOTATION = _ANNOTATION.replace(',"usage":null', "")
_TEXT = '{"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"Hello."}}],"usage":null}'
_PLAIN_TEXT = _TEXT.replace(',"usage":null', "")
_COUNTS = (
    '{"model":"gpt-4o-2024-08-06","choices":%s,"usage":{"prompt_tokens":9,"completion_tokens":4}}'
)


_DEPLOYMENTS = {"search": "gpt-4o-search-preview"}
"""The deployments whose name says what their model is. The body's model counts for nothing."""


def at_azure(path: str, deployment: str = "d-1") -> str:
    """OpenAI's path, as one of a deployment if it can be one."""
    name = path.removeprefix("/v1/")
    # The endpoints of images have one route.
    of_deployment = name in (*OF_DEPLOYMENT, "images/variations")
    return f"/openai/deployments/{deployment}/{name}" if of_deployment else f"/openai/{name}"


def at_foundry(path: str) -> bool:
    """Whether Foundry has this path of Anthropic's, or nobody may open it."""
    known = ("/v1/files", "/v1/skills", "/v1/organizations", "/v1/oauth")
    return path in ("/v1/messages", "/v1/messages/count_tokens") or path.startswith(known)


def stream(name: str, choices: str, path: str) -> Exchange:
    return Exchange(
        name,
        path,
        _ASKED,
        sse(_FILTER, _TEXT, _ANNOTATION, _COUNTS % choices, "[DONE]"),
        _COUNTED,
        EVENTS,
        passed=sse(_PLAIN_FILTER, _PLAIN_TEXT, _PLAIN_ANNOTATION, "[DONE]"),
        text=len(sse(_FILTER, _TEXT)),
        query="api-version=2024-10-21",
    )


_CHAT = "/openai/deployments/d-1/chat/completions"

SAMPLES = (
    Samples(
        AZURE,
        tuple(
            (method, place)
            for method, path in _OF_OPENAI.open
            for place in (f"/openai{path}", at_azure(path))
        )
        + tuple(
            (method, f"/anthropic{path}") for method, path in _OF_CLAUDE.open if at_foundry(path)
        ),
        sockets=(
            "/openai/v1/realtime?model=a",
            "/openai/realtime?deployment=a",
            "/openai/responses",
        ),
        provider="azure",
        exchanges=(
            stream("a filter, annotations", "[]", _CHAT),
            stream("counts beside an empty delta", '[{"index":0,"delta":{}}]', _CHAT),
            *(
                replace(
                    exchange,
                    name=f"{exchange.name} of a deployment",
                    path=at_azure(exchange.path, _DEPLOYMENTS.get(exchange.name, "d-1")),
                )
                for exchange in _OF_OPENAI.exchanges
            ),
            *(
                replace(exchange, path=f"/openai{exchange.path}")
                for exchange in _OF_OPENAI.exchanges
            ),
            *(
                replace(
                    exchange,
                    name=f"Claude's {exchange.name}",
                    path=f"/anthropic{exchange.path}",
                )
                for exchange in _OF_CLAUDE.exchanges
                if at_foundry(exchange.path)
            ),
        ),
        malformed=(
            b"",
            b"[]",
            b'{"model":"m","model":"n"}',
            b'{"model":"m","Model":"n"}',
            b'{"n":1,"n":2}',
        ),
        dialect=_OF_OPENAI.dialect,
        verdicts=(
            (401, b'{"error":{"code":"401","message":"Access denied"}}', "refused"),
            *openai.SPEAKS_OPENAI["verdicts"],
        ),
    ),
)
