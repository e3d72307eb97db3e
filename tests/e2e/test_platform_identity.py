"""Workloads that hold no gate token: JWTs of Kubernetes, GitHub, GitLab, SPIFFE and an IdP, on every listener and in every
place, through the running gateway. The configurations are those of docs/identity.md."""

from __future__ import annotations

import base64
import dataclasses
import hmac
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openai import APIError, AuthenticationError, DefaultHttpxClient, OpenAI, RateLimitError
from tests.support.attack import BODY, GET, Attacked, get, post, watched
from tests.support.hello import hello
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside
from tests.support.issuer import (
    JwksServer,
    b64,
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
from tests.support.raw_socket import RawSocket, handshake

from tollhouse.accounts.token import subject_id
from tollhouse.demo.standin_script import Behaviour, Steps
from tollhouse.doctor import plan

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


PASSED = "silent.internal"
"""A host whose tunnels are passed on, and which says nothing."""


@dataclass
class Platform:
    inside: Inside
    server: JwksServer
    ahead: list[float]
    """By how many seconds the gateway's clock for identities is ahead: one number."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("platform")
    with (
        serve_jwks(directory, jwks(jwk(CLUSTER_KEY, "k1"))) as server,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        settings: dict[str, Any] = {
            "listen": {"transparent": "127.0.0.1:0"},
            "identity": {
                "jwt": entries(directory, server),
                "network": [
                    {"source": "127.0.0.0/8", "project": "proj_a", "tenant": TENANT},
                    {"source": "10.0.0.0/8", "project": "proj_ci", "tenant": TENANT},
                ],
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
        passed = {
            "hosts": [PASSED],
            "projects": ["proj_a"],
            "connect_to": f"127.0.0.1:{silent.getsockname()[1]}",
            "allow_private": True,
        }
        ahead = [0.0]
        with open_inside(
            directory,
            settings,
            wall_clock=lambda: time.time() + ahead[0],
            tables={"tunnels": [passed]},
        ) as inside:
            yield Platform(inside, server, ahead)


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
    ends it as any limit does, and another subject of the project goes on."""
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
    with OpenAI(api_key=cluster_token(account="beside"), base_url=base, max_retries=0) as sdk:
        assert sdk.chat.completions.create(**asked).usage
    lines = attacked.lines(5)
    assert [line["reason"] for line in lines] == ["", "", "", "rate_limited", ""]
    assert {line["project"] for line in lines} == {"proj_a"}
    accounts = [line["subject"].rpartition(":")[2] for line in lines]
    assert accounts == ["sdk"] * 4 + ["beside"]


def test_doctor(attacked: Attacked) -> None:
    """A place whose one token is a JWT: the right way is tried with it."""
    inside, token = attacked.inside, cluster_token(account="doctor")
    made = plan.plan(
        inside.gateway.config,
        ca=inside.ca_file.read_text(),
        gateway="127.0.0.1",
        transparent=False,
        addresses=("127.0.0.1", "::1"),
        resolvers=("127.0.0.1", "::1"),
        timeout_s=20,
    )
    proxy = inside.gateway.addresses["proxy"]
    made = dataclasses.replace(made, proxy=f"http://{proxy}", admin=None)
    ran = subprocess.run(
        [sys.executable, "-I", "-", "--json"],
        input=plan.printed(made, "python"),
        env={"HTTPS_PROXY": f"http://x:{token}@{proxy}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert token not in ran.stdout + ran.stderr
    rows = {row["name"]: row["ok"] for row in json.loads(ran.stdout)["rows"]}
    assert rows["proxy-no-token"]
    assert rows["right-proxy"]
    called = [line for line in attacked.lines(4) if line.get("subject")]
    assert [line["status"] for line in called] == [200]


FOREIGN = rsa_key("foreign")
GOOD = {"kid": "k1", "typ": None}


def doubled(**more: str) -> str:
    """The claims of a cluster's token as text, with members added behind them."""
    return json.dumps(cluster())[:-1] + "".join(f', "{k}": {v}' for k, v in more.items()) + "}"


def confused() -> str:
    """HS256 by the text of the public key."""
    pem = CLUSTER_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = b64({"alg": "HS256", "kid": "k1"}) + "." + b64(cluster())
    return f"{head}.{b64(hmac.digest(pem, head.encode(), 'sha256'))}"


def attempts() -> dict[str, tuple[str, int, str, str]]:
    """What is shown, and how it is refused: status, code and a part of the message."""
    now = int(time.time())
    good, key = cluster(), CLUSTER_KEY
    own = jwk(FOREIGN, "k1")
    unknown = (401, "identity_unknown")
    return {
        "another issuer's key of the same kid": (
            signed(good, FOREIGN, **GOOD),
            *unknown,
            "signature is not that of its issuer",
        ),
        "a key in its own header": (
            signed(
                good,
                FOREIGN,
                **GOOD,
                jwk=own,
                jku="https://evil.test/k",
                x5u="https://evil.test/c",
                x5c=["MIIB"],
            ),
            *unknown,
            "signature is not",
        ),
        "another issuer's token with this one's name": (
            signed(
                {**github(), "iss": CLUSTER, "kubernetes.io": good["kubernetes.io"]},
                GITHUB_KEY,
                kid="one",
            ),
            *unknown,
            "no such key",
        ),
        "none": (signed(good, None, "none", kid="k1"), *unknown, "alg is 'none'"),
        "None": (signed(good, None, "nOnE", kid="k1"), *unknown, "alg is 'nOnE'"),
        "key confusion": (confused(), *unknown, "alg is 'HS256'"),
        "an algorithm of the same key": (
            signed(good, key, "RS512", **GOOD),
            *unknown,
            "alg is 'RS512'",
        ),
        "an algorithm that is a list": (
            f"{b64({'alg': ['RS256'], 'kid': 'k1'})}.{b64(good)}.AA",
            *unknown,
            "alg is",
        ),
        "critical": (signed(good, key, **GOOD, crit=["x"], x=1), *unknown, "extension"),
        "unencoded": (signed(good, key, **GOOD, b64=False), *unknown, "extension"),
        "kid twice": (
            b64('{"alg":"RS256","kid":"a","kid":"b"}') + f".{b64(good)}.AA",
            *unknown,
            "'kid' twice",
        ),
        "no issuer": (signed(cluster(iss=None), key, **GOOD), *unknown, "no issuer"),
        "wrong issuer": (
            signed(cluster(iss=CLUSTER + "/"), key, **GOOD),
            *unknown,
            "no issuer of this gateway",
        ),
        "issuer in capitals": (
            signed(cluster(iss=CLUSTER.upper()), key, **GOOD),
            *unknown,
            "no issuer of",
        ),
        "issuer that is a list": (
            signed(cluster(iss=[CLUSTER]), key, **GOOD),
            *unknown,
            "no issuer of",
        ),
        "wrong audience": (
            signed(cluster(aud="https://kubernetes.default.svc"), key, **GOOD),
            *unknown,
            "for the audience",
        ),
        "no audience": (signed(cluster(aud=None), key, **GOOD), *unknown, "for the audience"),
        "audience in capitals": (
            signed(cluster(aud="Tollhouse"), key, **GOOD),
            *unknown,
            "audience",
        ),
        "wrong typ": (
            signed(good, key, kid="k1", typ="logout+jwt"),
            *unknown,
            "typ is 'logout+jwt'",
        ),
        "no exp": (signed(cluster(exp=None), key, **GOOD), *unknown, "no exp"),
        "exp in words": (
            signed(cluster(exp=str(now + 600)), key, **GOOD),
            *unknown,
            "exp is no number",
        ),
        "exp endless": (
            signed(json.dumps(good).replace(str(good["exp"]), "1e999"), key, **GOOD),
            *unknown,
            "can't be read",
        ),
        "exp twice": (signed(doubled(exp=str(now + 10**6)), key, **GOOD), *unknown, "'exp' twice"),
        "expired": (
            signed(cluster(exp=now - 3600), key, **GOOD),
            401,
            "identity_expired",
            "expired 3",
        ),
        "not yet": (signed(cluster(nbf=now + 3600), key, **GOOD), *unknown, "valid only in"),
        "made in the future": (
            signed(cluster(iat=now + 3600), key, **GOOD),
            *unknown,
            "valid only in",
        ),
        "no subject": (signed(cluster(sub=None), key, **GOOD), *unknown, "sub is no text"),
        "a subject that is a number": (
            signed(cluster(sub=7), key, **GOOD),
            *unknown,
            "sub is no text",
        ),
        "a subject without an end": (
            signed(cluster(sub="s" * 2049), key, **GOOD),
            *unknown,
            "sub is no text of 1 to 2048",
        ),
        "an audience of lists": (
            signed(cluster(aud=[["tollhouse"]]), key, **GOOD),
            *unknown,
            "audience",
        ),
        "cut": (signed(good, key, **GOOD).rpartition(".")[0], *unknown, "nor that of a JWT"),
        "encrypted": (signed(good, key, **GOOD) + ".a.b", *unknown, "nor that of a JWT"),
        "too long": (
            signed(cluster(pad="x" * 16_000), key, **GOOD),
            *unknown,
            "the most are 16384",
        ),
        "deep": (
            signed('{"iss": "' + CLUSTER + '", "a": ' + "[" * 5000 + "]" * 5000 + "}", key, **GOOD),
            *unknown,
            "for the audience",
        ),
        "a namespace twice": (
            signed(doubled(**{"kubernetes.io": '{"namespace": "ci"}'}), key, **GOOD),
            *unknown,
            "'kubernetes.io' twice",
        ),
        "a namespace twice, inside": (
            signed(doubled(x='{"namespace": 1, "namespace": 2}'), key, **GOOD),
            *unknown,
            "'namespace' twice",
        ),
        "another tenant's project": (
            cluster_token("foreign"),
            403,
            "project_not_allowed",
            "does not exist",
        ),
        "no project's name": (
            cluster_token("nowhere"),
            403,
            "project_not_allowed",
            "does not exist",
        ),
        "capitals": (cluster_token("A"), 403, "project_not_allowed", "does not exist"),
        "a look-alike": (cluster_token("\u0430"), 403, "project_not_allowed", "can't be the name"),
        "full width": (cluster_token("\uff41"), 403, "project_not_allowed", "can't be the name"),
        "a brace": (cluster_token("a}:x:{b"), 403, "project_not_allowed", "can't be the name"),
        "a namespace that is a list": (
            signed(cluster(**{"kubernetes.io": {"namespace": ["a"]}}), key, **GOOD),
            403,
            "project_not_allowed",
            "is no text",
        ),
        "no namespace": (
            signed(cluster(**{"kubernetes.io": {}}), key, **GOOD),
            403,
            "project_not_allowed",
            "has no claim",
        ),
        "another repository": (
            signed(github(repository="octo/App"), GITHUB_KEY, kid="one"),
            403,
            "project_not_allowed",
            "No project is",
        ),
        "another branch": (
            signed(github(ref="refs/heads/x"), GITHUB_KEY, kid="one"),
            *unknown,
            "claim ref is 'refs/heads/x'",
        ),
        "a fork's event": (
            signed(github(event_name="pull_request"), GITHUB_KEY, kid="one"),
            *unknown,
            "claim event_name",
        ),
        "another trust domain": (
            signed(
                claims(sub="spiffe://prod.example.com.evil.test/ns/a/sa/worker"),
                SPIFFE_KEY,
                "ES256",
                kid="svid",
            ),
            *unknown,
            "no issuer",
        ),
        "a certificate's key of the trust bundle": (
            signed(claims(sub=f"{DOMAIN}/ns/a/sa/worker"), ec_key("x509"), "ES256", kid="x"),
            *unknown,
            "no such key",
        ),
        "a SPIFFE ID of another issuer": (
            signed(claims(iss=GITHUB, sub=f"{DOMAIN}/ns/a/sa/worker"), GITHUB_KEY, kid="one"),
            *unknown,
            "claim ref",
        ),
        "an ID token of the IdP": (
            signed(claims(iss=IDP, sub="ada", groups=["/ai/app"]), IDP_KEY, "EdDSA", kid="ed"),
            *unknown,
            "typ is 'JWT'",
        ),
        "groups of nobody": (
            signed(
                claims(iss=IDP, sub="ada", groups=["/sales"]),
                IDP_KEY,
                "EdDSA",
                kid="ed",
                typ="at+jwt",
            ),
            403,
            "project_not_allowed",
            "No project is",
        ),
        "a group of another tenant": (
            signed(
                claims(iss=IDP, sub="ada", groups=["/ai/other"]),
                IDP_KEY,
                "EdDSA",
                kid="ed",
                typ="at+jwt",
            ),
            403,
            "project_not_allowed",
            "does not exist",
        ),
    }


def test_a_hostile_workload(attacked: Attacked) -> None:
    """Each is refused, with a reason that says what it was, and nothing leaves. A good token in the slot behind it, or a
    network behind that, does not make up for it."""
    made = attempts()
    with attacked.client("transparent") as client:
        client.tls("api.openai.com")
        for name, (token, status, code, why) in made.items():
            answer = client.ask(
                get(f"Proxy-Authorization: Bearer {token}", bearer(attacked.inside.token))
            )
            assert (answer.status, answer.reason) == (status, code), (name, answer)
            message = json.loads(answer.body)["error"]["message"]
            assert why in message, (name, message)
            assert token not in message
    assert [line["reason"] for line in attacked.lines(len(made))] == [
        code for _, _, code, _ in made.values()
    ]
    attacked.nothing_left()


def test_an_empty_slot(attacked: Attacked) -> None:
    """It is passed over, and the slot behind it decides, a wrong one as well; a network comes behind all of them."""
    empty, wrong = bearer("not-a-key"), signed(cluster(), FOREIGN, **GOOD)
    with attacked.client("transparent") as client:
        client.tls("api.openai.com")
        assert client.ask(get(empty, f"X-Api-Key: {wrong}")).reason == "identity_unknown"
        assert client.ask(get(empty, "X-Api-Key: sk-its-own")).reason == "identity_unknown"
        assert client.ask(get(empty, path=f"/v1/models?key={wrong}")).reason == "identity_unknown"
        behind = cluster_token(account="behind")
        assert client.ask(get(empty, f"X-Api-Key: {behind}")).status == 200
        assert client.ask(get(empty, "X-Api-Key: not-a-key")).status == 200
    *_, by_jwt, by_network = attacked.lines(5)
    assert (by_jwt["identity"][:4], by_network["identity"][:4]) == ("jwt_", "net_")


def test_a_source_that_is_claimed(attacked: Attacked) -> None:
    """The address is that of the connection: no header says another one, and nothing is taken for TLS that comes before it."""
    claimed = ("X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP")
    with attacked.client("transparent") as client:
        client.tls("api.openai.com")
        others = (f"{name}: 10.1.2.3" for name in claimed)
        assert client.ask(get("Forwarded: for=10.1.2.3", *others)).status == 200
    with attacked.client("transparent") as client:
        client.send(b"PROXY TCP4 10.1.2.3 192.0.2.1 1 443\r\n" + hello("api.openai.com"))
        assert client.rest() == b""
    called, closed = attacked.lines(2)
    assert (called["project"], called["client_ip"]) == ("proj_a", "127.0.0.1")
    assert (closed["reason"], closed["why"]) == ("tls_refused", "it is no TLS")


def test_the_examples(attacked: Attacked) -> None:
    """GitHub, GitLab, SPIFFE and an IdP's people, as docs/identity.md configures them."""
    gitlab = claims(
        iss=GITLAB, sub="project_path:group/app:ref_type:branch:ref:main", project_path="group/app"
    )
    person = claims(iss=IDP, sub="ada", groups=["/sales", "/ai/app", "/ai/site"])
    svid = claims(sub=f"{DOMAIN}/ns/a/sa/worker", aud=["tollhouse"])
    staff = signed(person, IDP_KEY, "EdDSA", kid="ed", typ="AT+JWT")
    wanted = [
        (signed(github(), GITHUB_KEY, kid="one"), (), "proj_ci"),
        (signed(gitlab, GITLAB_KEY, kid="one"), (), "proj_ci"),
        (signed(svid, SPIFFE_KEY, "ES256", kid="svid", typ="JOSE"), (), "proj_a"),
        (staff, ("X-Coreason-Project-ID: proj_a",), "proj_a"),
        (staff, ("X-Coreason-Project-ID: proj_ci",), "proj_ci"),
    ]
    with attacked.tunnel(headers=()) as client:
        for token, more, _ in wanted:
            assert client.ask(get(bearer(token), *more)).status == 200
        assert client.ask(get(bearer(staff))).reason == "bad_request"
        beyond = client.ask(get(bearer(staff), "X-Coreason-Project-ID: proj_foreign"))
        assert beyond.reason == "project_not_allowed"
    lines = attacked.lines(7)
    assert [line["project"] for line in lines[:5]] == [project for _, _, project in wanted]


def test_times(attacked: Attacked) -> None:
    """30 s of leeway: what ended, or begins, within them is good."""
    now = int(time.time())
    with attacked.tunnel(headers=()) as client:
        for n, changed in enumerate([{"exp": now - 1}, {"nbf": now + 20}, {"iat": now + 20}]):
            assert (
                client.ask(get(bearer(cluster_token(account=f"times-{n}", **changed)))).status
                == 200
            )
    attacked.lines(3)


def test_rotation_and_an_issuer_away(attacked: Attacked, platform: Platform) -> None:
    """A new key is found at once; keys that nobody has make one request in 30 s, however many there are; and while the issuer
    is away, a known key serves and an unknown one is 503."""
    server = platform.server
    asked = server.asked
    assert server.headers[0]["authorization"] == "Bearer the gateway's own service account"
    second = rsa_key("second")
    server.answer = (200, jwks(jwk(CLUSTER_KEY, "k1"), jwk(second, "k2")))
    rotated = signed(cluster(account="rotated"), second, kid="k2")
    with attacked.tunnel(headers=()) as client:
        assert client.ask(get(bearer(cluster_token(account="before")))).status == 200
        first = client.ask(get(bearer(rotated)))
        # Another test's unknown key may have used up this half minute's one request.
        assert (first.status, server.asked - asked) in ((200, 1), (401, 0))
        for n in range(20):
            answer = client.ask(get(bearer(signed(cluster(), second, kid=f"garbage-{n}"))))
            assert answer.reason == "identity_unknown"
        assert server.asked - asked <= 1
        assert client.ask(get(bearer(cluster_token(account="before")))).status == 200
    attacked.lines(23)


@pytest.mark.parametrize("how", ["revoked", "project removed"])
def test_a_stream_whose_identity_ends(attacked: Attacked, how: str) -> None:
    """It is told so in its own form within seconds, as is one of a gate token that is revoked."""
    inside = attacked.inside
    perform = inside.gateway.operations.perform
    inside.do(
        perform("project_set", {"project": "proj_gone", "tenant": TENANT, "limits": ["10 usd/day"]})
    )
    token = cluster_token("gone", "stream")
    steps = Steps()
    inside.standin.script(Behaviour(steps=steps))
    asked = BODY.replace(b"{", b'{"stream": true, ', 1)
    with attacked.tunnel(headers=()) as client:
        client.send(post(asked, bearer(token)))
        steps.release()
        inside.standin.wait_count(1)
        client.receive()
        [exchange] = set(inside.gateway.journey.under_way)
        assert exchange.answered
        if how == "revoked":
            identity = subject_id("jwt", CLUSTER, "system:serviceaccount:gone:stream")
            inside.do(perform("token_revoke", {"token_id": identity}))
        else:
            inside.do(perform("project_remove", {"project": "proj_gone"}))
            # The gateway does so by itself every 3 s, as the other case shows.
            inside.do(inside.gateway.journey.end_invalid(0.0))
        code = "identity_revoked" if how == "revoked" else "project_not_allowed"
        rest = b""
        while code.encode() not in rest:
            piece = client.receive()
            assert piece, rest
            rest += piece
        steps.release_all()
    [line] = attacked.lines(1)
    assert (line["reason"], line["gate"], line["decision"]) == (code, "identity", "fail")
    if how == "revoked":
        with attacked.tunnel(headers=()) as client:
            assert client.ask(get(bearer(token))).reason == "identity_revoked"
            inside.do(perform("token_restore", {"token_id": identity}))
            assert client.ask(get(bearer(token))).status == 200
        attacked.lines(3)


def test_a_stream_whose_token_expires(attacked: Attacked, platform: Platform) -> None:
    """The SDK raises its own error, with the reason, behind the text that came before; a session over a WebSocket ends, too.
    A stream of the same moment whose token lives on is left alone."""
    inside = attacked.inside
    steps, other_steps = Steps(), Steps()
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    short, long = (
        cluster_token(account=f"expires-{n}", exp=int(time.time()) + 60 * n) for n in (10, 20)
    )

    def sdk(token: str) -> OpenAI:
        http = DefaultHttpxClient(
            proxy=f"http://{inside.gateway.addresses['proxy']}",
            verify=inside.context,
            trust_env=False,
        )
        return OpenAI(api_key=token, http_client=http, max_retries=0)

    with sdk(short) as first, sdk(long) as second:
        inside.standin.script(Behaviour(steps=steps))
        ending = first.chat.completions.create(**asked, stream=True)
        steps.release()
        next(ending)
        inside.standin.script(Behaviour(steps=other_steps))
        lasting = second.chat.completions.create(**asked, stream=True)
        other_steps.release()
        next(lasting)
        socket = RawSocket(
            attacked.tunnel(headers=(f"Proxy-Authorization: Bearer {short}",)), handshake()
        )
        socket.until("session.created")
        platform.ahead[0] = 600.0 + 31.0
        try:
            inside.do(inside.gateway.journey.end_invalid(0.0))
            with pytest.raises(APIError, match="The JWT expired 3") as raised:
                list(ending)
            assert raised.value.code == "identity_expired"
            assert socket.until("error").event["error"]["code"] == "identity_expired"
            other_steps.release_all()
            list(lasting)
            steps.release_all()
            with pytest.raises(AuthenticationError):
                first.chat.completions.create(**asked)
        finally:
            platform.ahead[0] = 0.0
    lines = attacked.lines(4)
    found = {
        (line.get("subject", "")[-2:], line["path"], line["reason"], line["decision"])
        for line in lines
    }
    chat = "/v1/chat/completions"
    assert found == {
        ("10", chat, "identity_expired", "fail"),
        ("20", chat, "", "allow"),
        ("10", "/v1/realtime", "identity_expired", "fail"),
        ("", chat, "identity_expired", "deny"),
    }


def test_a_passed_tunnel_whose_token_expires(attacked: Attacked, platform: Platform) -> None:
    """It ends, by the gateway's clock, though neither side has ended it."""
    token = cluster_token(account="tunnel")
    head = f"CONNECT {PASSED}:443 HTTP/1.1\r\nHost: {PASSED}:443\r\n"
    with socket.create_connection(attacked.inside.proxy, timeout=60) as client:
        client.sendall(f"{head}Proxy-Authorization: Bearer {token}\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(hello(PASSED))
        platform.ahead[0] = 3600.0
        try:
            assert client.recv(65536) == b""
        finally:
            platform.ahead[0] = 0.0
    [line] = attacked.lines(1)
    assert (line["method"], line["host"]) == ("CONNECT", PASSED)
    assert (line["reason"], line["decision"]) == ("identity_expired", "deny")


def test_a_session(attacked: Attacked) -> None:
    """A WebSocket whose JWT stands in its subprotocol, as a browser sends it: it reaches no provider, and the session ends
    with its identity."""
    inside, token = attacked.inside, cluster_token(account="socket")
    offered = f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{token}"
    client = attacked.tunnel(headers=())
    socket = RawSocket(client, handshake(offered))
    identity = subject_id("jwt", CLUSTER, "system:serviceaccount:a:socket")
    with client:
        socket.until("session.created")
        inside.do(inside.gateway.operations.perform("token_revoke", {"token_id": identity}))
        assert socket.until("error").event["error"]["code"] == "identity_revoked"
    [received] = inside.standin.wait_count(1)
    assert b"eyJ" not in received.everything()
    [line] = attacked.lines(1)
    assert (line["identity"], line["reason"]) == (identity, "identity_revoked")


def test_a_network(attacked: Attacked) -> None:
    """Behind the redirect a workload without any credential is its network, and so is an SDK with the placeholder; a key of
    its own decides, and is refused. On no other listener is there such an identity."""
    with attacked.client("transparent") as client:
        client.tls("api.openai.com")
        assert client.ask(get("X-Forwarded-For: 10.9.9.9")).status == 200
        assert client.ask(get(bearer("not-a-key"))).status == 200
        assert client.ask(get(bearer("sk-a-key-of-its-own"))).reason == "identity_unknown"
    assert attacked.ask_in_tunnel(None).reason == "identity_missing"
    lines = attacked.lines(4)
    assert [(line["project"], line.get("subject")) for line in lines[:2]] == [
        ("proj_a", "127.0.0.0/8")
    ] * 2
