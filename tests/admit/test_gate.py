"""The first gate as a whole: what it fills in, and in which order it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.admit.head import HOST, head
from tests.admit.test_identity import TOKEN, OneToken, Record

from tollhouse.accounts.remembered import Remembered
from tollhouse.accounts.token import digest
from tollhouse.admit.gate import Admit
from tollhouse.call import Call, Project, RequestHead
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.providers import BUILT_IN, Catalog


class Directory(OneToken):
    """One token and one project."""

    def __init__(self, project: Project | None, record: Record | None = None) -> None:
        super().__init__(record or Record())
        self._project = project

    async def get_project(self, project_id: str) -> Project | None:
        return self._project


PROJECT = Project("proj", "acme")
BEARER = ("authorization", f"Bearer {TOKEN}")


async def admitted(
    request_head: RequestHead, directory: Any = None, remembered: Remembered | None = None
) -> tuple[Call, str]:
    """The call, and the code it was refused with, if it was."""
    gate = Admit(
        Catalog(BUILT_IN),
        directory or Directory(PROJECT),
        base_url_hosts=["localhost"],
        project_header="X-Coreason-Project-ID",
        trace_header="X-Coreason-Trace-ID",
        clock=lambda: 1000.0,
        remembered=remembered,
    )
    call = Call.begin(request_head)
    decision = await gate(call, None)
    assert decision.gate == "admit"
    return call, decision.denial.code if decision.denial else ""


async def test_what_it_fills_in() -> None:
    """Everything that the gates behind it need."""
    request = head(
        BEARER,
        ("accept", "a"),
        ("cookie", "c"),
        ("x-coreason-trace-id", "abc-123"),
        ("x-coreason-project-id", "proj"),
        target="/v1/models/gpt-4o?key=x&a=b",
    )
    call, code = await admitted(request)
    assert code == ""
    assert call.provider is not None
    assert call.identity is not None
    assert call.endpoint is not None
    assert (call.provider.name, call.host, call.path, call.query) == ("openai", HOST, "/v1/models/gpt-4o", "a=b")
    assert (call.identity.token_id, call.project, call.trace_id) == ("tok_1", PROJECT, "abc-123")
    assert call.headers == [("accept", "a")]
    assert call.endpoint.kind == "models"


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (head(BEARER, ("host", "evil.test")), "authority_mismatch"),
        (head(BEARER, target="/v1//models"), "bad_request"),
        (head(BEARER, BEARER), "bad_request"),
        (head(), "identity_missing"),
        (head(("authorization", "Bearer sk-x")), "identity_unknown"),
        (head(BEARER, ("x-coreason-project-id", "other")), "project_not_allowed"),
        (head(BEARER, target="/v1/files"), "path_not_allowed"),
        (head(BEARER, method="DELETE"), "path_not_allowed"),
        (head(BEARER, target="/v1/models/"), "path_not_allowed"),
        # A stranger does not learn which paths are open, nor which projects there are.
        (head(target="/v1/files"), "identity_missing"),
        (head(("x-coreason-project-id", "other")), "identity_missing"),
        (head(("host", "evil.test"), target="/v1//models"), "authority_mismatch"),
    ],
)
async def test_refusals(request_head: RequestHead, code: str) -> None:
    """Authority, path, headers, identity, project, endpoint, in this order."""
    assert (await admitted(request_head))[1] == code


@pytest.mark.parametrize("project", [None, Project("proj", "other tenant")])
async def test_a_project_that_is_gone(project: Project | None) -> None:
    """A token outlives its project, or the project moved to another tenant: nobody pays, so nothing leaves."""
    assert (await admitted(head(BEARER), Directory(project)))[1] == "project_not_allowed"


async def test_a_directory_that_fails() -> None:
    """Its errors are not a refusal of the gate's: they pass through, and the journey answers 503."""

    class Away(Directory):
        async def find(self, digest_: str) -> Record | None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await admitted(head(BEARER), Away(PROJECT))


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ([("x-coreason-trace-id", "a"), ("traceparent", "b")], "a"),
        ([("traceparent", "b")], "b"),
        ([("x-coreason-trace-id", "a" * 1000)], "a" * 256),
        ([], ""),
    ],
)
async def test_the_trace(headers: list[tuple[str, str]], trace: str) -> None:
    """Ours, else W3C's, bounded; also of a call that is refused."""
    assert (await admitted(head(*headers)))[0].trace_id == trace


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
    call, code = await admitted(head(BEARER, target="/v1/models"), Away(tokens), remembering())
    assert (code, call.unsafe_fail_open, call.project) == ("", True, PROJECT)
    assert call.identity is not None
    assert call.identity.token_id == "tok_1"


async def test_what_is_remembered_is_not_asked_while_redis_answers() -> None:
    """Redis's answer decides, whatever is remembered."""
    call, code = await admitted(head(BEARER), Directory(PROJECT, Record(revoked_at=1.0)), remembering())
    assert (code, call.unsafe_fail_open) == ("identity_revoked", False)
    call, code = await admitted(head(BEARER, target="/v1/models"), Directory(PROJECT), remembering())
    assert (code, call.unsafe_fail_open) == ("", False)


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
    """As without it: 503, which the journey says."""
    with pytest.raises(LedgerUnavailable):
        await admitted(head(BEARER), Away(), remembered)


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (head(BEARER, target="/v1/other"), "path_not_allowed"),
        (head(BEARER, ("x-coreason-project-id", "another")), "project_not_allowed"),
        (head(("authorization", "Bearer sk-x")), "identity_unknown"),
        (head(), "identity_missing"),
        (head(BEARER, connect_host="evil.test"), "host_not_allowed"),
    ],
)
async def test_every_other_rule_holds(request_head: RequestHead, code: str) -> None:
    """What needs no Redis is refused as ever, and not marked."""
    call, found = await admitted(request_head, Away(), remembering())
    assert (found, call.unsafe_fail_open) == (code, False)
