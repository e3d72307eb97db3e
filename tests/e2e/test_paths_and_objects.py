"""Endpoints that an operator opens, jobs, what is never opened, and whose the objects are that a provider keeps.

The provider speaks the tests' own family where a family has to know jobs and objects, and OpenAI's else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import DefaultHttpxClient, OpenAI, PermissionDeniedError
from tests.families.tiny import TINY
from tests.support.gateway import PLACEHOLDER, Stores
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, reply

HOST = "https://api.openai.com"
OWN_KEY = "sk-the-key-of-cedar-alone-0123456789"
PROJECTS: dict[str, Any] = {
    "projects.proj_123": {"tenant": "acme", "limits": ["10 usd/day"]},
    "projects.proj_456": {"tenant": "acme", "limits": ["10 usd/day"]},
    "projects.birch_1": {"tenant": "birch", "limits": ["10 usd/day"]},
    "projects.cedar_1": {"tenant": "cedar", "limits": ["10 usd/day"]},
    'prices."openai/parrot-1"': {"input": "1", "output": "10"},
}
TALK = {"m": "parrot-1", "most": 20, "say": "hello"}


def json_of(document: Any, status: int = 200) -> Behaviour:
    return reply(status, json.dumps(document).encode(), [("content-type", "application/json")])


class Birds:
    """A gateway whose provider speaks the tests' own family, and the clients of its projects."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self._tokens = {"proj_123": inside.token}

    def token(self, project: str) -> str:
        if project not in self._tokens:
            perform = self.inside.gateway.operations.perform
            made = self.inside.do(perform("token_create", {"projects": [project]}))
            self._tokens[project] = made["token"]
        return self._tokens[project]

    def ask(self, project: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """The status, and the reason if it is a refusal of ours."""
        proxy = f"http://{project}:{self.token(project)}@{self.inside.gateway.addresses['proxy']}"
        with httpx2.Client(
            proxy=proxy, verify=self.inside.context, trust_env=False, timeout=30
        ) as client:
            answer = client.request(method, HOST + path, json=body)
        self.said = answer.text
        return answer.status_code, answer.headers.get("x-tollhouse-reason", "")

    def reached(self) -> list[tuple[str, str]]:
        """Method and target of each request that the provider got."""
        return [(one.method, one.target) for one in self.inside.standin.snapshot()]

    def last_line(self) -> dict[str, Any]:
        self.inside.until(lambda gateway: not gateway.journey.under_way)
        return self.inside.lines()[-1]


@contextlib.contextmanager
def opened_birds(
    directory: Path, provider: dict[str, Any], stores: Stores = "embedded"
) -> Iterator[Birds]:
    settings = PROJECTS | {"providers.openai": provider}
    with open_inside(
        directory, settings, stores=stores, family=TINY, own_keys={"cedar_1": OWN_KEY}
    ) as inside:
        yield Birds(inside)


NOT_YOURS = (403, "object_not_yours")


@pytest.mark.parametrize("stores", ["embedded", "real"])
def test_an_object_is_its_tenants(tmp_path: Path, stores: Stores) -> None:
    """In a path and in a body, for each project of the tenant, and for no other tenant. With a key of one's own all is
    open."""
    with opened_birds(tmp_path, {}, stores) as birds:
        standin = birds.inside.standin
        standin.always(json_of({"nest": "nest-1"}))
        assert birds.ask("proj_123", "POST", "/nests", {}) == (200, "")
        standin.always(json_of({"t": "hi", "in": 1, "out": 1, "by": "parrot-1"}))
        named = {**TALK, "nest": "nest-1"}
        for project in ("proj_123", "proj_456"):
            assert birds.ask(project, "GET", "/nests/nest-1") == (200, "")
            assert birds.ask(project, "POST", "/talk", named) == (200, "")
        got = len(birds.reached())
        assert got == 5
        assert birds.ask("birch_1", "GET", "/nests/nest-1") == NOT_YOURS
        assert "No call of tenant birch has made 'nest-1'." in birds.said
        assert "[providers.openai] share_objects = true" in birds.said
        assert birds.ask("birch_1", "POST", "/talk", named) == NOT_YOURS
        line = birds.last_line()
        assert (line["gate"], line["cost_usd"], line["charged_by"]) == ("objects", "0", "none")
        assert birds.ask("birch_1", "POST", "/talk", TALK) == (200, "")
        for project in ("proj_123", "birch_1"):
            assert birds.ask(project, "GET", "/nests") == NOT_YOURS
            assert birds.ask(project, "DELETE", "/nests/nest-1") == NOT_YOURS
        assert len(birds.reached()) == got + 1
        assert birds.inside.held() == []
        for method, path in (("GET", "/nests"), ("GET", "/nests/nest-9"), ("DELETE", "/nests/x")):
            assert birds.ask("cedar_1", method, path) == (200, "")
            assert birds.reached()[-1] == (method, path)
        [key] = standin.snapshot()[-1].get_all("authorization")
        assert key == f"Bearer {OWN_KEY}"


def test_objects_are_shared_if_one_says_so(tmp_path: Path) -> None:
    """Lists, deletions and the objects of others."""
    with opened_birds(tmp_path, {"share_objects": True}) as birds:
        birds.inside.standin.always(json_of({}))
        for method, path in (("GET", "/nests"), ("GET", "/nests/nest-9"), ("DELETE", "/nests/x")):
            assert birds.ask("birch_1", method, path) == (200, "")


def test_what_is_closed_for_good(tmp_path: Path) -> None:
    """No entry opens it, in no spelling, and nothing of it leaves."""
    opened = {"allow": ["POST /*", "GET /*/*", "GET /other/*"], "job_hold_usd": 1}
    with opened_birds(tmp_path, opened) as birds:
        for path in ("/feathers", "/Feathers", "/FEATHERS"):
            assert birds.ask("proj_123", "POST", path, {}) == (403, "endpoint_forbidden")
            assert f"POST {path} gives a credential or a session" in birds.said
        assert birds.ask("proj_123", "GET", "/keepers/ada") == (403, "endpoint_forbidden")
        assert "GET /keepers/ada administrates the provider's account" in birds.said
        assert birds.ask("proj_123", "POST", "/feath%65rs", {}) == (403, "path_not_allowed")
        assert birds.reached() == []
        assert birds.last_line()["decision"] == "deny"


def test_a_job_is_closed_until_it_is_named(tmp_path: Path) -> None:
    """And the refusal says how."""
    with opened_birds(tmp_path, {}) as birds:
        assert birds.ask("proj_123", "POST", "/races", {}) == (403, "path_not_allowed")
        assert '[providers.openai] allow = [\\"POST /races\\"] and job_hold_usd' in birds.said
        assert birds.reached() == []


def test_a_job_costs_what_is_configured(tmp_path: Path) -> None:
    """It is held before it leaves, charged when it has begun, and its id is its tenant's. A refused one costs nothing."""
    opened = {"allow": ["POST /races"], "job_hold_usd": "4.50"}
    with opened_birds(tmp_path, opened) as birds:
        standin = birds.inside.standin
        standin.script(
            json_of({"oops": "no"}, 400), json_of({"id": "race-1"}), json_of({"id": "race-2"})
        )
        assert birds.ask("proj_123", "POST", "/races", {"birds": 2}) == (400, "")
        assert birds.ask("proj_123", "POST", "/races", {"birds": 2}) == (200, "")
        assert standin.snapshot()[-1].body == b'{"birds":2}'
        line = birds.last_line()
        assert (line["cost_usd"], line["held_usd"], line["charged_by"]) == ("4.5", "4.5", "hold")
        assert birds.ask("proj_123", "POST", "/races", {}) == (200, "")
        assert birds.ask("proj_123", "POST", "/races", {}) == (402, "budget_exceeded")
        assert "may cost up to 4.5 USD" in birds.said
        assert "cap" not in birds.said
        assert Decimal(birds.inside.budget()["10 usd/day"]["used"]) == 9
        standin.always(json_of({"t": "hi", "in": 1, "out": 1, "by": "parrot-1"}))
        assert birds.ask("proj_456", "POST", "/talk", {**TALK, "nest": "race-1"}) == (200, "")
        assert birds.ask("birch_1", "POST", "/talk", {**TALK, "nest": "race-1"}) == NOT_YOURS


# Endpoints that no family knows, through OpenAI's SDK.

NEW = {"allow": ["POST /v1/new_thing", "GET /v1/new_thing/*"], "unmetered": ["GET /v1/new_list"]}


def sdk(inside: Inside) -> OpenAI:
    client = DefaultHttpxClient(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    return OpenAI(api_key=PLACEHOLDER, http_client=client, max_retries=0)


def line_of(inside: Inside) -> dict[str, Any]:
    inside.until(lambda gateway: not gateway.journey.under_way)
    return inside.lines()[-1]


def test_an_unknown_endpoint_is_charged_by_what_its_answer_says(tmp_path: Path) -> None:
    """A dollar is held. By the usage of a plain answer and of a stream, and all of it where there is none."""
    with open_inside(tmp_path, {"providers.openai": NEW}) as inside:
        client = sdk(inside)
        usage = {"input_tokens": 1000, "output_tokens": 100}
        served = {"id": "new_1", "model": "gpt-4o-2024-08-06", "usage": usage}
        inside.standin.always(json_of(served))
        body = {"model": "gpt-4o", "say": "hi"}
        assert client.post("/new_thing", body=body, cast_to=dict[str, Any]) == served
        received = inside.standin.snapshot()[-1]
        assert (received.target, received.document()) == ("/v1/new_thing", body)
        line = line_of(inside)
        assert (line["cost_usd"], line["held_usd"], line["charged_by"]) == ("0.0035", "1", "usage")
        assert (line["model"], line["model_served"]) == ("gpt-4o", "gpt-4o-2024-08-06")

        events = [{"type": "begun"}, {"type": "done", "response": served}]
        data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        inside.standin.always(reply(200, [data], [("content-type", "text/event-stream")]))
        answer = client.post("/new_thing", body={**body, "stream": True}, cast_to=httpx2.Response)
        assert answer.content == data
        line = line_of(inside)
        assert (line["cost_usd"], line["stream"], line["charged_by"]) == ("0.0035", True, "usage")

        inside.standin.always(json_of({"id": "new_1"}))
        client.get("/new_thing/new_1", cast_to=dict[str, Any])
        line = line_of(inside)
        assert (line["cost_usd"], line["held_usd"], line["charged_by"]) == ("1", "1", "hold")

        client.get("/new_list", cast_to=dict[str, Any])
        line = line_of(inside)
        assert (line["cost_usd"], line["held_usd"], line["charged_by"]) == ("0", "0", "none")
        assert inside.held() == []


def test_a_closed_endpoint_says_what_opens_it(tmp_path: Path) -> None:
    """The SDK raises it as its own error, and nothing leaves."""
    with open_inside(tmp_path, {"providers.openai": NEW}) as inside:
        with pytest.raises(PermissionDeniedError) as caught:
            sdk(inside).post("/new_thing/x/run", body={}, cast_to=dict[str, Any])
        assert caught.value.code == "path_not_allowed"
        assert '[providers.openai] allow = ["POST /v1/new_thing/x/run"]' in str(caught.value)
        assert 'unmetered = ["POST /v1/new_thing/x/run"]' in str(caught.value)
        assert inside.standin.snapshot() == []


def test_a_body_that_is_not_json_passes_unread(tmp_path: Path) -> None:
    """Byte for byte, under its own type; one that can be read in two ways is refused."""
    with (
        open_inside(tmp_path, {"providers.openai": NEW}) as inside,
        httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client,
    ):
        inside.standin.always(json_of({}))
        data, kind = b"\x00\xff--not json", {"content-type": "audio/wav"}
        assert client.post(HOST + "/v1/new_thing", content=data, headers=kind).status_code == 200
        received = inside.standin.snapshot()[-1]
        assert (received.body, received.get("content-type")) == (data, "audio/wav")
        twice = b' {"model":"a","model":"b"}'
        assert client.post(HOST + "/v1/new_thing", content=twice, headers=kind).status_code == 400
        assert len(inside.standin.snapshot()) == 1
