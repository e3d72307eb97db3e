"""Whom a breaker pauses: through the running gateway, with two tenants who use one key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, reply

URL = "https://api.openai.com/v1/chat/completions"
FAILS = reply(500, b'{"error":{"message":"ill"}}')
OTHER = "proj_other"


class Two:
    """``first`` and ``second`` make a call of a model, and give the status or our reason."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        made = inside.do(inside.gateway.operations.perform("token_create", {"projects": [OTHER]}))
        self._tokens = {PROJECT: inside.token, OTHER: str(made["token"])}

    def ask(self, project: str, model: str, times: int = 1) -> list[str]:
        proxy = f"http://{project}:{self._tokens[project]}@{self.inside.gateway.addresses['proxy']}"
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        with httpx2.Client(
            proxy=proxy, verify=self.inside.context, trust_env=False, timeout=30
        ) as client:
            answers = [client.post(URL, json=body) for _ in range(times)]
        return [one.headers.get("x-tollhouse-reason", str(one.status_code)) for one in answers]

    def ill(self) -> None:
        self.inside.standin.always(FAILS)

    def well(self) -> None:
        self.inside.standin.always(Behaviour())


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    settings = {
        "providers.openai": {"attempts": 1},
        f"projects.{PROJECT}": {"tenant": TENANT, "limits": ["1000 requests/minute"]},
        f"projects.{OTHER}": {"tenant": "initech", "limits": ["1000 requests/minute"]},
    }
    with open_inside(tmp_path, settings) as inside:
        yield Two(inside)


def test_one_tenant_fails(two: Two) -> None:
    """Its own calls of that model are paused, and nothing else."""
    two.ill()
    assert two.ask(PROJECT, "gpt-4o", 11) == ["500"] * 10 + ["breaker_open"]
    two.well()
    assert two.ask(PROJECT, "gpt-4o") == ["breaker_open"]
    assert two.ask(PROJECT, "gpt-4o-mini") == ["200"]
    assert two.ask(OTHER, "gpt-4o") == ["200"]
    assert [line["breaker"] for line in two.inside.lines()[-4:]] == [
        "open",
        "open",
        "closed",
        "closed",
    ]


def test_several_tenants_fail(two: Two) -> None:
    """It is the provider then: both are paused before either has found out alone, but for another model."""
    two.ill()
    for project in (PROJECT, OTHER):
        assert two.ask(project, "gpt-4o", 5) == ["500"] * 5
    for project in (PROJECT, OTHER):
        assert two.ask(project, "gpt-4o") == ["breaker_open"]
        assert two.ask(project, "gpt-4o-mini") == ["500"]


def test_a_model_that_a_project_names(two: Two) -> None:
    """It has no price, and a breaker of its own all the same."""
    perform = two.inside.gateway.operations.perform
    listed = {"project": PROJECT, "tenant": TENANT, "models": ["*", "own-1", "openai/own-2"]}
    two.inside.do(perform("project_set", listed))
    two.ill()
    assert two.ask(PROJECT, "own-1", 11)[9:] == ["500", "breaker_open"]
    assert two.ask(PROJECT, "own-2") == ["500"]
    assert two.ask(PROJECT, "not-named") == ["500"]


def test_names_that_nobody_knows(two: Two) -> None:
    """They share a breaker, so that a client can't have one made for each name that it thinks of."""
    two.ill()
    for number in range(10):
        assert two.ask(PROJECT, f"no-such-model-{number}") == ["500"]
    assert two.ask(PROJECT, "another-such-model") == ["breaker_open"]
    assert two.ask(PROJECT, "gpt-4o") == ["500"]
