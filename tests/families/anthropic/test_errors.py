"""Our errors, as Anthropic's SDK raises them."""

from __future__ import annotations

import json

import anthropic
import httpx2
import pytest

from tollhouse.denial import REASONS, Denial
from tollhouse.families.anthropic import ANTHROPIC

_CLASSES = {
    400: (anthropic.BadRequestError, "invalid_request_error"),
    401: (anthropic.AuthenticationError, "authentication_error"),
    402: (anthropic.PaymentRequiredError, "billing_error"),
    403: (anthropic.PermissionDeniedError, "permission_error"),
    429: (anthropic.RateLimitError, "rate_limit_error"),
    503: (anthropic.ServiceUnavailableError, "api_error"),
}


@pytest.mark.parametrize("code", REASONS)
def test_the_sdk_raises_its_own_class(code: str) -> None:
    """With our text. None is the provider's word for its own load."""
    denial = Denial(code, "because")
    body = ANTHROPIC.error_body(denial, "call_7")

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "application/json"}
        return httpx2.Response(denial.status, content=body, headers=headers)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(api_key="k", http_client=http, max_retries=0)
    with pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(model="m", max_tokens=5, messages=[])
    kind = json.loads(body)["error"]["type"]
    assert kind != "overloaded_error"
    if denial.status in _CLASSES:
        assert (type(raised.value), kind) == _CLASSES[denial.status]
    assert f"[tollhouse: {code}, call call_7]" in str(raised.value)


def test_the_event_that_ends_a_stream() -> None:
    """It is called ``error``, and its reader raises the same."""
    event = ANTHROPIC.error_event(Denial("budget_exceeded"), "call_7")

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, content=event, headers=headers)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(api_key="k", http_client=http, max_retries=0)
    stream = client.messages.create(model="m", max_tokens=5, messages=[], stream=True)
    with pytest.raises(anthropic.APIStatusError) as raised:
        list(stream)
    assert raised.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
