"""Bedrock with AWS keys and Vertex with a service account, through the running gateway: what each provider received."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support import sigv4, token_endpoint
from tests.support.attack import Attacked
from tests.support.embedded_vault import put_unchecked
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao import OpenBao
from tests.support.raw_socket import RawSocket, frame, handshake, text
from tests.support.token_endpoint import TokenServer, says_json, token_server

from tollhouse.control.key_desk import KeyDesk
from tollhouse.credential.cloud.google_endpoint import TokenEndpoint
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import reply

REGION = "eu-west-1"
CONTROL, RUNTIME = f"bedrock.{REGION}.amazonaws.com", f"bedrock-runtime.{REGION}.amazonaws.com"
VERTEX = "europe-west4-aiplatform.googleapis.com"
MODELS = "/v1beta1/publishers/google/models"
AWS = {"access_key_id": "AKIAOFTHETESTS", "secret_access_key": f"{secrets.token_urlsafe(24)}/+="}
TEMPORARY = {
    **AWS,
    "access_key_id": "ASIAOFTHETESTS",
    "session_token": f"IQoJ{secrets.token_urlsafe(150)}==",
}
LIST = b'{"modelSummaries":[],"publisherModels":[]}'
OF_JSON = [("content-type", "application/json")]
EXPIRED = reply(
    403, b'{"message":"expired"}', [*OF_JSON, ("x-amzn-errortype", "ExpiredTokenException")]
)
UNAUTHENTICATED = reply(
    401, b'{"error":{"code":401,"message":"no","status":"UNAUTHENTICATED"}}', OF_JSON
)


@pytest.fixture(scope="module")
def token_source() -> Iterator[TokenServer]:
    with token_server() as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, token_source: TokenServer) -> Iterator[Inside]:
    with running(tmp_path_factory.mktemp("cloud"), token_source) as inside:
        yield inside


class running:  # noqa: N801 - a context manager
    """A gateway whose Bedrock, Vertex and token endpoint are stand-ins."""

    def __init__(
        self,
        directory: Path,
        tokens: TokenServer,
        settings: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self._standin = StandIn(hosts=(CONTROL, RUNTIME, VERTEX, "aiplatform.googleapis.com"))
        entry = {"allow_private": True, "ca_file": "provider-ca.pem"}
        self._standin.start()
        merged: dict[str, dict[str, Any]] = {
            f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
            "providers.bedrock": {
                **entry,
                "connect_to": self._standin.address,
                "hosts": [RUNTIME, CONTROL],
            },
            "providers.vertex": {**entry, "connect_to": self._standin.address},
            **(settings or {}),
        }
        self._opened = open_inside(directory, merged, standin=self._standin)
        self._endpoint = TokenEndpoint(
            ca_file=tokens.write_ca(directory / "token-ca.pem"), resolver_factory=tokens.resolver
        )

    def __enter__(self) -> Inside:
        inside = self._opened.__enter__()
        inside.gateway.tokens.endpoint = self._endpoint
        return inside

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)
        self._standin.stop()


@pytest.fixture
def inside(
    shared: Inside, token_source: TokenServer, caplog: pytest.LogCaptureFixture
) -> Iterator[Inside]:
    """With nothing in the book, no token kept, an answer for everything; at the end nothing secret may be in any log."""
    shared.standin.clear()
    shared.standin.always(reply(200, LIST, OF_JSON))
    token_source.act = None
    shared.do(forget(shared))
    yield shared
    pem = token_endpoint.account()["private_key"].splitlines()[5]
    said = caplog.text + json.dumps(shared.lines())
    for word in (
        AWS["secret_access_key"],
        TEMPORARY["session_token"],
        pem,
        *token_source.tokens,
        "eyJ",
    ):
        assert word not in said


async def forget(inside: Inside) -> None:
    inside.gateway.tokens.forget()
    inside.gateway.keys.forget()


def keep(inside: Inside, provider: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    EmbeddedVault(inside.gateway.config.state.directory).set(provider, text)


def get(inside: Inside, host: str, target: str, **headers: str) -> httpx2.Response:
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        return client.get(f"https://{host}{target}", headers=headers)


def refusal(received: Received, keys: dict[str, str]) -> str:
    """Why AWS would refuse what arrived; empty if it would not."""
    assert received.sni == CONTROL
    return sigv4.problem_of(received, keys, REGION)


# Bedrock


@pytest.mark.parametrize("keys", [AWS, TEMPORARY], ids=["lasting", "temporary"])
def test_bedrock_signed(inside: Inside, keys: dict[str, str]) -> None:
    """AWS would take the signature; nothing of the keys but the session token left, and once."""
    keep(inside, "bedrock", keys)
    answer = get(inside, CONTROL, "/foundation-models?byProvider=Anthropic&byOutputModality=TEXT")
    assert (answer.status_code, answer.content) == (200, LIST)
    [received] = inside.standin.snapshot()
    assert refusal(received, keys) == ""
    everything = received.everything()
    assert keys["secret_access_key"].encode() not in everything
    if "session_token" in keys:
        assert everything.count(keys["session_token"].encode()) == 1
    line = inside.lines()[-1]
    assert (line["provider"], line["cost_usd"], line["charged_by"]) == ("bedrock", "0", "none")


def test_bedrock_signature_of_the_workload(inside: Inside) -> None:
    """A workload's own SigV4, in headers and in a presigned query, is taken off whole."""
    keep(inside, "bedrock", TEMPORARY)
    theirs = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIATHEIRS/20261123/eu-west-1/bedrock/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=00",
        "X-Amz-Date": "20261123T000000Z",
        "X-Amz-Security-Token": "theirs",
        "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD",
    }
    presigned = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIATHEIRS%2F20261123&X-Amz-Date=20261123T000000Z&"
        "byProvider=x&X-Amz-Expires=60&X-Amz-Security-Token=theirs&X-Amz-SignedHeaders=host&x%2Damz-Signature=00"
    )
    assert get(inside, CONTROL, f"/foundation-models?{presigned}", **theirs).status_code == 200
    [received] = inside.standin.snapshot()
    assert received.target == "/foundation-models?byProvider=x"
    assert b"theirs" not in received.everything().lower()
    assert refusal(received, TEMPORARY) == ""


