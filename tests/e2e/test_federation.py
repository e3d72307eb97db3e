"""Credentials that are exchanged for OpenBao's signed tokens, through the running gateway and with real SDKs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic import DefaultHttpxClient as AnthropicHttp
from openai import DefaultHttpxClient, InternalServerError, OpenAI
from tests.support.exchange_server import ExchangeServer, exchange_server
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao import POLICY
from tests.support.token_endpoint import says_json

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

AZURE, VERTEX = "ours.openai.azure.com", "europe-west4-aiplatform.googleapis.com"
BEDROCK = "bedrock.eu-west-1.amazonaws.com"
HOSTS = ("api.openai.com", "api.anthropic.com", AZURE, VERTEX, BEDROCK)
AUDIENCE = "https://tollhouse.test"
GUID = "00000000-0000-4000-8000-00000000000a"
ACCOUNT = "caller@project.iam.gserviceaccount.com"
PARAMETERS: dict[str, dict[str, str]] = {
    "openai": {"identity_provider_id": "idp_1", "service_account_id": "sa_1"},
    "anthropic": {
        "federation_rule_id": "fdrl_1",
        "organization_id": GUID,
        "service_account_id": "svac_1",
    },
    "azure": {"tenant_id": GUID, "client_id": GUID},
    "vertex": {
        "project_number": "12",
        "pool": "pool",
        "pool_provider": "tollhouse",
        "service_account": ACCOUNT,
    },
    "bedrock": {"role_arn": "arn:aws:iam::123456789012:role/caller", "region": "eu-west-1"},
}
HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def exchanges() -> Iterator[ExchangeServer]:
    with exchange_server() as server:
        yield server


@pytest.fixture(scope="module")
def ahead() -> list[float]:
    """By how many seconds the gateway's clock is ahead: one number."""
    return [0.0]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, exchanges: ExchangeServer, ahead: list[float]
) -> Iterator[Inside]:
    """A gateway without any key: each provider's credential comes by OpenBao's ``identity/oidc``."""
    directory = tmp_path_factory.mktemp("federation")
    (directory / "exchange-ca.pem").write_bytes(exchanges.ca_pem)
    standin = StandIn(hosts=HOSTS)
    exchanges.on_given = standin.keys.add
    with standin:
        entry = {"allow_private": True, "ca_file": "provider-ca.pem", "connect_to": standin.address}
        settings: dict[str, dict[str, Any]] = {f"projects.{PROJECT}": {"limits": ["100 usd/day"]}}
        for name, parameters in PARAMETERS.items():
            settings[f"providers.{name}"] = {
                **entry,
                "credential": {
                    "method": "federation",
                    "subject": {"source": "vault", "role": "gateway"},
                    "audience": AUDIENCE,
                    "parameters": parameters,
                    "connect_to": exchanges.address,
                    "ca_file": "exchange-ca.pem",
                },
            }
        settings["providers.azure"]["hosts"] = [AZURE]
        settings["providers.bedrock"]["hosts"] = [BEDROCK]
        with open_inside(
            directory,
            settings,
            standin=standin,
            stores="real",
            clock=lambda: time.monotonic() + ahead[0],
        ) as inside:
            bao = inside.stores
            assert bao is not None
            line = 'path "identity/oidc/token/gateway" { capabilities = ["read"] }'
            bao.api("PUT", "sys/policies/acl/tollhouse", {"policy": POLICY + line})
            bao.api("POST", "identity/oidc/key/gateway", {"allowed_client_ids": "*"})
            role = {"key": "gateway", "client_id": AUDIENCE, "ttl": "10m"}
            bao.api("POST", "identity/oidc/role/gateway", role)
            exchanges.issuer = f"{bao.address}/v1/identity/oidc"
            exchanges.keys = lambda: bao.api("GET", "identity/oidc/.well-known/keys", token="")
            yield inside


@pytest.fixture
def inside(
    shared: Inside, exchanges: ExchangeServer, caplog: pytest.LogCaptureFixture
) -> Iterator[Inside]:
    """With an empty book and no credential; at the end no log has a credential or a JWT."""
    # An exchange of the test before may be under way: what it brings is not kept.
    shared.do(forget(shared))
    exchanges.clear()
    exchanges.audience = AUDIENCE
    shared.standin.clear()
    yield shared
    said = caplog.text + json.dumps(shared.lines())
    for word in (*exchanges.given, "eyJ"):
        assert word not in said


