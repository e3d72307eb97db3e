"""What Redis said of tokens and projects in the last 5 minutes: for ``[redis] unsafe_fail_open``, and for nothing else.

A proof is Redis's answer that a token or a project is valid. It begins when a call asked that
question, and it lasts `PROVEN_S` by a monotonic clock. It ends before that in two ways. Redis
answers that there is no such token, or that the token was revoked or has expired. Or this gateway
changes the token: the proof ends before Redis is told of the change, and again after that, even if
Redis could not be told. `Directory.refresh` asks again in the background. That ends proofs and
brings their records up to date. It never makes a proof last longer.

A subject of the platform proves itself, and is let in unless it was revoked. At most `SIZE` revoked ones are remembered. If there
were more, one that is not remembered may be any of them: then only a subject is let in of which Redis has said in the last 5
minutes that it is not revoked.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from tollhouse.accounts.token import SUBJECT_ID
from tollhouse.accounts.token_record import TokenRecord
from tollhouse.call import Admitted
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.parties import Project

log = logging.getLogger(__name__)

PROVEN_S: Final = 300.0
SIZE: Final = 4096
"""The most tokens, and the most projects, that are remembered. Beyond that the oldest one is
dropped."""


class Remembered:
    """A `TokenDirectory` without Redis. It answers with tokens and projects that are proven and
    valid, and raises `LedgerUnavailable` for all others. ``explains`` says whether an error comes
    from an outage (`Outage.explains`). ``clock`` is monotonic, and the times ``asked`` are of this
    clock. ``now`` is compared with a token's end."""

    def __init__(
        self,
        explains: Callable[[LedgerUnavailable], Awaitable[bool]],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.serves = explains
        """Whether this object may be asked in place of the `Directory` that raised the error."""
        self._clock = clock
        self._now = now
        self._tokens: OrderedDict[str, tuple[float, TokenRecord]] = OrderedDict()
        self._projects: OrderedDict[str, tuple[float, Project]] = OrderedDict()
        self._revoked: set[str] = set()
        """Subjects of the platform that were revoked, when Redis was last asked for them."""
        self._too_many_revoked = False
        """There was one for which `_revoked` had no room."""
        self._not_revoked: OrderedDict[str, float] = OrderedDict()
        """Subjects by when Redis was asked for them last, and said that they are not revoked."""
        self._digests: dict[str, str] = {}
        """The digests of tokens by their ids."""
        self._changed = float("-inf")
        """When this gateway last changed something. An answer to an earlier question proves
        nothing: it may be the state before the change."""

    def note_token(
        self, digest: str, asked: float, record: TokenRecord | None, *, proves: bool = True
    ) -> None:
        """Takes Redis's answer to a question of the time ``asked``. ``proves`` is false if no call
        has shown this token."""
        before = self._tokens.get(digest)
        if record is None or not self._valid(record):
            self._drop_token(digest)
            if record is not None and digest == record.id:
                self._note_revoked(digest)
            elif SUBJECT_ID.fullmatch(digest):
                self._note_not_revoked(digest, asked)
        elif asked > self._changed and (proves or before is not None):
            self._drop_token(digest)
            self._tokens[digest] = (asked if proves or before is None else before[0], record)
            self._digests[record.id] = digest
            if len(self._tokens) > SIZE:
                self._drop_token(next(iter(self._tokens)))

    def note_project(
        self, project_id: str, asked: float, project: Project | None, *, proves: bool = True
    ) -> None:
        before = self._projects.get(project_id)
        if project is None:
            self._projects.pop(project_id, None)
        elif asked > self._changed and (proves or before is not None):
            self._projects.pop(project_id, None)
            self._projects[project_id] = (asked if proves or before is None else before[0], project)
            if len(self._projects) > SIZE:
                self._projects.popitem(last=False)

    def forget_token(self, token_id: str) -> None:
        """Called when this gateway changes the token, or has tried to. A subject of the platform counts as revoked until Redis
        says otherwise."""
        self._changed = self._clock()
        if SUBJECT_ID.fullmatch(token_id):
            self._note_revoked(token_id)
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
        """The digests and the projects that are proven. Proofs that are too old are dropped."""
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

    async def find_subject(self, subject_id: str) -> None:
        """For identities of the platform, which prove themselves. Raises `LedgerUnavailable` for one that was revoked."""
        if self._may_be_revoked(subject_id):
            raise LedgerUnavailable("the subject was revoked, or may have been")

    async def get_project(self, project_id: str) -> Project:
        project = self._project(project_id)
        if project is None:
            raise LedgerUnavailable("the project was not read in the last 5 minutes")
        return project

    def vouches(self, call: Admitted) -> bool:
        """Whether the call's identity and project are proven now. An identity of the platform has
        proved itself (a signature, a handshake); its project has to be proven all the same."""
        identity, project = call.identity, call.project
        if identity.kind != "token":
            found = self._project(project.id)
            return (
                not self._may_be_revoked(identity.token_id)
                and found is not None
                and found.tenant == project.tenant == identity.tenant
                and project.id in identity.projects
            )
        record = self._token(self._digests.get(identity.token_id, ""))
        known = self._project(project.id)
        return (
            record is not None
            and known is not None
            and project.id in record.projects
            and known.tenant == project.tenant == record.tenant == identity.tenant
        )

    def _note_revoked(self, subject_id: str) -> None:
        self._not_revoked.pop(subject_id, None)
        if subject_id in self._revoked or len(self._revoked) < SIZE:
            self._revoked.add(subject_id)
        elif not self._too_many_revoked:
            self._too_many_revoked = True
            log.error(
                "more than %d subjects are revoked; while Redis is away only those are let in that it knew in the last 5 minutes",
                SIZE,
            )

    def _note_not_revoked(self, subject_id: str, asked: float) -> None:
        if asked <= self._changed:
            # The answer may be older than a revocation that was made here.
            return
        self._revoked.discard(subject_id)
        self._not_revoked[subject_id] = asked
        self._not_revoked.move_to_end(subject_id)
        if len(self._not_revoked) > SIZE:
            self._not_revoked.popitem(last=False)

    def _may_be_revoked(self, subject_id: str) -> bool:
        if subject_id in self._revoked or not self._too_many_revoked:
            return subject_id in self._revoked
        asked = self._not_revoked.get(subject_id)
        return asked is None or not self._fresh(asked)

    def _token(self, digest: str) -> TokenRecord | None:
        asked, record = self._tokens.get(digest, (0.0, None))
        return record if record is not None and self._fresh(asked) and self._valid(record) else None

    def _project(self, project_id: str) -> Project | None:
        asked, project = self._projects.get(project_id, (0.0, None))
        return project if project is not None and self._fresh(asked) else None

    def _fresh(self, asked: float) -> bool:
        return self._clock() - asked < PROVEN_S

    def _valid(self, record: TokenRecord) -> bool:
        return record.revoked_at is None and (
            record.expires_at is None or record.expires_at > self._now()
        )

    def _drop_token(self, digest: str) -> None:
        _, record = self._tokens.pop(digest, (0.0, None))
        if record is not None and self._digests.get(record.id) == digest:
            del self._digests[record.id]
