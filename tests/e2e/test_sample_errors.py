"""Errors of each provider through a running gateway, plain and gzipped, by a status and under 200: the client gets the provider's
bytes, and the call costs nothing. Errors behind text are in `test_samples`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.families.samples.kit import JSON
from tests.support.sampled import (
    CASES,
    Case,
    Gateways,
    asked_of,
    coded,
    cut,
    open_gateways,
    operation_of,
)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with open_gateways(tmp_path_factory.mktemp("samples")) as opened:
        yield opened


def _error(**fields: Any) -> bytes:
    return json.dumps({"error": fields}).encode()


OF_OPENAI = _error(message="m", type="invalid_request_error", param=None, code=None)
ERRORS: dict[str, list[tuple[int, bytes]]] = {
    "openai": [(400, OF_OPENAI), (500, _error(message="m", type="server_error", code=None))],
    "azure": [
        (400, _error(code="content_filter", message="m", innererror={"code": "Filtered"})),
        (404, _error(code="DeploymentNotFound", message="m")),
    ],
    "anthropic": [
        (
            400,
            b'{"type":"error","error":{"type":"invalid_request_error","message":"m"},"request_id":"r"}',
        ),
        (
            529,
            b'{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r"}',
        ),
    ],
    "gemini": [
        (400, _error(code=400, message="m", status="INVALID_ARGUMENT")),
        (503, b"[" + _error(code=503, message="m", status="UNAVAILABLE") + b"]"),
    ],
    "vertex": [
        (400, _error(code=400, message="m", status="INVALID_ARGUMENT")),
        (503, b"[" + _error(code=503, message="m", status="UNAVAILABLE") + b"]"),
    ],
    "bedrock": [(400, b'{"message":"m"}'), (424, b'{"message":"m","originalStatusCode":500}')],
    "cohere": [(422, b'{"id":"i","message":"m"}'), (503, b'{"id":"i","message":"m"}')],
    "mistral": [
        (
            422,
            b'{"object":"error","message":{"detail":[]},"type":"invalid_request_error","param":null,"code":null}',
        ),
        (503, b'{"object":"error","message":"m","type":"x","param":null,"code":"3505"}'),
    ],
    "groq": [(413, OF_OPENAI), (498, _error(message="m", type="capacity_exceeded"))],
    "deepseek": [(422, OF_OPENAI), (503, OF_OPENAI)],
    "xai": [(400, b'{"code":"invalid-argument","error":"m"}'), (503, OF_OPENAI)],
    "openrouter": [(400, _error(code=400, message="m")), (502, _error(code=502, message="m"))],
    "together": [
        (400, b'{"id":"i",' + OF_OPENAI[1:]),
        (503, b'{"id":"i",' + OF_OPENAI[1:]),
    ],
    "fireworks": [(400, OF_OPENAI), (503, OF_OPENAI)],
    "perplexity": [(400, _error(message="m", type="bad_request", code=400)), (500, OF_OPENAI)],
    "": [(400, b'{"oops":"internal"}')],
}
"""What each provider sends for an error: PROVIDERS.md. A status that says something of the key is in the tests of keys."""
UNDER_200 = [name for name in ERRORS if name != "bedrock"]
"""Bedrock tells an error by its status, or by a frame."""


def _asks(provider: str) -> list[Case]:
    """A request for a whole answer, and one for a stream, as far as there are samples of them."""
    found: dict[bool, Case] = {}
    for samples, exchange in CASES:
        if samples.provider == provider and operation_of(samples, exchange).metered:
            asked = asked_of(samples, exchange)
            if asked.model:
                found.setdefault(asked.stream, (samples, exchange))
    return list(found.values())


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize("provider", ERRORS)
def test_an_error_status(gateways: Gateways, provider: str, coding: str) -> None:
    """Costs nothing, whatever was asked; the client has it as the provider sent it."""
    for case in _asks(provider):
        for status, body in ERRORS[provider]:
            answer, headers = coded(body, JSON, coding)
            got, line = gateways.call(case, cut(answer, len(answer) // 3 + 1), headers, status)
            assert (got.status_code, got.content) == (status, body)
            assert (line["status"], line["charged_by"], line["cost_usd"]) == (status, "none", "0")
            assert line["tokens"] == {}


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize("provider", UNDER_200)
def test_an_error_under_200(gateways: Gateways, provider: str, coding: str) -> None:
    """As JSON, whatever was asked for: the same."""
    for case in _asks(provider):
        for _, body in ERRORS[provider]:
            answer, headers = coded(body, JSON, coding)
            got, line = gateways.call(case, cut(answer, len(answer) // 3 + 1), headers)
            assert (got.status_code, got.content) == (200, body)
            assert (line["charged_by"], line["cost_usd"]) == ("none", "0"), line
            assert line["reason"] == "upstream_error"


CUT_SHORT = [
    (samples, exchange)
    for samples, exchange in CASES
    # The event of a response that failed shows its text once more.
    if exchange.error and exchange.text and not exchange.name.startswith("failed response")
]


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize(
    "case", CUT_SHORT, ids=[f"{s.provider or s.family.name}: {e.name}" for s, e in CUT_SHORT]
)
def test_a_stream_that_is_an_error_alone(gateways: Gateways, case: Case, coding: str) -> None:
    """A sample of an error behind text, without the text: it costs nothing."""
    samples, exchange = case
    error = exchange.answer[exchange.text :]
    answer, headers = coded(error, exchange.headers, coding)
    got, line = gateways.call((samples, exchange), cut(answer, len(answer) // 3 + 1), headers)
    assert (got.status_code, got.content) == (200, error)
    assert (line["charged_by"], line["cost_usd"]) == ("none", "0"), line
    assert line["reason"] == "upstream_error"
