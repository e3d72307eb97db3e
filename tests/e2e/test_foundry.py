"""Claude at Foundry through the running gateway, by Anthropic's own client for it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AnthropicFoundry, AsyncAnthropicFoundry
from tests.families.samples.anthropic import PING, SERVED, STOP, delta, event, message, start, text
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road
from tests.support.spoken import OF_JSON, Spoken, open_spoken, says, spoken_by, streams

from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps, reply

RESOURCE = "contoso"
HOST = f"{RESOURCE}.services.ai.azure.com"
DEPLOYMENT, MODEL = "my-claude", "claude-sonnet-5"
ASKED: dict[str, Any] = {
    "model": DEPLOYMENT,
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Who pays at the tollhouse?"}],
}
USAGE = {"input_tokens": 1000, "output_tokens": 100}
# claude-sonnet-5's list price: 2 USD and 10 USD per million tokens.
COST = Decimal("0.003")
BLOCK = anthropic.types.RawContentBlockStartEvent.model_validate(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
)
FRAMES = [
    start({"input_tokens": 1000, "output_tokens": 1}),
    PING,
    event(BLOCK),
    text("The "),
    text("traveller."),
    event(anthropic.types.RawContentBlockStopEvent(type="content_block_stop", index=0)),
    delta({"output_tokens": 100}),
    STOP,
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    settings = {"providers.azure": {"models": {DEPLOYMENT: MODEL}}}
    with open_spoken(tmp_path_factory.mktemp("foundry"), "azure", HOST, settings) as road:
        yield road


@pytest.fixture
def spoken(shared: Road) -> Iterator[Spoken]:
    with spoken_by(shared) as mine:
        yield mine


def foundry(spoken: Spoken, **options: Any) -> AnthropicFoundry:
    given = {"resource": RESOURCE, "http_client": spoken.through, **options}
    if "azure_ad_token_provider" not in given:
        given.setdefault("api_key", PLACEHOLDER)
    return AnthropicFoundry(max_retries=0, **given)


def straight(spoken: Spoken) -> AnthropicFoundry:
    return AnthropicFoundry(
        base_url=f"{spoken.direct_url}/anthropic", api_key=REAL_KEY, http_client=spoken.direct
    )


def assert_clean(received: Received, spoken: Spoken) -> None:
    """The real key came once, in Claude's slot, and nothing of the workload's or ours."""
    everything = received.everything()
    assert received.get_all("x-api-key") == [REAL_KEY]
    assert received.get_all("api-key") == received.get_all("authorization") == []
    assert everything.count(REAL_KEY.encode()) == 1
    for word in (b"gate_", PLACEHOLDER.encode(), spoken.road.project.encode(), b"x-tollhouse"):
        assert word not in everything.lower()


def test_plain(spoken: Spoken) -> None:
    """The answer is that of Foundry asked directly; the line has the model behind the deployment."""
    spoken.script(says(message(USAGE)), 2)
    got = foundry(spoken).messages.create(**ASKED)
    assert got == straight(spoken).messages.create(**ASKED)
    received = spoken.standin.wait_count(2)[0]
    assert received.target == "/anthropic/v1/messages"
    assert received.document() == ASKED
    assert received.get("anthropic-version")
    assert_clean(received, spoken)
    [line] = spoken.charged()
    assert (line["provider"], line["model"], line["model_served"]) == ("azure", MODEL, SERVED)
    assert (line["charged_by"], Decimal(line["cost_usd"])) == ("usage", COST)


@pytest.mark.parametrize("slot", ["azure_ad_token_provider", "api_key"])
def test_a_credential_in_the_workloads_place_does_not_leave(spoken: Spoken, slot: str) -> None:
    """A token of Entra stands in Authorization, a key in x-api-key and api-key at once, and either in the query."""
    spoken.script(says(message(USAGE)))
    mine: Any = "of-the-workload" if slot == "api_key" else lambda: "of-the-workload"
    query = {"api-key": "of-the-workload", "Authorization": "Bearer of-the-workload"}
    foundry(spoken, **{slot: mine}).messages.create(**ASKED, extra_query=query)
    [received] = spoken.standin.wait_count(1)
    assert_clean(received, spoken)
    assert b"of-the-workload" not in received.everything()


def test_the_token_as_key_at_the_base_url(spoken: Spoken) -> None:
    """The client sends it in two headers."""
    spoken.script(says(message(USAGE)))
    base = f"{spoken.road.base_url.removesuffix('/v1')}/azure/anthropic"
    with AnthropicFoundry(base_url=base, api_key=spoken.road.token, max_retries=0) as client:
        client.messages.create(**ASKED)
    [received] = spoken.standin.wait_count(1)
    assert received.target == "/anthropic/v1/messages"
    assert_clean(received, spoken)
    spoken.charged()


def test_stream(spoken: Spoken) -> None:
    """The SDK's own reader has the text and the final count, and nothing is added to the request."""
    spoken.script(streams(FRAMES))
    with foundry(spoken).messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == "The traveller."
        assert stream.get_final_message().usage.output_tokens == 100
    [received] = spoken.standin.wait_count(1)
    assert received.document() == {**ASKED, "stream": True}
    assert_clean(received, spoken)
    [line] = spoken.charged()
    assert (line["charged_by"], Decimal(line["cost_usd"])) == ("usage", COST)


