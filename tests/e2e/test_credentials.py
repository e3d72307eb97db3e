"""Where each provider's key goes, through the running gateway: what the provider got, and what never left."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import RawClient

from tollhouse.credential.secret import Secret
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import reply

OURS, EU, FOREIGN = (f"{name}.openai.azure.com" for name in ("contoso", "contoso-eu", "fabrikam"))
GEMINI = "generativelanguage.googleapis.com"
HOSTS = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "gemini": GEMINI,
    "azure": OURS,
    "azure-eu": EU,
    "mistral": "api.mistral.ai",
    "cohere": "api.cohere.com",
}
KEYS = {name: f"real-key-of-{name}-{secrets.token_urlsafe(24)}" for name in HOSTS}
SEVERAL = [f"one-of-several-{secrets.token_urlsafe(24)}" for _ in range(3)]
OWN = "sk-ant-the-workloads-own-key-0123456789"
CREDENTIALS = {
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "openai-organization",
    "openai-project",
}
MODELS = json.dumps(
    {
        "data": [
            {
                "id": "claude-x",
                "type": "model",
                "display_name": "X",
                "created_at": "2026-01-01T00:00:00Z",
            }
        ]
    }
).encode()
OF_JSON = [("content-type", "application/json")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    standin = StandIn(hosts=(*HOSTS.values(), FOREIGN))
    with standin:
        entry = {"connect_to": standin.address, "allow_private": True, "ca_file": "provider-ca.pem"}
        settings: dict[str, dict[str, Any]] = {f"providers.{name}": dict(entry) for name in HOSTS}
        settings["providers.azure"]["hosts"] = [OURS]
        settings["providers.azure-eu"] |= {"family": "azure", "hosts": [EU]}
        settings[f"projects.{PROJECT}"] = {"limits": ["10 usd/day"]}
        with open_inside(
            tmp_path_factory.mktemp("credentials"), settings, standin=standin
        ) as inside:
            vault = EmbeddedVault(inside.gateway.config.state.directory)
            for name, key in KEYS.items():
                vault.set(name, key)
            vault.set(
                "openai",
                json.dumps(
                    {"api_key": KEYS["openai"], "organization": "org-1", "project": "proj-1"}
                ),
            )
            yield inside


@pytest.fixture
def inside(shared: Inside) -> Inside:
    shared.standin.clear()
    shared.standin.always(reply(200, MODELS, OF_JSON))
    shared.do(forget(shared))
    return shared


def client(inside: Inside, proxy: str = "") -> httpx2.Client:
    return httpx2.Client(
        proxy=proxy or inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    )


def the_one(inside: Inside) -> Received:
    """The only request that the provider got: no gate token and nothing of the workload's own is in it."""
    [received] = inside.standin.snapshot()
    everything = received.everything()
    for word in (inside.token, OWN, PROJECT, "gate_", "proxy-"):
        assert word.encode() not in everything.lower()
    return received


def credentials(received: Received) -> dict[str, list[str]]:
    """All headers that say who calls or who pays."""
    return {name: found for name in sorted(CREDENTIALS) if (found := received.get_all(name))}


EXPECTED = {
    "openai": {
        "authorization": [f"Bearer {KEYS['openai']}"],
        "openai-organization": ["org-1"],
        "openai-project": ["proj-1"],
    },
    "anthropic": {"x-api-key": [KEYS["anthropic"]]},
    "gemini": {"x-goog-api-key": [KEYS["gemini"]]},
    "azure": {"api-key": [KEYS["azure"]]},
    "azure-eu": {"api-key": [KEYS["azure-eu"]]},
    "mistral": {"authorization": [f"Bearer {KEYS['mistral']}"]},
    "cohere": {"authorization": [f"Bearer {KEYS['cohere']}"]},
}
PATHS = {"gemini": "/v1beta/models", "azure": "/openai/models", "azure-eu": "/openai/v1/models"}


@pytest.mark.parametrize("name", HOSTS)
def test_every_provider_gets_its_own_key(inside: Inside, name: str) -> None:
    """In its own place and once, whatever the workload put into all the places that there are."""
    mine = {
        "Authorization": f"Bearer {OWN}",
        "x-api-key": OWN,
        "api-key": OWN,
        "x-goog-api-key": OWN,
        "OpenAI-Organization": "org-of-the-workload",
        "OpenAI-Project": "proj-of-the-workload",
    }
    path = PATHS.get(name, "/v1/models")
    query = f"?key={OWN}&api-version=2024-10-21&api-key={OWN}&%6Bey={OWN}"
    with client(inside) as http:
        answer = http.get(f"https://{HOSTS[name]}{path}{query}", headers=mine)
    assert (answer.status_code, answer.content) == (200, MODELS)
    received = the_one(inside)
    assert credentials(received) == EXPECTED[name]
    assert (received.target, received.sni) == (f"{path}?api-version=2024-10-21", HOSTS[name])
    assert received.everything().count(KEYS[name].encode()) == 1
    line = next(
        line for line in inside.lines() if line["call_id"] == answer.headers["x-tollhouse-call-id"]
    )
    assert (line["provider"], line["cost_usd"], line["charged_by"]) == (name, "0", "none")
    assert line["key_version"].startswith(Secret(KEYS[name]).fingerprint)


