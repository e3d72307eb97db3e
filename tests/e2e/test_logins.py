"""A workload's own login at its provider: passed where a project says so, to that provider alone, metered and not charged."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from tests.support.gateway import REAL_KEY, Road, open_road

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

LOGIN = "sk-ant-oat01-a-login-of-a-subscription-0123456789abcdefghijklmnop"
OWN_KEY = "sk-ant-api03-a-key-of-the-workloads-own-0123456789abcdefghijk"


def jwt(payload: dict[str, Any]) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, payload)
    texts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts
    ]
    return ".".join([*texts, "c2lnbmF0dXJl" * 8])


CHATGPT = jwt({"iss": "https://auth.openai.com", "sub": "user-0123456789"})
MODEL = "claude-sonnet-5"
MESSAGES = "https://api.anthropic.com/v1/messages"
CODEX = "https://chatgpt.com/backend-api/codex/responses"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 60,
    "messages": [{"role": "user", "content": "Who pays at the tollhouse?"}],
}
CODED: dict[str, Any] = {
    "model": "gpt-5.1",
    "input": "Who pays at the tollhouse?",
    "stream": True,
    "store": False,
}
BETA = {"anthropic-version": "2023-06-01", "anthropic-beta": "oauth-2025-04-20"}


_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["embedded", "real"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    hosts = ("localhost", "api.openai.com", "api.anthropic.com", "chatgpt.com")
    with StandIn(key=REAL_KEY, hosts=hosts) as standin:
        standin.keys |= {LOGIN, CHATGPT, OWN_KEY}
        own = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings = {"providers.anthropic": own, "providers.chatgpt": own}
        directory = tmp_path_factory.mktemp(f"logins-{request.param}")
        with open_road(directory, settings, stores=request.param, standin=standin) as road:
            yield road


@pytest.fixture
def road(gateway: Road) -> Road:
    """With a project of the test's own."""
    gateway.standin.clear()
    return of_project(gateway, login="pass", limits=["0.000001 usd/day"])


def of_project(road: Road, **settings: Any) -> Road:
    config = load_config(road.gateway.config)
    project = f"proj_{next(_numbers)}"
    perform(config, "project_set", {"project": project, "tenant": road.tenant, **settings})
    token = str(perform(config, "token_create", {"projects": [project]})["token"])
    made = dataclasses.replace(road, project=project, token=token)
    made.fresh()
    return made


