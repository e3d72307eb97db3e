"""The first gates as one judgement: what they find out, and in which order they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from tests.admit.test_identity import TOKEN, OneToken, Record
from tests.families.tiny import RACE, TALK, TINY
from tests.support.calls import HOST, models_head
from tests.support.values import replace

from tollhouse.accounts.remembered import Remembered
from tollhouse.accounts.token import digest
from tollhouse.admit.gate import admit_gates
from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.call import (
    Addressed,
    Admitted,
    Aimed,
    Arrival,
    Billed,
    Identified,
    RequestHead,
    Stage,
)
from tollhouse.denial import Denial, Refused
from tollhouse.families.opened import opened, parse_opening
from tollhouse.families.operation import MODELS
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.parties import Project
from tollhouse.providers import BUILT_IN, Catalog, Provider
from tollhouse.providers.openai import OPENAI


class Directory(OneToken):
    """One token and one project."""

    def __init__(self, project: Project | None, record: Record | None = None) -> None:
        super().__init__(record or Record())
        self._project = project

    async def get_project(self, project_id: str) -> Project | None:
        return self._project


PROJECT = Project("proj", "acme")
BEARER = ("authorization", f"Bearer {TOKEN}")


@dataclass(frozen=True)
class Judged:
    """The last stage that the call reached, and why it went no further."""

    stage: Stage
    denial: Denial | None = None

    @property
    def code(self) -> str:
        return self.denial.code if self.denial is not None else ""

    @property
    def admitted(self) -> Admitted:
        assert isinstance(self.stage, Admitted)
        return self.stage


async def judged(
    request_head: RequestHead,
    directory: Any = None,
    remembered: Remembered | None = None,
    providers: Sequence[Provider] = BUILT_IN,
) -> Judged:
    """What all gates make of it. Each gives what it says that it gives."""
    accounts = Accounts(directory or Directory(PROJECT), remembered)
    gates = admit_gates(
        Catalog(tuple(providers)),
        accounts,
        Identifier(accounts, lambda: 1000.0),
        base_url_hosts=["localhost"],
        project_header="X-Coreason-Project-ID",
        trace_header="X-Coreason-Trace-ID",
    )
    stage: Any = Arrival.begin(request_head)
    for gate in gates:
        assert gate.name == "admit"
        try:
            stage = await gate(stage, None)
        except Refused as refused:
            return Judged(stage, refused.denial)
        assert type(stage) is gate.gives
    return Judged(stage)


async def test_what_it_fills_in() -> None:
    """Everything that the gates behind them need."""
    request = models_head(
        BEARER,
        ("accept", "a"),
        ("cookie", "c"),
        ("x-coreason-trace-id", "abc-123"),
        ("x-coreason-project-id", "proj"),
        target="/v1/models/gpt-4o?key=x&a=b",
    )
    call = (await judged(request)).admitted
    assert call.arrival.head is request
    assert (call.provider.name, call.host, call.path, call.query) == (
        "openai",
        HOST,
        "/v1/models/gpt-4o",
        "a=b",
    )
    assert (call.identity.token_id, call.project, call.remembered) == ("tok_1", PROJECT, False)
    assert call.headers == (("accept", "a"),)
    assert call.operation == MODELS


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (models_head(BEARER, ("host", "evil.test")), "authority_mismatch"),
        (models_head(BEARER, target="/v1//models"), "bad_request"),
        (models_head(BEARER, BEARER), "bad_request"),
        (models_head(), "identity_missing"),
        (models_head(("authorization", "Bearer sk-x")), "identity_unknown"),
        (models_head(BEARER, ("x-coreason-project-id", "other")), "project_not_allowed"),
        (models_head(BEARER, target="/v1/engines"), "path_not_allowed"),
        (models_head(BEARER, method="DELETE"), "path_not_allowed"),
        (models_head(BEARER, target="/v1/models/"), "path_not_allowed"),
        # A stranger does not learn which paths are open, nor which projects there are.
        (models_head(target="/v1/engines"), "identity_missing"),
        (models_head(("x-coreason-project-id", "other")), "identity_missing"),
        (models_head(("host", "evil.test"), target="/v1//models"), "authority_mismatch"),
    ],
)
async def test_refusals(request_head: RequestHead, code: str) -> None:
    """Authority, path, headers, identity, project, endpoint, in this order."""
    assert (await judged(request_head)).code == code


@pytest.mark.parametrize(
    ("request_head", "stage"),
    [
        (models_head(BEARER, ("host", "evil.test")), Arrival),
        (models_head(BEARER, target="/v1//models"), Addressed),
        (models_head(), Aimed),
        (models_head(BEARER, ("x-coreason-project-id", "other")), Identified),
        (models_head(BEARER, target="/v1/engines"), Billed),
    ],
)
async def test_how_far_a_refused_call_came(request_head: RequestHead, stage: type) -> None:
    """What was found out of it by then stands in its line."""
    assert type((await judged(request_head)).stage) is stage


@pytest.mark.parametrize("project", [None, Project("proj", "other tenant")])
async def test_a_project_that_is_gone(project: Project | None) -> None:
    """A token outlives its project, or the project moved to another tenant: nobody pays, so nothing leaves."""
    assert (await judged(models_head(BEARER), Directory(project))).code == "project_not_allowed"


async def test_a_directory_that_fails() -> None:
    """Its errors are not a refusal of the gate's: they pass through, and the journey answers 503."""

    class Away(Directory):
        async def find(self, digest_: str) -> Record | None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await judged(models_head(BEARER), Away(PROJECT))


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ([("x-coreason-trace-id", "a"), ("traceparent", "b")], "a"),
        ([("traceparent", "b")], "b"),
        ([("x-coreason-trace-id", "a" * 1000)], "a" * 256),
        ([], ""),
    ],
)
def test_the_trace(headers: list[tuple[str, str]], trace: str) -> None:
    """Ours, else W3C's, bounded; known before any gate is asked."""
    assert Arrival.begin(models_head(*headers), "x-coreason-trace-id").trace_id == trace


