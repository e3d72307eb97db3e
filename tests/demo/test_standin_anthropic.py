"""The stand-in as Anthropic, asked by Anthropic's SDK without any gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from tollhouse.demo import standin_anthropic
from tollhouse.demo.standin import StandIn

KEY = "sk-ant-test"
ASKED: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "Hello"}],
}


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(key=KEY, tls=False) as running:
        yield running


def _client(standin: StandIn, **headers: str) -> Anthropic:
    """The SDK with its key as x-api-key, as a gateway sends it."""

    def as_gateway(request: httpx2.Request) -> None:
        del request.headers["authorization"]
        request.headers["host"] = "api.anthropic.com"
        request.headers.update({"x-api-key": KEY, **headers})

    http = httpx2.Client(trust_env=False, event_hooks={"request": [as_gateway]})
    return Anthropic(
        api_key="no", base_url=f"http://{standin.address}", http_client=http, max_retries=0
    )


def test_plain_and_streamed_are_one_answer(standin: StandIn) -> None:
    """The cap ends it; its count is a token for each word."""
    client = _client(standin)
    plain = client.messages.create(**ASKED)
    with client.messages.stream(**ASKED) as stream:
        streamed = stream.get_final_message()
    assert plain.content[0].text == streamed.content[0].text == "The toll is paid,"  # type: ignore[union-attr]
    assert plain.stop_reason == streamed.stop_reason == "max_tokens"
    # 3 for the prompt, 4 for the message, 2 for its 5 bytes.
    assert (plain.usage.input_tokens, plain.usage.output_tokens) == (9, 4)
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (9, 4)
    assert standin_anthropic.usage(ASKED) == {"input_tokens": 9, "output_tokens": 4}


def test_what_is_free(standin: StandIn) -> None:
    """Models and a count of tokens."""
    client = _client(standin)
    assert [model.id for model in client.models.list()] == list(standin_anthropic.MODELS)
    counted = client.messages.count_tokens(model=ASKED["model"], messages=ASKED["messages"])
    assert counted.input_tokens == 9


def test_it_believes_nothing(standin: StandIn) -> None:
    """A wrong key, a request without a cap and an unknown path are Anthropic's errors."""
    with pytest.raises(anthropic.AuthenticationError):
        _client(standin, **{"x-api-key": "sk-wrong"}).messages.create(**ASKED)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Field required"):
        _client(standin).post("/v1/messages", body={"model": "m"}, cast_to=httpx2.Response)
    with pytest.raises(anthropic.NotFoundError):
        _client(standin).get("/v1/complete", cast_to=httpx2.Response)