def test_bedrock_api_key(inside: Inside) -> None:
    """A bearer key goes as it is, and nothing is signed."""
    keep(inside, "bedrock", "bedrock-api-key-of-the-tests")
    assert get(inside, CONTROL, "/foundation-models").status_code == 200
    [received] = inside.standin.snapshot()
    assert received.get_all("authorization") == ["Bearer bedrock-api-key-of-the-tests"]
    assert not [name for name, _ in received.headers if name.lower().startswith(b"x-amz-")]


@pytest.mark.parametrize(
    ("host", "target", "status", "reason"),
    [
        (RUNTIME, "/foundation-models", 403, "path_not_allowed"),
        (CONTROL, "/foundation-models/", 403, "path_not_allowed"),
        (CONTROL, "/custom-models", 403, "path_not_allowed"),
        (CONTROL, "/foundation-models?byProvider=a+b", 400, "bad_request"),
        (CONTROL, "/foundation-models?byProvider=%FF", 400, "bad_request"),
        (VERTEX, "/v1/publishers/google/models", 403, "path_not_allowed"),
        (VERTEX, "/v1beta1/publishers/google/voices/a", 403, "path_not_allowed"),
    ],
)
def test_what_is_not_open_or_cannot_be_signed(
    inside: Inside, host: str, target: str, status: int, reason: str
) -> None:
    """Nothing is sent."""
    keep(inside, "bedrock", AWS)
    answer = get(inside, host, target)
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (status, reason)
    assert inside.standin.snapshot() == []
    assert inside.lines()[-1]["attempts_unknown"] == 0


def test_bedrock_rotation(inside: Inside) -> None:
    """Temporary keys that expired are read again, and the call is signed anew with those that are there now."""
    keep(inside, "bedrock", TEMPORARY)
    assert get(inside, CONTROL, "/foundation-models").status_code == 200
    new = {**TEMPORARY, "access_key_id": "ASIANEW", "session_token": "new-token-of-the-tests"}
    keep(inside, "bedrock", new)
    inside.standin.clear()
    inside.standin.always(reply(200, LIST, OF_JSON))
    inside.standin.script(EXPIRED)
    assert get(inside, CONTROL, "/foundation-models").status_code == 200
    first, second = inside.standin.snapshot()
    assert refusal(first, TEMPORARY) == ""
    assert refusal(second, new) == ""


def test_bedrock_repeats_what_it_got(inside: Inside) -> None:
    """An answer that has the session token or the secret key in it reaches the workload without."""
    keep(inside, "bedrock", TEMPORARY)
    body = json.dumps(TEMPORARY).encode()
    inside.standin.always(reply(200, body, [*OF_JSON, ("x-echo", TEMPORARY["session_token"])]))
    answer = get(inside, CONTROL, "/foundation-models")
    assert len(answer.content) == len(body)
    for word in (TEMPORARY["session_token"], TEMPORARY["secret_access_key"]):
        assert word not in answer.text
        assert word not in str(answer.headers)


