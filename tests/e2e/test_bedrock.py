"""Bedrock's runtime through the running gateway, called by boto3: what it gets, what it pays, what AWS received."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from openai import DefaultHttpxClient, OpenAI
from tests.support import sigv4
from tests.support import standin_bedrock as standin
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps

REGION = "us-east-1"
RUNTIME = f"bedrock-runtime.{REGION}.amazonaws.com"
KEYS = {"access_key_id": "AKIAOFTHETESTS", "secret_access_key": f"{secrets.token_urlsafe(24)}/+="}
NOVA, CLAUDE = "us.amazon.nova-lite-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"
# List prices, USD per million tokens: input, read from the cache, output.
NOVA_PRICES = (Decimal("0.06"), Decimal("0.015"), Decimal("0.24"))
CLAUDE_PRICES = (Decimal("0.25"), Decimal("0"), Decimal("1.25"))
ASKED: list[dict[str, Any]] = [{"role": "user", "content": [{"text": "Say hello."}]}]
GUARDRAIL = {"x-amzn-bedrock-guardrailidentifier": "guard1"}
CAP = {"maxTokens": 20}
SPENDS, CLAMPED, LISTED = "proj_spends", "proj_clamped", "proj_listed"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000"
    "00030001018d1a2c0000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway whose Bedrock is a stand-in, with AWS keys to sign with."""
    server = StandIn(hosts=(RUNTIME,))
    server.start()
    settings: dict[str, dict[str, Any]] = {
        f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
        f"projects.{SPENDS}": {"tenant": "acme", "limits": ["0.0006 usd/total"]},
        f"projects.{CLAMPED}": {
            "tenant": "acme",
            "limits": ["0.0001 usd/total"],
            "on_shortfall": "clamp",
        },
        f"projects.{LISTED}": {"tenant": "acme", "models": ["bedrock/us.amazon.nova-*"]},
        'prices."bedrock/guardrail"': {"input": "0", "output": "0", "request": "0.001"},
        "providers.bedrock": {
            "allow_private": True,
            "ca_file": "provider-ca.pem",
            "connect_to": server.address,
            "hosts": [RUNTIME],
        },
    }
    directory: Path = tmp_path_factory.mktemp("bedrock")
    with open_inside(directory, settings, standin=server) as inside:
        EmbeddedVault(inside.gateway.config.state.directory).set("bedrock", json.dumps(KEYS))
        yield inside
    server.stop()


@pytest.fixture
def inside(shared: Inside) -> Inside:
    shared.standin.clear()
    return shared


def client(inside: Inside, *, project: str = PROJECT, bearer: bool = False) -> Any:
    """boto3 as a workload has it: the proxy in its settings, and keys that are worth nothing. With ``bearer`` it shows the
    gate token as a Bedrock API key."""
    token = inside.token if project == PROJECT else _token(inside, project)
    proxy = f"http://{'' if bearer else f'{project}:{token}@'}{inside.gateway.addresses['proxy']}"
    session = boto3.Session(
        aws_access_key_id="AKIAPLACEHOLDER", aws_secret_access_key="none", region_name=REGION
    )
    config = Config(proxies={"https": proxy}, retries={"total_max_attempts": 1})
    return session.client("bedrock-runtime", config=config, verify=str(inside.ca_file))


def _token(inside: Inside, project: str) -> str:
    made = inside.do(inside.gateway.operations.perform("token_create", {"projects": [project]}))
    return str(made["token"])


def line(inside: Inside) -> dict[str, Any]:
    return inside.lines()[-1]


def usd(prices: tuple[Decimal, Decimal, Decimal], fresh: int, cached: int, output: int) -> Decimal:
    return (fresh * prices[0] + cached * prices[1] + output * prices[2]) / 1_000_000


def signed(received: Received) -> str:
    """Why AWS would refuse what arrived; empty if it would not."""
    assert received.sni == RUNTIME
    return sigv4.problem_of(received, KEYS, REGION)