def test_a_compressed_answer(spoken: Spoken) -> None:
    """It is read as any other."""
    body = gzip.compress(json.dumps(message(USAGE)).encode())
    spoken.script(reply(200, body, [*OF_JSON, ("content-encoding", "gzip")]))
    assert foundry(spoken).messages.create(**ASKED).usage.output_tokens == 100
    assert Decimal(spoken.charged()[0]["cost_usd"]) == COST


async def test_async(shared: Road) -> None:
    """The async client does the same: plain, streamed, an error of Foundry's, and the budget's refusal."""
    with spoken_by(shared) as spoken:
        spoken.standin.script(
            says(message(USAGE)), streams(FRAMES), says({"error": {"code": "404"}}, 404)
        )
        through = httpx2.AsyncClient(
            proxy=spoken.road.proxy_url, verify=spoken.road.context, trust_env=False
        )
        async with through, asynchronous(through) as client:
            answer = await client.messages.create(**ASKED)
            async with client.beta.messages.stream(**ASKED, betas=["a-beta"]) as stream:
                said = "".join([piece async for piece in stream.text_stream])
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(**ASKED)
        assert (answer.usage.output_tokens, said) == (100, "The traveller.")
        received = spoken.standin.wait_count(3)[1]
        assert received.get("anthropic-beta") == "a-beta"
        assert_clean(received, spoken)
        costs = [Decimal(line["cost_usd"]) for line in spoken.charged(3)]
        assert costs == [COST, COST, Decimal(0)]
    with spoken_by(shared, limits=["0.0001 usd/day"]) as spoken:
        through = httpx2.AsyncClient(
            proxy=spoken.road.proxy_url, verify=spoken.road.context, trust_env=False
        )
        async with through, asynchronous(through) as client:
            with pytest.raises(anthropic.PaymentRequiredError, match="budget_exceeded"):
                await client.messages.create(**ASKED)
        assert spoken.standin.snapshot() == []


def asynchronous(through: httpx2.AsyncClient) -> AsyncAnthropicFoundry:
    async def token() -> str:
        return PLACEHOLDER

    return AsyncAnthropicFoundry(
        resource=RESOURCE, azure_ad_token_provider=token, http_client=through, max_retries=0
    )


def test_a_search_has_claudes_price(spoken: Spoken) -> None:
    """Beside the tokens, and it is named for what it is."""
    counted = {**USAGE, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}
    spoken.script(says(message(counted)))
    tool: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    foundry(spoken).messages.create(**ASKED, tools=[tool])
    [line] = spoken.charged()
    assert Decimal(line["cost_usd"]) == COST + Decimal("0.02")
    assert [item["model"] for item in line["charges"]] == [SERVED, "web_search"]


def test_to_count_tokens_is_free(spoken: Spoken) -> None:
    """By the plain and by the beta client."""
    spoken.script(says({"input_tokens": 14}), 2)
    asked = {"model": DEPLOYMENT, "messages": ASKED["messages"]}
    assert foundry(spoken).messages.count_tokens(**asked).input_tokens == 14
    assert foundry(spoken).beta.messages.count_tokens(**asked).input_tokens == 14
    for received in spoken.standin.wait_count(2):
        assert received.target.partition("?")[0] == "/anthropic/v1/messages/count_tokens"
    assert [line["charged_by"] for line in spoken.charged(2)] == ["none", "none"]