@pytest.mark.parametrize("how", ["api_key", "auth_token", "gate token"])
def test_anthropic_sdk(inside: Inside, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The unchanged SDK lists models, told only of the proxy and the CA; its key in either header stays here."""
    bare = f"http://{inside.gateway.addresses['proxy']}"
    monkeypatch.setenv("HTTPS_PROXY", bare if how == "gate token" else inside.proxy_url)
    monkeypatch.setenv("SSL_CERT_FILE", str(inside.ca_file))
    key = (
        {"auth_token": OWN}
        if how == "auth_token"
        else {"api_key": inside.token if how == "gate token" else OWN}
    )
    with anthropic.Anthropic(**key, max_retries=0) as sdk:
        assert [model.id for model in sdk.models.list(limit=5)] == ["claude-x"]
    received = the_one(inside)
    assert credentials(received) == EXPECTED["anthropic"]
    assert received.target == "/v1/models?limit=5"
    assert received.get("anthropic-version")


@pytest.mark.parametrize("place", ["?key={}", "?a=b&key={}", "header"])
def test_gemini_by_the_gate_token(inside: Inside, place: str) -> None:
    """The gate token where a Gemini key goes is who the workload is; the query leaves without it."""
    bare = f"http://{inside.gateway.addresses['proxy']}"
    headers = {"x-goog-api-key": inside.token} if place == "header" else {}
    query = "" if place == "header" else place.format(inside.token)
    with client(inside, bare) as http:
        answer = http.get(f"https://{GEMINI}/v1beta/models/gemini-3-pro{query}", headers=headers)
    assert answer.status_code == 200
    received = the_one(inside)
    assert credentials(received) == EXPECTED["gemini"]
    assert received.target == "/v1beta/models/gemini-3-pro" + ("?a=b" if "a=b" in place else "")


def test_gemini_with_another_key_in_the_url(inside: Inside) -> None:
    """A key of the workload's own is no identity, and reaches nobody."""
    bare = f"http://{inside.gateway.addresses['proxy']}"
    with client(inside, bare) as http:
        answer = http.get(f"https://{GEMINI}/v1beta/models?key={OWN}")
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (401, "identity_unknown")
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"
    assert inside.standin.snapshot() == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("anthropic", "/v1/environments"),
        ("gemini", "/v1beta/models/gemini-3-pro:generateSpeech"),
        ("azure", "/openai/chat/completions"),
        ("azure", "/openai/deployments/gpt/extensions/chat/completions"),
        ("azure", "/anthropic/v1/messages/batches"),
        ("mistral", "/v1/responses"),
        ("cohere", "/v2/audio/transcriptions"),
    ],
)
def test_what_costs_stays_closed(inside: Inside, name: str, path: str) -> None:
    """Nothing that could cost money leaves while nobody can count it."""
    with client(inside) as http:
        answer = http.post(f"https://{HOSTS[name]}{path}", json={"model": "m", "max_tokens": 1})
        got = http.get(f"https://{HOSTS[name]}{path}")
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (403, "path_not_allowed")
    assert (got.status_code, got.headers["x-tollhouse-reason"]) == (403, "path_not_allowed")
    assert inside.standin.snapshot() == []


# Azure: somebody else's resource.


@pytest.mark.parametrize(
    "host",
    [FOREIGN, "contoso.services.ai.azure.com", "contoso.cognitiveservices.azure.com", f"x.{OURS}"],
)
def test_a_foreign_azure_resource(inside: Inside, host: str) -> None:
    """Anybody may have a resource: only those that the configuration names are answered for, or sent anything."""
    name, _, port = inside.gateway.addresses["proxy"].rpartition(":")
    basic = base64.b64encode(f"{PROJECT}:{inside.token}".encode()).decode()
    before = len(inside.lines())
    with RawClient((name, int(port)), inside.ca_file) as raw:
        answer = raw.connect(f"{host}:443".encode(), f"Proxy-Authorization: Basic {basic}")
    assert (answer.status, answer.get("x-tollhouse-reason")) == (403, "host_not_allowed")
    assert [line["reason"] for line in inside.lines()[before:]] == ["host_not_allowed"]
    assert (inside.standin.snapshot(), inside.standin.dialled) == ([], 0)


def test_a_foreign_azure_resource_behind_ours(inside: Inside) -> None:
    """A Host header of somebody else's inside our tunnel is refused."""
    with client(inside) as http:
        answer = http.get(f"https://{OURS}/openai/v1/models", headers={"Host": FOREIGN})
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (421, "authority_mismatch")
    assert inside.standin.snapshot() == []