async def forget(inside: Inside) -> None:
    inside.gateway.keys.forget()


def openai(inside: Inside) -> OpenAI:
    http = DefaultHttpxClient(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    return OpenAI(api_key="none", http_client=http, max_retries=0)


def ask(client: OpenAI) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=HI, max_tokens=5)


def test_each_provider_gets_what_was_exchanged(inside: Inside, exchanges: ExchangeServer) -> None:
    """Five endpoints verify OpenBao's token, and each call has what its own provider gave, in its place and no other."""
    ask(openai(inside))
    http = AnthropicHttp(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    Anthropic(api_key="none", http_client=http, max_retries=0).messages.create(
        model="claude-sonnet-4-5",
        messages=HI,
        max_tokens=5,
        extra_headers={"anthropic-beta": "context-1m-2025-08-07"},
    )
    inside.standin.always(
        reply(200, b'{"data":[],"models":[]}', [("content-type", "application/json")])
    )
    with httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client:
        models = f"https://{VERTEX}/v1beta1/publishers/google/models"
        assert client.get(f"https://{AZURE}/openai/v1/models").status_code == 200
        assert client.get(models).status_code == 200
        assert client.get(f"https://{BEDROCK}/foundation-models").status_code == 200
    of_openai, of_anthropic, of_azure, of_vertex, of_bedrock = inside.standin.book
    given = {host: index for index, (host, *_) in enumerate(exchanges.received)}
    assert len(given) == len(exchanges.received) == 6
    assert exchanges.problems == []
    assert len(set(exchanges.subjects)) == 1
    tokens = exchanges.given
    assert of_openai.get("authorization") == f"Bearer {tokens[0]}"
    assert of_anthropic.get("authorization") == f"Bearer {tokens[1]}"
    assert not of_anthropic.get("x-api-key")
    assert of_anthropic.get("anthropic-beta") == "context-1m-2025-08-07,oauth-2025-04-20"
    assert of_azure.get("authorization") == f"Bearer {tokens[2]}"
    assert not of_azure.get("api-key")
    assert of_vertex.get("authorization") == f"Bearer {tokens[4]}"
    assert of_vertex.get("authorization").startswith("Bearer ya29.impersonated.")
    assert of_bedrock.get("x-amz-security-token") == tokens[5]
    assert of_bedrock.get("authorization").startswith("AWS4-HMAC-SHA256 Credential=ASIAOFTHETESTS/")
    _, _, body, headers = exchanges.received[1]
    assert headers["anthropic-beta"] == "oauth-2025-04-20,oidc-federation-2026-04-01"
    assert "workspace_id" not in body
    impersonated = exchanges.received[4]
    assert impersonated[2]["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert ACCOUNT in impersonated[1]
    # What an operator sees of it.
    rows = {
        row["path"]: row for row in inside.do(inside.gateway.operations.perform("key_list", {}))
    }
    row = rows["federation:openai"]
    assert (row["state"], row["method"]) == ("fresh", "federation (vault)")
    assert row["subject"] == exchanges.subjects[0]
    assert 3500 < row["expires_s"] <= 3600
    assert 0 < row["refresh_s"] < row["expires_s"]
    tested = inside.do(inside.gateway.operations.perform("key_test", {"provider": "azure"}))
    assert [row["result"] for row in tested] == ["ok"]
    assert not any(token in json.dumps([list(rows.values()), tested]) for token in tokens)


def test_renewals_and_an_outage_under_load_lose_no_call(
    inside: Inside, exchanges: ExchangeServer
) -> None:
    """A failed renewal, three renewals and OpenBao's rotated key, while four clients call."""
    exchanges.expires_in = 3
    ask(openai(inside))
    outage = threading.Semaphore(1)

    def act(handler: Any) -> None:
        if outage.acquire(blocking=False):
            says_json(503, {"error": "temporarily_unavailable"})(handler)
            assert inside.stores is not None
            inside.stores.api("POST", "identity/oidc/key/gateway/rotate", {})
        else:
            exchanges.expires_in = 1
            exchanges.act = None
            exchanges.ordinary(handler)

    exchanges.act = act
    over, failures = threading.Event(), []

    def load() -> None:
        client = openai(inside)
        while not over.is_set():
            try:
                ask(client)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            assert exchanges.arrived.acquire(timeout=20)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(exchanges.given) >= 4
    used = {received.get("authorization") for received in inside.standin.book}
    assert len(used) >= 3


def test_an_outage_beyond_the_credentials_end(
    inside: Inside, exchanges: ExchangeServer, ahead: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """As long as the credential may be used no call is lost. Then calls are refused, and nothing leaves. The first call after
    the outage succeeds."""
    client = openai(inside)
    ask(client)
    exchanges.act = says_json(503, {"error": "temporarily_unavailable"})
    ahead[0] += 3600 - 45
    ask(client)
    ahead[0] += 30
    for _ in range(2):
        with pytest.raises(InternalServerError) as raised:
            ask(client)
        assert raised.value.response.headers["x-tollhouse-reason"] == "credential_unavailable"
    assert "network: auth.openai.com can't give one now (503)" in caplog.text
    assert len(inside.standin.book) == 2
    exchanges.act = None
    ask(client)
    before, lasting, after = (one.get("authorization") for one in inside.standin.book)
    assert before == lasting != after
    assert after == f"Bearer {exchanges.given[-1]}"
    reasons = [line["reason"] for line in inside.lines()[-5:]]
    assert reasons == ["", "", "credential_unavailable", "credential_unavailable", ""]


def test_a_refused_credential_is_exchanged_anew(inside: Inside, exchanges: ExchangeServer) -> None:
    ask(openai(inside))
    inside.standin.keys.discard(exchanges.given[0])
    ask(openai(inside))
    assert [one.status for one in inside.standin.book] == [200, 401, 200]
    assert inside.standin.book[2].get("authorization") == f"Bearer {exchanges.given[1]}"


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (says_json(401, {"error": "invalid_grant", "error_description": "eyJ.e.cho"}), "rule: "),
        (says_json(400, {"error": "invalid_target"}), "audience: "),
        (says_json(200, {"access_token": "a\r\nb", "expires_in": 60}), "is no credential"),
        (says_json(200, {"access_token": "x", "expires_in": 0}), "has ended already"),
        (says_json(200, {"access_token": "x", "expires_in": "3600"}), "how long"),
        (says_json(307, {}, ("Location", "https://evil.example/")), "redirect"),
        (says_json(200, {"access_token": "x" * 200_000, "expires_in": 60}), "too long"),
        (says_json(429, {}, ("Retry-After", "60")), "network: "),
    ],
)
def test_a_bad_exchange_lets_nothing_leave(
    inside: Inside,
    exchanges: ExchangeServer,
    caplog: pytest.LogCaptureFixture,
    act: Any,
    why: str,
) -> None:
    exchanges.act = act
    with httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client:
        answer = client.get("https://api.openai.com/v1/models")
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
        503,
        "credential_unavailable",
    )
    assert inside.standin.book == []
    assert why in caplog.text
    assert len(exchanges.received) == 1


def test_the_subject_has_to_be_for_this_exchange(
    inside: Inside, exchanges: ExchangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A token for another audience is not sent at all, and the message names both. Nor is one without a role to sign it."""
    assert inside.stores is not None
    role = {"key": "gateway", "client_id": "https://other.test", "ttl": "10m"}
    inside.stores.api("POST", "identity/oidc/role/gateway", role)
    try:
        with httpx2.Client(
            proxy=inside.proxy_url, verify=inside.context, trust_env=False
        ) as client:
            assert client.get("https://api.openai.com/v1/models").status_code == 503
            inside.stores.api("DELETE", "identity/oidc/role/gateway")
            inside.do(forget(inside))
            assert client.get("https://api.openai.com/v1/models").status_code == 503
    finally:
        role["client_id"] = AUDIENCE
        inside.stores.api("POST", "identity/oidc/role/gateway", role)
    assert exchanges.received == []
    assert f"is for https://other.test, and has to be for {AUDIENCE}" in caplog.text
    assert "signs no token for the role gateway (400): there is no such role" in caplog.text
