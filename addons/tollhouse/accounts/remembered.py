"""What Redis said of tokens and projects in the last 5 minutes: for ``[redis] unsafe_fail_open``, and for nothing else.

A proof begins when a call's own question was asked, and lasts `PROVEN_S` by a monotonic clock. Redis ends it by answering
that there is no such token, or one that was revoked or has expired; this gateway ends it by changing the token, before
Redis is asked to and again when it has been, whether or not it could be. `Directory.refresh` asks again in the
background: that ends proofs and brings them up to date, and never makes one last longer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from tollhouse.accounts.records import TokenRecord
from tollhouse.call import Admitted, Project
from tollhouse.ledger.store.client import LedgerUnavailable

PROVEN_S: Final = 300.0
SIZE: Final = 4096
"""Tokens, and projects, that are remembered; the longest known go first."""


class Remembered:
    """A `TokenDirectory` without Redis: it answers with what is proven and valid, and raises `LedgerUnavailable` for all
    else. ``explains`` tells whether an error is of an outage (`Outage.explains`); ``clock`` is monotonic, as the times
    ``asked`` are; ``now`` is what a token's end is compared with."""

    def __init__(
        self,
        explains: Callable[[LedgerUnavailable], Awaitable[bool]],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.serves = explains
        """Whether it may be asked in place of the `Directory` that raised this."""
        self._clock = clock
        self._now = now
        self._tokens: OrderedDict[str, tuple[float, TokenRecord]] = OrderedDict()
        self._projects: OrderedDict[str, tuple[float, Project]] = OrderedDict()
        self._digests: dict[str, str] = {}
        """By the tokens' ids."""
        self._changed = float("-inf")
        """What was asked before this gateway changed anything proves nothing: it may be the state before the change."""

    def note_token(self, digest: str, asked: float, record: TokenRecord | None, *, proves: bool = True) -> None:
        """Redis's answer to a question of the time ``asked``. Not ``proves``: nobody has shown this token."""
        before = self._tokens.get(digest)
        if record is None or not self._valid(record):
            self._drop_token(digest)
        elif asked > self._changed and (proves or before is not None):
            self._drop_token(digest)
            self._tokens[digest] = (asked if proves or before is None else before[0], record)
            self._digests[record.id] = digest
            if len(self._tokens) > SIZE:
                self._drop_token(next(iter(self._tokens)))

    def note_project(self, project_id: str, asked: float, project: Project | None, *, proves: bool = True) -> None:
        before = self._projects.get(project_id)
        if project is None:
            self._projects.pop(project_id, None)
        elif asked > self._changed and (proves or before is not None):
            self._projects.pop(project_id, None)
            self._projects[project_id] = (asked if proves or before is None else before[0], project)
            if len(self._projects) > SIZE:
                self._projects.popitem(last=False)

    def forget_token(self, token_id: str) -> None:
        """This gateway changes it, or has tried to."""
        self._changed = self._clock()
        digest = self._digests.get(token_id)
        if digest is not None:
            self._drop_token(digest)

    def forget_project(self, project_id: str) -> None:
        self._changed = self._clock()
        self._projects.pop(project_id, None)

    def clear(self) -> None:
        self._changed = self._clock()
        self._tokens.clear()
        self._digests.clear()
        self._projects.clear()

    def known(self) -> tuple[list[str], list[str]]:
        """The digests and the projects that are proven; what is too old is let go."""
        for digest, (asked, _) in list(self._tokens.items()):
            if not self._fresh(asked):
                self._drop_token(digest)
        for project_id, (asked, _) in list(self._projects.items()):
            if not self._fresh(asked):
                del self._projects[project_id]
        return list(self._tokens), list(self._projects)

    async def find(self, digest: str) -> TokenRecord:
        record = self._token(digest)
        if record is None:
            raise LedgerUnavailable("the token was not proven in the last 5 minutes")
        return record

    async def get_project(self, project_id: str) -> Project:
        project = self._project(project_id)
        if project is None:
            raise LedgerUnavailable("the project was not read in the last 5 minutes")
        return project

    def vouches(self, call: Admitted) -> bool:
        """Whether the call's identity and project are proven now. One of another kind than a gate token has its own proof,
        which would be judged here; there is none yet."""
        identity, project = call.identity, call.project
        record = self._token(self._digests.get(identity.token_id, ""))
        known = self._project(project.id)
        return (
            record is not None
            and known is not None
            and project.id in record.projects
            and known.tenant == project.tenant == record.tenant == identity.tenant
        )

    def _token(self, digest: str) -> TokenRecord | None:
        asked, record = self._tokens.get(digest, (0.0, None))
        return record if record is not None and self._fresh(asked) and self._valid(record) else None

    def _project(self, project_id: str) -> Project | None:
        asked, project = self._projects.get(project_id, (0.0, None))
        return project if project is not None and self._fresh(asked) else None

    def _fresh(self, asked: float) -> bool:
        return self._clock() - asked < PROVEN_S

    def _valid(self, record: TokenRecord) -> bool:
        return record.revoked_at is None and (record.expires_at is None or record.expires_at > self._now())

    def _drop_token(self, digest: str) -> None:
        _, record = self._tokens.pop(digest, (0.0, None))
        if record is not None and self._digests.get(record.id) == digest:
            del self._digests[record.id]