CLAUDE, CODEX, OPENCODE = "x-claude-code-session-id", "session-id", "x-session-id"


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ([(CLAUDE, "019a-1")], "019a-1"),
        ([(CODEX, "019a-2")], "019a-2"),
        ([(OPENCODE, "ses_3")], "ses_3"),
        ([(OPENCODE, "c"), (CODEX, "b"), (CLAUDE, "a")], "a"),
        ([(CLAUDE, "a"), ("x-work", "mine")], "mine"),
        ([("x-work", "one"), ("x-work", "two")], "one"),
        ([(CODEX, "a session: 7")], "a session: 7"),
        ([(CODEX, "a" * 128)], "a" * 128),
        ([(CODEX, "a" * 129)], ""),
        ([(CODEX, "caf\u00e9")], ""),
        ([(CODEX, "a\tb")], ""),
        ([(CODEX, "\udcff")], ""),
        ([(CODEX, " ")], ""),
        ([("x-work", ""), (CODEX, "b")], "b"),
        ([("x-session", "no")], ""),
        ([], ""),
    ],
)
def test_the_session(headers: list[tuple[str, str]], session: str) -> None:
    """The configured header's, else an agent's own; what can't be one counts as none."""
    assert Arrival.begin(models_head(*headers), "", "x-work").session == session


def test_a_session_header_is_not_configured() -> None:
    """Then the agents' own alone are read."""
    headers = models_head(("x-work", "mine"), (CODEX, "b"))
    assert Arrival.begin(headers).session == "b"


# Redis is away, and what it said is remembered.


class Away(Directory):
    """Redis does not answer: for the tokens, or for the projects alone."""

    def __init__(self, tokens: bool = True) -> None:
        super().__init__(PROJECT)
        self._tokens_too = tokens

    async def find(self, digest_: str) -> Record | None:
        if self._tokens_too:
            raise LedgerUnavailable("away")
        return await super().find(digest_)

    async def get_project(self, project_id: str) -> Project | None:
        raise LedgerUnavailable("away")


def remembering(outage: bool = True, **fields: Any) -> Remembered:
    async def explains(_: LedgerUnavailable) -> bool:
        return outage

    made = Remembered(explains, clock=lambda: 100.0, now=lambda: 1000.0)
    made.note_token(digest(TOKEN), 100.0, Record(**fields))
    made.note_project("proj", 100.0, PROJECT)
    return made


@pytest.mark.parametrize("tokens", [True, False])
async def test_a_proven_caller_is_admitted(tokens: bool) -> None:
    """By the same rules, from what is remembered, and marked."""
    call = (
        await judged(models_head(BEARER, target="/v1/models"), Away(tokens), remembering())
    ).admitted
    assert (call.remembered, call.project, call.identity.token_id) == (True, PROJECT, "tok_1")


async def test_what_is_remembered_is_not_asked_while_redis_answers() -> None:
    """Redis's answer decides, whatever is remembered."""
    found = await judged(
        models_head(BEARER), Directory(PROJECT, Record(revoked_at=1.0)), remembering()
    )
    assert found.code == "identity_revoked"
    found = await judged(
        models_head(BEARER, target="/v1/models"), Directory(PROJECT), remembering()
    )
    assert found.admitted.remembered is False


@pytest.mark.parametrize(
    "remembered",
    [
        None,
        remembering(outage=False),
        remembering(revoked_at=1.0),
        remembering(expires_at=1000.0),
        remembering(projects=("other",)),
    ],
    ids=["not remembering", "no outage", "revoked", "expired", "another project's"],
)
async def test_whoever_is_not_proven_gets_the_ledgers_error(remembered: Remembered | None) -> None:
    """As without it: 503, and to be tried again in a moment."""
    denial = (await judged(models_head(BEARER), Away(), remembered)).denial
    assert denial == Denial("ledger_unavailable", headers=(("retry-after", "1"),))
    assert denial.status == 503


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (models_head(BEARER, target="/v1/other"), "path_not_allowed"),
        (models_head(BEARER, ("x-coreason-project-id", "another")), "project_not_allowed"),
        (models_head(("authorization", "Bearer sk-x")), "identity_unknown"),
        (models_head(), "identity_missing"),
        (models_head(BEARER, connect_host="evil.test"), "host_not_allowed"),
    ],
)
async def test_every_other_rule_holds(request_head: RequestHead, code: str) -> None:
    """What needs no Redis is refused as ever."""
    assert (await judged(request_head, Away(), remembering())).code == code