# Vertex


def test_vertex_token(inside: Inside, token_source: TokenServer) -> None:
    """The minted token, in its one place; the second call waits for none; what says who pays is taken off."""
    keep(inside, "vertex", token_endpoint.account())
    asked = len(token_source.received)
    for _ in range(2):
        answer = get(
            inside,
            VERTEX,
            f"{MODELS}?pageSize=3",
            **{"x-goog-user-project": "another", "x-goog-api-key": "x"},
        )
        assert (answer.status_code, answer.content) == (200, LIST)
    assert token_source.problems == []
    assert len(token_source.received) == asked + 1
    for received in inside.standin.snapshot():
        assert received.get_all("authorization") == [f"Bearer {token_source.tokens[-1]}"]
        assert (received.target, received.sni) == (f"{MODELS}?pageSize=3", VERTEX)
        names = {name.decode().lower() for name, _ in received.headers}
        assert not names & {"x-goog-api-key", "x-goog-user-project"}
        assert b"PRIVATE KEY" not in received.everything()


def test_vertex_live(inside: Inside, token_source: TokenServer) -> None:
    """A session of the Live API: the minted token in its handshake, the usage by Vertex's own names in the line."""
    keep(inside, "vertex", token_endpoint.account())
    get(inside, VERTEX, MODELS)
    inside.standin.keys.add(token_source.tokens[-1])
    inside.standin.clear()
    attacked = Attacked(inside, len(inside.lines()))
    path = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
    client = attacked.tunnel(VERTEX, sni=VERTEX)
    place = "projects/p/locations/europe-west4/publishers/google/models/"
    with client:
        request = handshake("x-goog-user-project: another", path=path, host=VERTEX)
        socket = RawSocket(client, request)
        client.send(text(setup={"model": f"{place}gemini-3.8-live"}))
        socket.until("binary")
        client.send(text(clientContent={"turns": [], "turnComplete": True}))
        while b"turnComplete" not in bytes(socket.until("binary").data):
            pass
        client.send(frame(8, b"\x03\xe8"))
        socket.until("close")
    [line] = attacked.lines(1)
    [received] = inside.standin.snapshot()
    assert received.get_all("authorization") == [f"Bearer {token_source.tokens[-1]}"]
    assert received.get("x-goog-user-project") == ""
    assert (line["provider"], line["model"], line["charged_by"]) == (
        "vertex",
        "gemini-3.8-live",
        "usage",
    )
    assert line["tokens"] == {"input": 40, "output": 30, "input_audio": 30, "output_audio": 30}


def test_vertex_express(inside: Inside) -> None:
    """A key in the secret is express mode's."""
    keep(inside, "vertex", "vertex-api-key-of-the-tests")
    assert get(inside, "aiplatform.googleapis.com", MODELS).status_code == 200
    [received] = inside.standin.snapshot()
    assert received.get_all("x-goog-api-key") == ["vertex-api-key-of-the-tests"]
    assert received.get_all("authorization") == []


def test_vertex_many_at_once(inside: Inside, token_source: TokenServer) -> None:
    """However many calls begin, one token is minted."""
    keep(inside, "vertex", token_endpoint.account())
    asked = len(token_source.received)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: get(inside, VERTEX, MODELS), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(token_source.received) == asked + 1


def test_vertex_refuses_the_token(inside: Inside, token_source: TokenServer) -> None:
    """It is minted anew, once, and the call is repeated with the new one."""
    keep(inside, "vertex", token_endpoint.account())
    inside.standin.script(UNAUTHENTICATED)
    answer = get(inside, VERTEX, MODELS)
    assert (answer.status_code, answer.content) == (200, LIST)
    carried = [received.get("authorization") for received in inside.standin.snapshot()]
    assert carried == [f"Bearer {token}" for token in token_source.tokens[-2:]]
    assert carried[0] != carried[1]
    assert [attempt["outcome"] for attempt in inside.lines()[-1]["attempts"]] == ["401", "200"]


def test_vertex_refuses_every_token(inside: Inside) -> None:
    """A second one is tried and no third; the workload is told that it is not its own credential."""
    keep(inside, "vertex", token_endpoint.account())
    inside.standin.always(UNAUTHENTICATED)
    answer = get(inside, VERTEX, MODELS)
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (502, "credential_refused")
    assert len(inside.standin.snapshot()) == 2