def test_converse(inside: Inside) -> None:
    """The body goes out as it came and signed anew; what was read from the cache is paid as such."""
    inside.standin.script(
        standin.converse([{"text": "Hello."}], standin.usage(9, 4, cacheReadInputTokens=15))
    )
    answer = client(inside).converse(modelId=NOVA, messages=ASKED, inferenceConfig=CAP)
    assert answer["output"]["message"]["content"] == [{"text": "Hello."}]
    [received] = inside.standin.snapshot()
    assert received.target == "/model/us.amazon.nova-lite-v1%3A0/converse"
    assert received.document() == {"messages": ASKED, "inferenceConfig": CAP}
    assert signed(received) == ""
    assert b"PLACEHOLDER" not in received.everything()
    found = line(inside)
    assert (found["model"], found["charged_by"], found["stream"]) == (NOVA, "usage", False)
    assert found["tokens"] == {"input": 24, "output": 4, "cached": 15}
    assert Decimal(found["cost_usd"]) == usd(NOVA_PRICES, 9, 15, 4)
    assert Decimal(found["held_usd"]) >= Decimal(found["cost_usd"])


def test_converse_stream(inside: Inside) -> None:
    """Each event is at the client before the next was sent."""
    steps = Steps()
    frames = standin.converse_frames(standin.WORDS, standin.usage(9, 3))
    inside.standin.script(standin.streamed(frames, steps))
    steps.release(2)
    events = iter(
        client(inside).converse_stream(modelId=NOVA, messages=ASKED, inferenceConfig=CAP)["stream"]
    )
    assert next(events) == {"messageStart": {"role": "assistant"}}
    for number, word in enumerate(standin.WORDS, start=2):
        assert next(events)["contentBlockDelta"]["delta"] == {"text": word}
        assert len(inside.standin.book[0].sent) == number
        steps.release()
    steps.release_all()
    *_, last = events
    assert last["metadata"]["usage"]["outputTokens"] == 3
    inside.until(lambda gateway: bool(line(inside)["stream"]))
    assert Decimal(line(inside)["cost_usd"]) == usd(NOVA_PRICES, 9, 0, 3)
    assert line(inside)["charged_by"] == "usage"


def test_an_arn_in_the_path(inside: Inside) -> None:
    """Its encoded slashes and colons go out as they came, and AWS would take the signature."""
    inside.standin.script(standin.converse([{"text": "Hello."}], standin.usage(9, 4)))
    arn = f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/{NOVA}"
    client(inside).converse(modelId=arn, messages=ASKED, inferenceConfig=CAP)
    [received] = inside.standin.snapshot()
    encoded = arn.replace(":", "%3A").replace("/", "%2F")
    assert received.target == f"/model/{encoded}/converse"
    assert signed(received) == ""
    assert (line(inside)["model"], Decimal(line(inside)["cost_usd"])) == (
        NOVA,
        usd(NOVA_PRICES, 9, 0, 4),
    )


def test_an_arn_that_hides_the_model(inside: Inside) -> None:
    """It has no price, and a limit in money lets nothing without one through."""
    arn = f"arn:aws:bedrock:{REGION}:123456789012:application-inference-profile/a1b2c3d4e5f6"
    with pytest.raises(ClientError) as caught:
        client(inside).converse(modelId=arn, messages=ASKED, inferenceConfig=CAP)
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert line(inside)["reason"] == "model_unpriced"
    assert inside.standin.snapshot() == []


