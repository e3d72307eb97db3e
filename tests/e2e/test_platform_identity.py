"""Workloads that hold no gate token: JWTs of Kubernetes, GitHub, GitLab, SPIFFE and an IdP, on every listener and in every
place, through the running gateway. The configurations are those of docs/identity.md."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import DefaultHttpxClient, OpenAI, RateLimitError
from tests.support.attack import GET, Attacked, get, watched
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside
from tests.support.issuer import (
    JwksServer,
    claims,
    ec_key,
    ed_key,
    jwk,
    jwks,
    rsa_key,
    serve_jwks,
    signed,
)
from tests.support.raw import H2Client

CLUSTER = "https://kubernetes.default.svc.cluster.local"
GITHUB = "https://token.actions.githubusercontent.com"
GITLAB = "https://gitlab.example.com"
IDP = "https://login.example.com/realms/staff"
DOMAIN = "spiffe://prod.example.com"
CLUSTER_KEY, GITHUB_KEY, GITLAB_KEY = rsa_key("cluster"), rsa_key("github"), rsa_key("gitlab")
SPIFFE_KEY, IDP_KEY = ec_key("spiffe"), ed_key("idp")


def entries(directory: Path, server: JwksServer) -> list[dict[str, Any]]:
    def file(name: str, *keys: dict[str, Any]) -> str:
        (directory / name).write_bytes(jwks(*keys))
        return name

    (directory / "sa-token").write_text("the gateway's own service account\n")
    common = {"audience": "tollhouse", "tenant": TENANT}
    return [
        {
            **common,
            "issuer": CLUSTER,
            "jwks_url": server.url,
            "ca_file": str(server.ca_file),
            "token_file": "sa-token",
            "project": "proj_{/kubernetes.io/namespace}",
            "limits": ["3 requests/minute"],
        },
        {
            **common,
            "issuer": GITHUB,
            "jwks_file": file("github.json", jwk(GITHUB_KEY, "one", alg="RS256")),
            "project": "repository",
            "projects": {"octo/app": "proj_ci"},
            "claims": {"ref": "refs/heads/main", "event_name": ["push", "workflow_dispatch"]},
        },
        {
            **common,
            "issuer": GITLAB,
            "jwks_file": file("gitlab.json", jwk(GITLAB_KEY, "one")),
            "project": "project_path",
            "projects": {"group/app": "proj_ci"},
        },
        {
            **common,
            "issuer": DOMAIN,
            "jwks_file": file(
                "spiffe.json",
                jwk(SPIFFE_KEY, "svid", use="jwt-svid"),
                jwk(ec_key("x509"), "x", use="x509-svid"),
            ),
            "algorithms": ["ES256"],
            "project": "sub",
            "projects": {f"{DOMAIN}/ns/a/sa/worker": "proj_a"},
        },
        {
            **common,
            "issuer": IDP,
            "jwks_file": file("idp.json", jwk(IDP_KEY, "ed")),
            "algorithms": ["EdDSA"],
            "token_type": "at+jwt",
            "project": "groups",
            "projects": {"/ai/app": "proj_a", "/ai/site": "proj_ci", "/ai/other": "proj_foreign"},
        },
    ]


def cluster(namespace: str = "a", account: str = "worker", **changed: Any) -> dict[str, Any]:
    return claims(
        **{
            "iss": CLUSTER,
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account}},
            **changed,
        }
    )


def cluster_token(namespace: str = "a", account: str = "worker", **changed: Any) -> str:
    # Kubernetes writes no typ.
    return signed(cluster(namespace, account, **changed), CLUSTER_KEY, kid="k1", typ=None)


def github(**changed: Any) -> dict[str, Any]:
    return claims(
        **{
            "iss": GITHUB,
            "sub": "repo:octo/app:ref:refs/heads/main",
            "repository": "octo/app",
            "ref": "refs/heads/main",
            "event_name": "push",
            **changed,
        }
    )


@dataclass
class Platform:
    inside: Inside
    server: JwksServer


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("platform")
    with serve_jwks(directory, jwks(jwk(CLUSTER_KEY, "k1"))) as server:
        settings: dict[str, Any] = {
            "listen": {"transparent": "127.0.0.1:0"},
            "identity": {
                "jwt": entries(directory, server),
                "network": [{"source": "127.0.0.0/8", "project": "proj_a", "tenant": TENANT}],
            },
            **{
                f"projects.{name}": {"tenant": tenant, "limits": ["10 usd/day"]}
                for name, tenant in (
                    (PROJECT, TENANT),
                    ("proj_a", TENANT),
                    ("proj_ci", TENANT),
                    ("proj_foreign", "foreign"),
                )
            },
        }
        with open_inside(directory, settings) as inside:
            yield Platform(inside, server)


@pytest.fixture
def attacked(platform: Platform, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(platform.inside, caplog)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def test_every_place_and_every_listener(attacked: Attacked) -> None:
    """On CONNECT, in the tunnel, at the base URL and behind the redirect, over both HTTPs: the same identity, which reaches no
    provider in any header."""
    token = cluster_token(account="everywhere-0")
    basic = base64.b64encode(f"x:{token}".encode()).decode()
    subjects = [f"everywhere-{n}" for n in range(8)]
    made = [cluster_token(account=name) for name in subjects]
    with attacked.tunnel(headers=(f"Proxy-Authorization: Basic {basic}",)) as client:
        assert client.ask(get(bearer("not-a-key"), f"X-Copy: {token}")).status == 200
    with attacked.tunnel(headers=(f"Proxy-Authorization: Bearer {made[1]}",)) as client:
        assert client.ask(GET).status == 200
    with attacked.tunnel(headers=()) as client:
        assert client.ask(get(bearer(made[2]))).status == 200
        assert client.ask(get(f"X-Api-Key: {made[3]}")).status == 200
        assert client.ask(get(path=f"/v1/models?key={made[4]}&copy={made[4]}")).status == 200
    with attacked.client("base_url") as client:
        assert client.ask(get(bearer(made[5]), host="localhost")).status == 200
    with attacked.client("transparent") as client:
        client.tls("api.openai.com")
        assert client.ask(get(bearer(made[6]))).status == 200
    h2 = H2Client(attacked.tunnel(alpn=("h2",), headers=()))
    stream = h2.request(
        [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "api.openai.com"),
            (":path", "/v1/models"),
            ("authorization", f"Bearer {made[7]}"),
        ]
    )
    assert h2.answer(stream).status == 200
    lines = attacked.lines(8)
    assert [line["subject"] for line in lines] == [f"system:serviceaccount:a:{n}" for n in subjects]
    assert {line["project"] for line in lines} == {"proj_a"}
    assert len({line["identity"] for line in lines}) == 8
    for received in attacked.inside.standin.wait_count(8):
        everything = received.everything()
        assert b"eyJ" not in everything
        assert everything.count(attacked.inside.standin.key.encode()) == 1


def test_the_sdk(attacked: Attacked) -> None:
    """The real OpenAI SDK with a service account's token in HTTPS_PROXY's URL, and as its key; the subject's own limit
    ends it as any limit does."""
    token, inside = cluster_token(account="sdk"), attacked.inside
    proxy = f"http://x:{token}@{inside.gateway.addresses['proxy']}"
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    http = DefaultHttpxClient(proxy=proxy, verify=inside.context, trust_env=False)
    with OpenAI(api_key="not-a-key", http_client=http, max_retries=0) as sdk:
        assert sdk.chat.completions.create(**asked).choices[0].message.content
        assert "".join(
            chunk.choices[0].delta.content or ""
            for chunk in sdk.chat.completions.create(**asked, stream=True)
            if chunk.choices
        )
    base = f"http://localhost:{inside.gateway.addresses['base_url'].rpartition(':')[2]}/v1"
    with OpenAI(api_key=token, base_url=base, max_retries=0) as sdk:
        assert sdk.chat.completions.create(**asked).usage
        with pytest.raises(RateLimitError, match="token jwt_"):
            sdk.chat.completions.create(**asked)
    lines = attacked.lines(4)
    assert [line["reason"] for line in lines] == ["", "", "", "rate_limited"]
    assert {line["subject"] for line in lines} == {"system:serviceaccount:a:sdk"}