def test_the_ca_answers_for_our_resources_alone(inside: Inside) -> None:
    """Its name constraints are the hosts that the file names."""
    assert inside.gateway.ca.uncovered([OURS, EU]) == []
    assert inside.gateway.ca.uncovered([FOREIGN]) == [FOREIGN]


# Refused and exhausted keys, in the provider's own words.


@pytest.fixture
def several(inside: Inside) -> Iterator[Inside]:
    """Gemini and Anthropic with three keys of the project's own."""
    own = EmbeddedVault(inside.gateway.config.state.directory, "projects/{project}/{provider}")
    for name in ("anthropic", "gemini"):
        own.set(name, json.dumps(SEVERAL), project=PROJECT)
    inside.do(forget(inside))
    yield inside
    for name in ("anthropic", "gemini"):
        own.remove(f"projects/{PROJECT}/{name}")
    inside.do(forget(inside))


async def forget(inside: Inside) -> None:
    """As if the keys had never been read."""
    inside.gateway.keys.forget()


def ask(inside: Inside, name: str) -> httpx2.Response:
    with client(inside) as http:
        return http.get(f"https://{HOSTS[name]}{PATHS.get(name, '/v1/models')}")


def used(inside: Inside, header: str) -> list[int]:
    return [SEVERAL.index(one.get(header)) for one in inside.standin.snapshot()]


BAD_KEY = reply(400, b'{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}', OF_JSON)
NO_CREDIT = b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to"}}'


def test_several_keys_of_another_provider(several: Inside) -> None:
    """They take turns; what Gemini says of a bad key, and Anthropic of an empty account, leads to the next."""
    assert {ask(several, "gemini").status_code for _ in range(6)} == {200}
    assert sorted(used(several, "x-goog-api-key")) == [0, 0, 1, 1, 2, 2]
    several.standin.clear()
    several.standin.always(reply(200, MODELS, OF_JSON))
    several.standin.script(BAD_KEY)
    assert ask(several, "gemini").status_code == 200
    first, second = used(several, "x-goog-api-key")
    assert first != second
    several.standin.clear()
    several.standin.always(reply(200, MODELS, OF_JSON))
    several.standin.script(reply(400, NO_CREDIT, OF_JSON))
    assert ask(several, "anthropic").status_code == 200
    empty, other = used(several, "x-api-key")
    assert empty != other


def test_a_rotation(inside: Inside) -> None:
    """The key was replaced, and Gemini refuses the old one before the cache has the new: the call is not lost."""
    assert ask(inside, "gemini").status_code == 200
    new = f"new-key-of-gemini-{secrets.token_urlsafe(24)}"
    vault = EmbeddedVault(inside.gateway.config.state.directory)
    vault.set("gemini", new)
    try:
        inside.standin.script(BAD_KEY)
        assert ask(inside, "gemini").status_code == 200
        assert [one.get("x-goog-api-key") for one in inside.standin.snapshot()] == [
            KEYS["gemini"]
        ] * 2 + [new]
    finally:
        vault.set("gemini", KEYS["gemini"])
        inside.do(forget(inside))


def test_a_key_that_stays_refused(inside: Inside) -> None:
    """It is ours, so the workload gets our 502, in Google's format, and not a word of its own request being wrong."""
    inside.standin.always(BAD_KEY)
    answer = ask(inside, "gemini")
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (502, "credential_refused")
    assert answer.json()["error"]["code"] == 502
    [line] = [
        line for line in inside.lines() if line["call_id"] == answer.headers["x-tollhouse-call-id"]
    ]
    assert (line["reason"], line["cost_usd"]) == ("credential_refused", "0")
    inside.do(forget(inside))


def test_a_secret_of_another_kind(inside: Inside) -> None:
    """An AWS key where Anthropic's should be goes nowhere, and its words are for the log."""
    vault = EmbeddedVault(inside.gateway.config.state.directory)
    vault.set(
        "anthropic",
        json.dumps({"access_key_id": "AKIAX", "secret_access_key": "wJalrXUtnFEMI/K7MDENG"}),
    )
    inside.do(forget(inside))
    try:
        answer = ask(inside, "anthropic")
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            503,
            "credential_unavailable",
        )
        assert "AWS" not in answer.text
        assert inside.standin.snapshot() == []
    finally:
        vault.set("anthropic", KEYS["anthropic"])
        inside.do(forget(inside))


@pytest.mark.parametrize("name", HOSTS)
def test_key_test(inside: Inside, name: str) -> None:
    """`tollhouse key test` asks each for its list of models, with the key where it belongs."""
    [row] = inside.do(inside.gateway.operations.perform("key_test", {"provider": name}))
    assert (row["result"], row["host"], row["why"]) == ("ok", HOSTS[name], "")
    [received] = inside.standin.snapshot()
    assert credentials(received) == EXPECTED[name]
    paths = {
        "gemini": "/v1beta/models",
        "azure": "/openai/v1/models",
        "azure-eu": "/openai/v1/models",
    }
    assert (received.method, received.target) == ("GET", paths.get(name, "/v1/models"))