@pytest.mark.parametrize(
    ("target", "status"),
    [("/api/claude_code/settings", 404), ("/api/", 404), ("/api", 403), ("/v1/other", 403)],
)
async def test_what_an_agent_asks_beside_its_calls(target: str, status: int) -> None:
    """404 tells it that there is nothing."""
    request_head = models_head(
        *(BEARER, ("host", "localhost")),
        target=f"/anthropic{target}",
        listener="base_url",
        connect_host=None,
        sni=None,
    )
    denial = (await judged(request_head)).denial
    assert (denial.code, denial.status) == ("path_not_allowed", status)


@pytest.mark.parametrize("headers", [(), (BEARER,)])
async def test_what_is_not_there_needs_nobody_who_says_who_asks(headers: tuple[Any, ...]) -> None:
    """Claude Code puts its first call off by 20 s while its settings are 503."""
    request_head = models_head(
        *(*headers, ("host", "localhost")),
        target="/anthropic/api/claude_code/settings",
        listener="base_url",
        connect_host=None,
        sni=None,
    )
    assert (await judged(request_head, Away(), remembering())).denial.status == 404


# What is closed, and what opens it.


def birds(allow: tuple[str, ...] = (), unmetered: tuple[str, ...] = ()) -> Provider:
    entries, free = tuple(map(parse_opening, allow)), tuple(map(parse_opening, unmetered))
    return replace(
        OPENAI, family=opened(TINY, entries, free), allow=entries, unmetered=free, job_hold=1
    )


async def asked(method: str, target: str, provider: Provider) -> Judged:
    return await judged(models_head(BEARER, method=method, target=target), providers=(provider,))


@pytest.mark.parametrize(
    ("method", "target", "code", "said"),
    [
        ("POST", "/new", "path_not_allowed", '[providers.openai] allow = ["POST /new"]'),
        ("GET", "/new?a=b", "path_not_allowed", 'unmetered = ["GET /new"] if it costs nothing.'),
        ("POST", "/races", "path_not_allowed", 'allow = ["POST /races"] and job_hold_usd'),
        ("POST", "/feathers", "endpoint_forbidden", "POST /feathers gives a credential"),
        ("GET", "/keepers/ada", "endpoint_forbidden", "GET /keepers/ada administrates"),
    ],
)
async def test_a_closed_endpoint_says_why(method: str, target: str, code: str, said: str) -> None:
    """And what opens it; what is never opened says so."""
    denial = (await asked(method, target, birds())).denial
    assert denial is not None
    assert denial.code == code
    assert said in denial.message
    assert ("no setting opens it" in denial.message) is (code == "endpoint_forbidden")


@pytest.mark.parametrize("target", ["/a%20b", "/" + "a" * 200, "/a;b", "/a*b", "/new/"])
async def test_no_entry_is_named_that_could_not_be_written(target: str) -> None:
    """It would be refused with the file."""
    denial = (await asked("POST", target, birds())).denial
    assert denial is not None
    assert denial.code == "path_not_allowed"
    assert "allow" not in denial.message.replace("path_not_allowed", "")
    assert len(denial.message) < 400


async def test_what_is_opened() -> None:
    """A job by its name, another endpoint as one that no family knows; the ids in a path are found."""
    provider = birds(("POST /races", "POST /new"), ("GET /list",))
    job = (await asked("POST", "/races", provider)).admitted.operation
    assert (job.cost, job.objects, job.reads_body) == (RACE.cost, RACE.objects, True)
    new = (await asked("POST", "/new", provider)).admitted.operation
    assert (new.kind, new.cost, new.reads_body) == ("unknown", "metered", True)
    free = (await asked("GET", "/list", provider)).admitted.operation
    assert (free.kind, free.cost, free.reads_body) == ("unknown", "free", False)
    assert (await asked("POST", "/talk", provider)).admitted.operation is TALK
    assert (await asked("GET", "/nests/nest-1", provider)).admitted.objects == ("nest-1",)
    assert (await asked("GET", "/nests", provider)).admitted.objects == ()


async def test_a_job_needs_an_entry_of_its_own() -> None:
    """One that opens another path does not let it through."""
    for allow in ((), ("POST /racesx",), ("GET /races",), ("POST /races/*",)):
        assert (await asked("POST", "/races", birds(allow))).code == "path_not_allowed"
    for allow in (("POST /races",), ("POST /*",)):
        assert (await asked("POST", "/races", birds(allow))).code == ""
