"""SECURITY.md rows 15 to 17: who is calling."""

from __future__ import annotations

import base64
import time

import pytest
from tests.support.attack import GET, Attacked, get
from tests.support.inproc import PROJECT, TENANT

from tollhouse.accounts.token import mint, token_id

OWN_KEY = "sk-proj-the-workloads-own-key-0123456789abcdef"
STRANGER = mint(bytes(range(32)))
"""Well formed, and made by nobody."""


def basic(user: str, password: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def second(attacked: Attacked) -> dict[str, str]:
    """Tokens of every kind, of a project of its own."""
    gateway = attacked.inside.gateway
    made: dict[str, str] = {}

    async def make() -> None:
        perform = gateway.operations.perform
        await perform(
            "project_set", {"project": "proj_other", "tenant": TENANT, "limits": ["10 usd/day"]}
        )
        for name in ("other", "revoked", "expired", "both"):
            projects = [PROJECT, "proj_other"] if name == "both" else ["proj_other"]
            made[name] = str((await perform("token_create", {"projects": projects}))["token"])
        await gateway.directory.revoke(token_id(made["revoked"]))
        await gateway.directory.expire(token_id(made["expired"]), time.time() - 1)

    attacked.inside.do(make())
    return made


@pytest.mark.parametrize("way", ["basic", "bearer", "slot", "x-api-key", "api-key", "query"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("stranger", "identity_unknown"),
        ("revoked", "identity_revoked"),
        ("expired", "identity_expired"),
        ("short", "identity_unknown"),
        ("wrong checksum", "identity_unknown"),
        ("empty", "identity_unknown"),
        ("own key", "identity_unknown"),
    ],
)
def test_a_bad_token(
    attacked: Attacked, second: dict[str, str], way: str, kind: str, reason: str
) -> None:
    """Rows 15 and 16: unknown, revoked, expired, malformed, or a provider's own key, in each place."""
    good = attacked.inside.token
    made = {
        "stranger": STRANGER,
        "short": good[:-1],
        "wrong checksum": good[:-1] + "!",
        "empty": "",
        "own key": OWN_KEY,
    }
    secret = (second | made)[kind]
    ways = {
        "basic": (basic(PROJECT, secret), ()),
        "bearer": (f"Proxy-Authorization: Bearer {secret}", ()),
        "slot": (None, (f"Authorization: Bearer {secret}",)),
        "x-api-key": (None, (f"X-Api-Key: {secret}",)),
        "api-key": (None, (f"Api-Key: {secret}",)),
    }
    if way == "query":
        with attacked.tunnel(headers=()) as client:
            answer = client.ask(get(path=f"/v1/models?key={secret.replace('!', '%21')}"))
    else:
        proxy, slots = ways[way]
        answer = attacked.ask_in_tunnel(proxy, *slots)
    attacked.refused(answer, 401, reason)


@pytest.mark.parametrize(
    "proxy",
    [
        "Proxy-Authorization: Basic !!!",
        "Proxy-Authorization: Basic",
        "Proxy-Authorization: Basic " + base64.b64encode(b"no colon").decode(),
        "Proxy-Authorization: Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Proxy-Authorization: Digest username=x",
        "Proxy-Authorization: Negotiate YII=",
        "Proxy-Authorization: x",
        "Proxy-Authorization:",
    ],
)
def test_credentials_that_cannot_be_read(attacked: Attacked, proxy: str) -> None:
    """Row 15: whatever stands there decides; a good token in the slot does not make up for it."""
    answer = attacked.ask_in_tunnel(proxy, f"Authorization: Bearer {attacked.inside.token}")
    attacked.refused(answer, 401, "identity_unknown")


def test_no_credentials(attacked: Attacked) -> None:
    """Nothing at all."""
    attacked.refused(attacked.ask_in_tunnel(None), 401, "identity_missing")


def test_a_project_of_somebody_else(attacked: Attacked, second: dict[str, str]) -> None:
    """Row 15: a good token names another project in the header, and in the user name."""
    answer = attacked.ask_in_tunnel(attacked.credentials, "X-Coreason-Project-ID: proj_other")
    attacked.refused(answer, 403, "project_not_allowed")


@pytest.mark.parametrize(
    "user", ["proj_other", "proj_nobody", "../proj_123", "proj_123 ", "PROJ_123"]
)
def test_a_project_of_somebody_else_as_user(
    attacked: Attacked, second: dict[str, str], user: str
) -> None:
    """Row 15: the Basic user name is no way around it."""
    answer = attacked.ask_in_tunnel(basic(user, attacked.inside.token))
    attacked.refused(answer, 403, "project_not_allowed")


def test_several_projects_and_none_chosen(attacked: Attacked, second: dict[str, str]) -> None:
    """A token of two projects has to say which one pays."""
    answer = attacked.ask_in_tunnel(None, f"Authorization: Bearer {second['both']}")
    attacked.refused(answer, 400, "bad_request")


def test_a_wrong_token_does_not_fall_through(attacked: Attacked) -> None:
    """A bad token on the CONNECT and a good one in the slot: the first decides."""
    answer = attacked.ask_in_tunnel(
        basic(PROJECT, STRANGER), f"Authorization: Bearer {attacked.inside.token}"
    )
    attacked.refused(answer, 401, "identity_unknown")


def test_the_request_cannot_outbid_its_tunnel(attacked: Attacked) -> None:
    """A Proxy-Authorization inside the tunnel is not read when the CONNECT had one; it is stripped."""
    answer = attacked.ask_in_tunnel(basic(PROJECT, STRANGER), attacked.credentials)
    attacked.refused(answer, 401, "identity_unknown")


def test_a_token_revoked_in_an_open_tunnel(attacked: Attacked) -> None:
    """Identity is judged for each request: a tunnel that is open does not outlive its token."""
    gateway = attacked.inside.gateway
    made = attacked.inside.do(gateway.operations.perform("token_create", {"projects": [PROJECT]}))
    with attacked.tunnel(headers=(basic(PROJECT, made["token"]),)) as client:
        assert client.ask(GET).status == 200
        attacked.inside.do(gateway.directory.revoke(token_id(made["token"])))
        answer = client.ask(GET)
    assert (answer.status, answer.reason) == (401, "identity_revoked")
    assert len(attacked.inside.standin.snapshot()) == 1
    attacked.lines(2)


@pytest.mark.parametrize(
    "slot",
    [
        f"Authorization: Bearer {OWN_KEY}",
        f"Authorization: {OWN_KEY}",
        f"Authorization: Basic {base64.b64encode(OWN_KEY.encode()).decode()}",
        f"authorization: bearer {OWN_KEY}",
        f"X-Api-Key: {OWN_KEY}",
        f"X-API-KEY: {OWN_KEY}",
        f"x_api_key: {OWN_KEY}",
        f"Api-Key: {OWN_KEY}",
        f"X-Goog-Api-Key: {OWN_KEY}",
        f"Ocp-Apim-Subscription-Key: {OWN_KEY}",
    ],
)
def test_a_key_of_its_own_is_stripped(attacked: Attacked, slot: str) -> None:
    """Row 16: beside a valid Proxy-Authorization the call goes out, with our key and without the workload's."""
    assert attacked.ask_in_tunnel(attacked.credentials, slot).status == 200
    attacked.clean(OWN_KEY, base64.b64encode(OWN_KEY.encode()).decode(), "api-key", "api_key")
    attacked.lines(1)


@pytest.mark.parametrize(
    ("token_in", "key_in", "status"),
    [
        ("Authorization: Bearer {}", "X-Api-Key: {}", 200),
        ("Authorization: Bearer {}", "Api-Key: {}", 200),
        ("Authorization: Bearer {}", "X-Goog-Api-Key: {}", 200),
        ("X-Api-Key: {}", "X-Goog-Api-Key: {}", 200),
        ("X-Api-Key: {}", "Authorization: Bearer {}", 401),
        ("X-Goog-Api-Key: {}", "Api-Key: {}", 401),
    ],
)
def test_two_slots(attacked: Attacked, token_in: str, key_in: str, status: int) -> None:
    """Row 17: the first slot decides, and neither is forwarded."""
    answer = attacked.ask_in_tunnel(
        None, token_in.format(attacked.inside.token), key_in.format(OWN_KEY)
    )
    if status == 200:
        assert answer.status == 200
        attacked.clean(OWN_KEY, "api-key")
        attacked.lines(1)
    else:
        attacked.refused(answer, 401, "identity_unknown")