def test_vertex_repeats_what_it_got(inside: Inside, token_source: TokenServer) -> None:
    """An answer that has the token in it reaches the workload without; so does one after a token was minted anew."""
    keep(inside, "vertex", token_endpoint.account())
    assert get(inside, VERTEX, MODELS).status_code == 200
    token = token_source.tokens[-1]
    inside.standin.always(
        reply(200, b'{"echo":"' + token.encode() + b'"}', [*OF_JSON, ("x-echo", f"Bearer {token}")])
    )
    answer = get(inside, VERTEX, MODELS)
    assert token not in answer.text
    assert token not in str(answer.headers)
    assert len(answer.content) == len(token) + 11


@pytest.mark.parametrize(
    "trouble",
    [says_json(500, {}), says_json(400, {"error": "invalid_grant"})],
    ids=["away", "refused"],
)
def test_no_token(inside: Inside, token_source: TokenServer, trouble: Any) -> None:
    """503, nothing is sent to Vertex, and nothing of the reason to the workload."""
    keep(inside, "vertex", token_endpoint.account())
    token_source.act = trouble
    answer = get(inside, VERTEX, MODELS)
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
        503,
        "credential_unavailable",
    )
    assert "oauth2" not in answer.text
    assert inside.standin.snapshot() == []
    assert inside.lines()[-1]["attempts_unknown"] == 0


@pytest.mark.parametrize(
    "changed",
    [{"token_uri": "https://evil.example/token"}, {"universe_domain": "evil.example"}],
    ids=["uri", "universe"],
)
def test_a_forged_account(
    inside: Inside,
    token_source: TokenServer,
    changed: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No assertion is made for somebody else; the log says which field."""
    keep_unchecked(inside, token_endpoint.account(**changed))
    asked = len(token_source.received)
    answer = get(inside, VERTEX, MODELS)
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
        503,
        "credential_unavailable",
    )
    assert len(token_source.received) == asked
    assert inside.standin.snapshot() == []
    assert next(iter(changed)) in caplog.text
    assert "evil" not in answer.text


def keep_unchecked(inside: Inside, account: dict[str, Any]) -> None:
    """As whoever can write the store, but not through our command."""
    directory = inside.gateway.config.state.directory
    put_unchecked(directory, "infrastructure/vertex", {"api_key": json.dumps(account)}, version=99)


# Both


@pytest.mark.parametrize(
    ("provider", "value", "host", "target"),
    [
        ("bedrock", TEMPORARY, CONTROL, "/foundation-models"),
        ("vertex", token_endpoint.account(), "aiplatform.googleapis.com", f"{MODELS}?pageSize=1"),
    ],
    ids=["bedrock", "vertex"],
)
def test_key_test(inside: Inside, provider: str, value: Any, host: str, target: str) -> None:
    """`tollhouse key test` makes the free call, at the host that has it."""
    keep(inside, provider, value)
    gateway = inside.gateway
    rows = inside.do(KeyDesk(gateway.config, gateway.keys, gateway.upstream).test(provider))
    assert [(row["result"], row["host"], row["why"]) for row in rows] == [("ok", host, "")]
    [received] = inside.standin.snapshot()
    assert (received.method, received.target, received.sni) == ("GET", target, host)
    inside.standin.always(UNAUTHENTICATED)
    rows = inside.do(KeyDesk(gateway.config, gateway.keys, gateway.upstream).test(provider))
    assert [row["result"] for row in rows] == ["refused"]


def test_from_a_real_store(tmp_path: Path, openbao: OpenBao, token_source: TokenServer) -> None:
    """The fields of the secrets as a person writes them into Vault."""
    token_source.act = None
    openbao.put("infrastructure/bedrock", TEMPORARY)
    openbao.put("infrastructure/vertex", token_endpoint.account())
    files = {
        "role_id_file": str(openbao.role_id_file),
        "secret_id_file": str(openbao.secret_id_file),
    }
    settings = {"vault": {"address": openbao.address, "auth": {"method": "approle", **files}}}
    with running(tmp_path, token_source, settings) as inside:
        inside.standin.always(reply(200, LIST, OF_JSON))
        assert get(inside, CONTROL, "/foundation-models").status_code == 200
        assert get(inside, VERTEX, MODELS).status_code == 200
        first, second = inside.standin.snapshot()
        assert refusal(first, TEMPORARY) == ""
        assert second.get_all("authorization") == [f"Bearer {token_source.tokens[-1]}"]