def test_the_models_of_a_project(inside: Inside) -> None:
    """Its list is asked by the decoded id, which the ARN of a system's profile has as well."""
    inside.standin.always(standin.converse([{"text": "Hello."}], standin.usage(9, 4)))
    bedrock = client(inside, project=LISTED)
    for model in (NOVA, f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/{NOVA}"):
        bedrock.converse(modelId=model, messages=ASKED)
    for model in (CLAUDE, f"arn:aws:bedrock:{REGION}::foundation-model/{CLAUDE}"):
        with pytest.raises(ClientError, match="model_not_allowed"):
            bedrock.converse(modelId=model, messages=ASKED)
    assert len(inside.standin.snapshot()) == 2


def test_a_guardrail(inside: Inside) -> None:
    """Each call with one costs what is configured for it, beside the tokens."""
    inside.standin.script(standin.converse([{"text": "Hello."}], standin.usage(9, 4)))
    client(inside).converse(
        modelId=NOVA,
        messages=ASKED,
        inferenceConfig=CAP,
        guardrailConfig={"guardrailIdentifier": "guard1", "guardrailVersion": "1"},
    )
    assert Decimal(line(inside)["cost_usd"]) == usd(NOVA_PRICES, 9, 0, 4) + Decimal("0.001")


def test_embeddings(inside: Inside) -> None:
    """Titan's, at 0.02 USD per million tokens."""
    answer = json.dumps({"embedding": [0.1], "inputTextTokenCount": 50}).encode()
    reply = standin.ScriptedReply(200, standin.JSON, answer)
    inside.standin.script(standin.Behaviour(reply=reply))
    body = json.dumps({"inputText": "Say hello."})
    client(inside).invoke_model(modelId="amazon.titan-embed-text-v2:0", body=body)
    assert Decimal(line(inside)["cost_usd"]) == Decimal("0.000001")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("guardrail", "beside"), [({}, "0"), (GUARDRAIL, "0.001")])
def test_as_openai(inside: Inside, stream: bool, guardrail: dict[str, str], beside: str) -> None:
    """The SDK of OpenAI, with its base URL at Bedrock. gpt-oss-20b is at 0.07 and 0.30 USD per million tokens. A
    guardrail goes on, and is charged beside."""
    served = {"model": "openai.gpt-oss-20b-1:0", "object": "chat.completion"}
    counts = {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}}
    if stream:
        delta = {"choices": [{"index": 0, "delta": {"content": "Hello."}}], "usage": None}
        events = [{**served, **delta}, {**served, "choices": [], **counts}]
        body: Any = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        body.append(b"data: [DONE]\n\n")
        headers = [("content-type", "text/event-stream")]
    else:
        message = {"role": "assistant", "content": "Hello."}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        body, headers = json.dumps({**served, "choices": choices, **counts}).encode(), standin.JSON
    inside.standin.script(standin.Behaviour(reply=standin.ScriptedReply(200, headers, body)))
    http = DefaultHttpxClient(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    with OpenAI(api_key="none", base_url=f"https://{RUNTIME}/openai/v1", http_client=http) as sdk:
        asked: dict[str, Any] = {
            "model": served["model"],
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_completion_tokens": 20,
            "extra_headers": guardrail,
        }
        if stream:
            chunks = list(sdk.chat.completions.create(**asked, stream=True))
            assert [chunk.choices[0].delta.content for chunk in chunks] == ["Hello."]
        else:
            answer = sdk.chat.completions.create(**asked)
            assert answer.choices[0].message.content == "Hello."
    [received] = inside.standin.snapshot()
    assert signed(received) == ""
    sent = {name.decode().lower(): value.decode() for name, value in received.headers}
    assert guardrail.items() <= sent.items()
    assert Decimal(line(inside)["cost_usd"]) == Decimal("0.00001") + Decimal(beside)


def test_a_tool_call(inside: Inside) -> None:
    use = {"toolUse": {"toolUseId": "t1", "name": "clock", "input": {"zone": "UTC"}}}
    inside.standin.script(standin.converse([use], standin.usage(300, 20)))
    schema = {"json": {"type": "object", "properties": {"zone": {"type": "string"}}}}
    answer = client(inside).converse(
        modelId=NOVA,
        messages=ASKED,
        inferenceConfig=CAP,
        toolConfig={"tools": [{"toolSpec": {"name": "clock", "inputSchema": schema}}]},
    )
    assert answer["stopReason"] == "tool_use"
    assert answer["output"]["message"]["content"] == [use]
    assert Decimal(line(inside)["cost_usd"]) == usd(NOVA_PRICES, 300, 0, 20)


def test_an_image(inside: Inside) -> None:
    inside.standin.script(standin.converse([{"text": "A dot."}], standin.usage(900, 4)))
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    messages = [{"role": "user", "content": [image, {"text": "What is it?"}]}]
    client(inside).converse(modelId=NOVA, messages=messages, inferenceConfig=CAP)
    assert Decimal(line(inside)["held_usd"]) >= usd(NOVA_PRICES, 900, 0, 4)
    assert Decimal(line(inside)["cost_usd"]) == usd(NOVA_PRICES, 900, 0, 4)


def test_invoke_model(inside: Inside) -> None:
    """Claude in its own format; AWS's headers repeat the count."""
    answer = {
        "type": "message",
        "content": [{"type": "text", "text": "Hello."}],
        "usage": {"input_tokens": 11, "output_tokens": 5},
    }
    inside.standin.script(
        standin.Behaviour(
            reply=standin.ScriptedReply(
                200,
                [*standin.JSON, ("x-amzn-bedrock-input-token-count", "11")],
                json.dumps(answer).encode(),
            )
        )
    )
    asked = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    body = json.dumps(asked)
    got = client(inside).invoke_model(modelId=CLAUDE, body=body)
    assert json.loads(got["body"].read()) == answer
    [received] = inside.standin.snapshot()
    assert (received.body, signed(received)) == (body.encode(), "")
    assert Decimal(line(inside)["cost_usd"]) == usd(CLAUDE_PRICES, 11, 0, 5)


def test_invoke_model_with_response_stream(inside: Inside) -> None:
    """The same tokens are counted twice at its end, and paid once."""
    inside.standin.script(standin.streamed([*map(standin.chunk, standin.CLAUDE_STREAM)]))
    body = json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 20,
            "messages": [{"role": "user", "content": "Say hello."}],
        }
    )
    got = client(inside).invoke_model_with_response_stream(modelId=CLAUDE, body=body)
    events = [json.loads(event["chunk"]["bytes"]) for event in got["body"]]
    assert events == list(standin.CLAUDE_STREAM)
    inside.until(lambda gateway: line(inside)["model"] == CLAUDE and line(inside)["stream"])
    assert Decimal(line(inside)["cost_usd"]) == usd(CLAUDE_PRICES, 11, 0, 5)