def post(road: Road, url: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with road.http() as client:
        return client.post(url, json=body, headers={**BETA, **given})


def test_claude(road: Road) -> None:
    """Anthropic's SDK with a login: it goes as it is, beside no key of ours, though the budget has no money left."""
    client = Anthropic(auth_token=LOGIN, api_key=None, http_client=road.http())
    answer = client.messages.create(**ASKED, extra_headers=BETA)
    assert answer.content
    [received] = road.standin.wait_count(1)
    assert received.get("authorization") == f"Bearer {LOGIN}"
    assert not received.get("x-api-key")
    assert not received.get("proxy-authorization")
    [line] = road.wait_lines(1)
    assert (line["status"], line["charged_by"]) == (200, "usage")
    assert (line["cost_usd"], line["held_usd"]) == ("0", "0")
    assert Decimal(line["notional_usd"]) == Decimal("0.000188")
    assert line["tokens"] == {"input": 14, "output": 16}
    assert line["key_version"] == "login"
    assert LOGIN not in json.dumps(line)


def test_chatgpt(road: Road) -> None:
    """Codex's own path, as a stream, with the account that it names."""
    answer = post(
        road, CODEX, CODED, authorization=f"Bearer {CHATGPT}", chatgpt_account_id="account-1"
    )
    assert answer.status_code == 200, answer.text
    assert "response.completed" in answer.text
    [received] = road.standin.wait_count(1)
    assert received.get("authorization") == f"Bearer {CHATGPT}"
    assert received.get("chatgpt-account-id") == "account-1"
    [line] = road.wait_lines(1)
    assert (line["provider"], line["cost_usd"], line["charged_by"]) == ("chatgpt", "0", "usage")
    assert Decimal(line["notional_usd"]) > 0
    assert line["tokens"]["output"] > 0


def test_what_codex_asks_before_its_calls(road: Road) -> None:
    """Where its account's workspace is: free, with the login, and not without one."""
    url = "https://chatgpt.com/backend-api/wham/accounts/check"
    with road.http() as client:
        given = {"authorization": f"Bearer {CHATGPT}", "chatgpt-account-id": "account-1"}
        answer = client.get(url, headers=given)
        assert (answer.status_code, answer.json()["default_account_id"]) == (200, "account-1")
        assert client.get(url).headers["x-tollhouse-reason"] == "path_not_allowed"
    [received] = road.standin.wait_count(1)
    assert received.get("authorization") == f"Bearer {CHATGPT}"
    line = road.wait_lines(2)[0]
    assert (line["key_version"], line["cost_usd"], line["charged_by"]) == ("login", "0", "none")


def test_limits_in_tokens_and_requests(road: Road) -> None:
    """They hold; one in money does not count the calls."""
    limits = ["10 usd/day", "2 requests/day", "100000 tokens/day"]
    road = of_project(road, login="pass", limits=limits)
    login = {"authorization": f"Bearer {LOGIN}"}
    before = road.budget()
    for _ in range(2):
        assert post(road, MESSAGES, ASKED, **login).status_code == 200
    refused = post(road, MESSAGES, ASKED, **login)
    assert refused.status_code == 429
    assert refused.headers["x-tollhouse-reason"] == "rate_limited"
    after = road.budget()
    assert after["10 usd/day"]["used"] == before["10 usd/day"]["used"]
    used = [int(state["100000 tokens/day"]["used"]) for state in (before, after)]
    assert used[1] - used[0] == 60
    assert len(road.standin.snapshot()) == 2


def test_a_model_without_a_price(road: Road) -> None:
    """It costs us nothing, so that nothing has to be known."""
    body = {**ASKED, "model": "claude-of-tomorrow-9"}
    answer = post(road, MESSAGES, body, authorization=f"Bearer {LOGIN}")
    assert answer.status_code == 200
    [line] = road.wait_lines(1)
    assert (line["cost_usd"], line["notional_usd"]) == ("0", "0")


@pytest.mark.parametrize(
    ("url", "authorization"),
    [
        (MESSAGES, f"Bearer {OWN_KEY}"),
        (MESSAGES, f"Bearer {CHATGPT}"),
        (MESSAGES, f"Basic {LOGIN}"),
        (MESSAGES, "Bearer sk-ant-oat"),
        ("https://api.openai.com/v1/chat/completions", f"Bearer {LOGIN}"),
        ("https://api.openai.com/v1/chat/completions", f"Bearer {CHATGPT}"),
    ],
    ids=["own key", "other login", "no bearer", "too short", "elsewhere", "ChatGPT at the API"],
)
def test_what_is_no_login_of_that_provider(road: Road, url: str, authorization: str) -> None:
    """It is taken off, and the call is one with our key: held, and here refused for its money."""
    body = {**ASKED, "model": MODEL if url == MESSAGES else "gpt-4o"}
    answer = post(road, url, body, authorization=authorization)
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (402, "budget_exceeded")
    assert road.standin.snapshot() == []


def test_an_own_key_is_taken_off(road: Road) -> None:
    """Beside a login as well as alone."""
    answer = post(road, MESSAGES, ASKED, authorization=f"Bearer {LOGIN}", x_api_key=OWN_KEY)
    assert answer.status_code == 200
    [received] = road.standin.wait_count(1)
    assert OWN_KEY.encode() not in received.everything()
    assert REAL_KEY.encode() not in received.everything()


def test_off_unless_written(road: Road) -> None:
    """The login is taken off: our key is used in its place, where there is one."""
    road = of_project(road, limits=["10 usd/day"])
    answer = post(road, MESSAGES, ASKED, authorization=f"Bearer {LOGIN}")
    assert answer.headers.get("x-tollhouse-reason") in (None, "credential_unavailable")
    assert all(LOGIN.encode() not in one.everything() for one in road.standin.snapshot())
    answer = post(road, CODEX, CODED, authorization=f"Bearer {CHATGPT}")
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (403, "path_not_allowed")
    assert "takes a subscription's login alone" in answer.text
    assert all(CHATGPT.encode() not in one.everything() for one in road.standin.snapshot())


def test_who_calls_is_said_beside_it(road: Road) -> None:
    """A login is no identity."""
    with road.http(credentials=False) as client:
        given = {**BETA, "authorization": f"Bearer {LOGIN}"}
        answer = client.post(MESSAGES, json=ASKED, headers=given)
    assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (401, "identity_unknown")
    assert road.standin.snapshot() == []


def test_a_gate_token_is_no_login(road: Road) -> None:
    """It never leaves, whatever it stands in."""
    for url, token in ((MESSAGES, f"sk-ant-oat01-{road.token}"), (CODEX, f"eyJ{road.token}.a.b")):
        post(road, url, ASKED, authorization=f"Bearer {token}")
    assert all(road.token.encode() not in one.everything() for one in road.standin.snapshot())


def test_a_login_that_an_answer_repeats(road: Road) -> None:
    """It is overwritten, as a key of ours is."""
    body = json.dumps({"type": "error", "error": {"type": "x", "message": f"bad {LOGIN}"}}).encode()
    road.standin.script(reply(401, body, [("content-type", "application/json")]))
    answer = post(road, MESSAGES, ASKED, authorization=f"Bearer {LOGIN}")
    assert answer.status_code == 401
    assert "x-tollhouse-reason" not in answer.headers
    assert LOGIN not in answer.text
    assert len(road.standin.snapshot()) == 1
    assert LOGIN not in road.gateway.stderr + road.gateway.stdout


def test_what_codex_asks_beside_its_calls(road: Road) -> None:
    """404 inside TLS, before anything else: it waits for nothing else so briefly."""
    with road.http(credentials=False) as client:
        answer = client.get("https://chatgpt.com/backend-api/plugins")
    assert answer.status_code == 404