def test_a_file_is_its_tenants(shared: Road) -> None:
    """Another tenant can neither see it nor name it in a message, and nobody lists those of all."""
    with spoken_by(shared) as spoken:
        made = {"id": "file_011", "type": "file", "filename": "a.txt", "mime_type": "text/plain"}
        spoken.script(says({**made, "size_bytes": 1, "created_at": "2026-11-28T00:00:00Z"}), 2)
        files = foundry(spoken).beta.files
        assert files.upload(file=("a.txt", b"a", "text/plain")).id == "file_011"
        assert files.retrieve_metadata("file_011").id == "file_011"
        assert_clean(spoken.standin.wait_count(2)[0], spoken)
        spoken.charged(2)
    with spoken_by(shared, tenant="other") as spoken:
        client = foundry(spoken)
        with pytest.raises(anthropic.PermissionDeniedError, match="object_not_yours"):
            client.beta.files.retrieve_metadata("file_011")
        document = {"type": "document", "source": {"type": "file", "file_id": "file_011"}}
        said: Any = [{"role": "user", "content": [document]}]
        with pytest.raises(anthropic.PermissionDeniedError, match="object_not_yours"):
            client.beta.messages.create(**{**ASKED, "messages": said})
        with pytest.raises(anthropic.PermissionDeniedError, match="object_not_yours"):
            client.beta.files.list()
        assert spoken.standin.snapshot() == []


@pytest.mark.parametrize(
    ("status", "error", "raised"),
    [
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "told"}},
            anthropic.BadRequestError,
        ),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "told"}},
            anthropic.NotFoundError,
        ),
        (429, {"error": {"code": "429", "message": "told"}}, anthropic.RateLimitError),
    ],
)
def test_an_error_of_foundrys_passes(
    spoken: Spoken, status: int, error: dict[str, Any], raised: type[anthropic.APIStatusError]
) -> None:
    """In its own words, be they Anthropic's or Azure's, and it costs nothing."""
    spoken.standin.always(says(error, status))
    with pytest.raises(raised) as caught:
        foundry(spoken).messages.create(**ASKED)
    assert caught.value.body == error
    assert Decimal(spoken.charged()[0]["cost_usd"]) == 0


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/v1/messages/batches", "path_not_allowed"),
        ("/v1/models", "path_not_allowed"),
        ("/v1/%2e%2e/messages", "bad_request"),
        ("/v1/organizations/api_keys", "endpoint_forbidden"),
    ],
)
def test_what_is_closed(spoken: Spoken, path: str, reason: str) -> None:
    """It does not leave, and is refused in Anthropic's form."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        foundry(spoken).post(path, body={}, cast_to=object)
    assert caught.value.response.headers["x-tollhouse-reason"] == reason
    assert caught.value.body["type"] == "error"  # type: ignore[index]
    assert spoken.standin.snapshot() == []


def test_refusals(shared: Road) -> None:
    """The budget's and the list of models', which goes by the model behind the deployment. Both in Anthropic's form."""
    with spoken_by(shared, limits=["0.0001 usd/day"]) as spoken:
        with pytest.raises(anthropic.PaymentRequiredError, match="budget_exceeded") as caught:
            foundry(spoken).messages.create(**ASKED)
        assert caught.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
        assert spoken.standin.snapshot() == []
    with spoken_by(shared, models=["gpt-4o"]) as spoken:
        with pytest.raises(anthropic.PermissionDeniedError, match="model_not_allowed"):
            foundry(spoken).messages.create(**ASKED)
        assert spoken.standin.snapshot() == []
    with spoken_by(shared, models=[MODEL]) as spoken:
        spoken.script(says(message(USAGE)))
        foundry(spoken).messages.create(**ASKED)


def test_the_budget_ends_in_the_middle_of_a_stream(shared: Road) -> None:
    """The SDK raises its own error behind the text that came."""
    with spoken_by(shared, limits=["0.05 usd/day"]) as spoken:
        steps = Steps()
        steps.release(2)
        frames = streams([*FRAMES[:3], *[text(" toll" * 400)] * 40, *FRAMES[5:]])
        spoken.standin.script(replace(frames, steps=steps))
        # Without a cap, as no client of Anthropic's own sends it: the hold grows with the answer.
        uncapped = {key: value for key, value in ASKED.items() if key != "max_tokens"}
        stream = foundry(spoken).post(
            "/v1/messages",
            body={**uncapped, "stream": True},
            cast_to=anthropic.types.Message,
            stream=True,
            stream_cls=anthropic.Stream[anthropic.types.RawMessageStreamEvent],
        )
        seen = 0

        def read() -> None:
            nonlocal seen
            for told in stream:
                seen += told.type == "content_block_delta"
                steps.release(1)

        with pytest.raises(anthropic.APIStatusError, match="budget_exceeded") as caught:
            read()
        steps.release_all()
        assert caught.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
        [line] = spoken.charged()
        assert (line["reason"], line["charged_by"]) == ("budget_exceeded", "estimate")
        # A frame has 500 tokens of 10 micro-dollars each. The provider is two ahead of what is read.
        assert 1 <= seen <= 13
        assert 0 < Decimal(line["cost_usd"]) < Decimal("0.066")