def test_a_gate_token_as_bedrock_key(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_BEARER_TOKEN_BEDROCK has the gate token, and the proxy's URL no credentials."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", inside.token)
    inside.standin.script(standin.converse([{"text": "Hello."}], standin.usage(9, 4)))
    client(inside, bearer=True).converse(modelId=NOVA, messages=ASKED, inferenceConfig=CAP)
    [received] = inside.standin.snapshot()
    assert signed(received) == ""
    assert inside.token.encode() not in received.everything()


def test_count_tokens_is_free(inside: Inside) -> None:
    inside.standin.script(
        standin.Behaviour(reply=standin.ScriptedReply(200, standin.JSON, b'{"inputTokens":9}'))
    )
    answer = client(inside).count_tokens(modelId=CLAUDE, input={"converse": {"messages": ASKED}})
    assert answer["inputTokens"] == 9
    assert (line(inside)["cost_usd"], line(inside)["charged_by"]) == ("0", "none")


def test_an_error_of_theirs(inside: Inside) -> None:
    """It reaches the SDK as its own class, and costs nothing."""
    inside.standin.script(standin.refused(400, "ValidationException", "messages: too long"))
    bedrock = client(inside)
    with pytest.raises(bedrock.exceptions.ValidationException, match="too long"):
        bedrock.converse(modelId=NOVA, messages=ASKED, inferenceConfig=CAP)
    assert line(inside)["cost_usd"] == "0"


def test_an_error_in_a_stream(inside: Inside) -> None:
    """The status was 200: what was seen is charged, and the line says that it failed."""
    frames = standin.converse_frames(standin.WORDS, standin.usage(9, 3))[:3]
    inside.standin.script(standin.failed(frames, "modelStreamErrorException", "broken"))
    with pytest.raises(EventStreamError, match="broken"):
        list(client(inside).converse_stream(modelId=NOVA, messages=ASKED)["stream"])
    inside.until(lambda gateway: line(inside)["reason"] == "upstream_error")
    assert (line(inside)["decision"], line(inside)["charged_by"]) == ("fail", "estimate")


def test_a_refusal(inside: Inside) -> None:
    """402 is an error of the SDK with our words, and is not tried again."""
    bedrock = client(inside, project=SPENDS)
    with pytest.raises(ClientError) as caught:
        bedrock.converse(modelId=NOVA, messages=ASKED, inferenceConfig={"maxTokens": 100_000})
    found = caught.value.response
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 402
    assert found["Error"]["Code"] == "ServiceQuotaExceededException"
    assert "[tollhouse: budget_exceeded, call " in found["Error"]["Message"]
    assert inside.standin.snapshot() == []


def test_a_lowered_cap(inside: Inside) -> None:
    """The cap is put in where the request has none; AWS would take the signature of that body."""
    inside.standin.script(standin.converse([{"text": "Hello."}], standin.usage(9, 4)))
    client(inside, project=CLAMPED).converse(modelId=NOVA, messages=ASKED)
    [received] = inside.standin.snapshot()
    clamped = line(inside)["clamped"]
    assert clamped > 0
    assert received.document() == {"messages": ASKED, "inferenceConfig": {"maxTokens": clamped}}
    assert signed(received) == ""


def test_the_budget_ends_in_a_stream(inside: Inside) -> None:
    """The client reads whole events, and then an error of ours that says why."""
    steps = Steps()
    words = ["word " * 400] * 12
    frames = standin.converse_frames(words, standin.usage(9, 6_000))
    inside.standin.script(standin.streamed(frames, steps))
    steps.release()
    asked = client(inside, project=SPENDS).converse_stream(modelId=NOVA, messages=ASKED)
    got: list[dict[str, Any]] = []

    def read_on() -> None:
        for event in asked["stream"]:
            got.append(event)
            steps.release()

    with pytest.raises(EventStreamError) as caught:
        read_on()
    assert caught.value.response["Error"]["Code"] == "validationException"
    assert "[tollhouse: budget_exceeded, call " in caught.value.response["Error"]["Message"]
    # 500 tokens each, and the limit is for less than 2,500.
    assert len(got) == 6
    inside.until(lambda gateway: line(inside)["reason"] == "budget_exceeded")
    assert line(inside)["charged_by"] == "estimate"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/model/x%2Fy/converse", 400, "bad_request"),
        ("/model/arn%3Aaws%3Abedrock%3Ax%2F..%2F..%2Fy/converse", 400, "bad_request"),
        ("/model/arn%3Aaws%3Abedrock%3Ax%2F%2Fy/converse", 400, "bad_request"),
        ("/model/arn%3Aaws%3Abedrock%3Ax%252Fy/converse", 403, "path_not_allowed"),
        ("/model/arn%3Aaws%3Abedrock%3Ax%2Fy%2E%2E/converse", 400, "bad_request"),
        ("/model/arn%3Aaws%3Abedrock%3Ax%5Cy/converse", 400, "bad_request"),
        ("/model%2Fx/converse", 400, "bad_request"),
        ("/model/x/converse%2Fy", 400, "bad_request"),
        ("/model/x/converse/", 403, "path_not_allowed"),
        ("/model/x/invoke-with-bidirectional-stream", 403, "path_not_allowed"),
        ("/guardrail/g/version/1/apply", 403, "path_not_allowed"),
        ("/foundation-models", 403, "path_not_allowed"),
    ],
)
def test_a_path_that_is_not_open(inside: Inside, path: str, status: int, reason: str) -> None:
    import httpx2

    url = httpx2.URL(f"https://{RUNTIME}").copy_with(raw_path=path.encode())
    with httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as http:
        answer = http.post(url, json={"messages": ASKED})
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (status, reason)
    assert inside.standin.snapshot() == []
