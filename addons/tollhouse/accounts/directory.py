"""Who may call and on whose account: projects and tokens, in Redis, read through a cache of 5 seconds at most.

A token is stored by its SHA-256. The records that a call needs are cached, so that Redis is not
asked for every call. So this gateway sees a revocation that was made elsewhere within 5 s, and one
that was made here at once.

Past 400 lines because each change of a record ends what the cache and `Remembered` have of it, and so stands beside them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.accounts.paged import Pages
from tollhouse.accounts.remembered import Remembered
from tollhouse.accounts.stored import TokenInfo, decode, encode
from tollhouse.accounts.token import digest, token_id, well_formed
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.limits import parse_limits, refuse_sessions
from tollhouse.ledger.names import Scope, check_id
from tollhouse.ledger.store.client import COMMAND_TIMEOUT_S, LedgerUnavailable, persist, translated
from tollhouse.parties import Project
from tollhouse.refreshed import Ended, Fresh, Refreshed, Times

CACHE_S: Final = 4.0
"""A revocation must be seen within 5 s. The rest is the time that asking Redis may take."""
CACHE_SIZE: Final = 10_000
READS_AT_ONCE: Final = 32
"""Half of the connections to Redis. Anybody can show tokens that nobody made; the other half is
left for everybody else."""
_AT_ONCE: Final = 500
_TRIES: Final = 5
_NOT_OURS: Final = "the token is not one of ours: its form or its checksum is wrong"


class Directory:
    """Every method raises `LedgerUnavailable` when Redis can't be asked and the cache has no
    answer, and when a record in Redis can't be read. ``clock`` is monotonic and moves the cache.
    ``now`` is the time that is written down. ``ledger`` is the process's own, where it has one.
    ``remembered`` is told what Redis says, and what is changed here."""

    def __init__(
        self,
        redis: Redis,
        ledger: Ledger | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        remembered: Remembered | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self._redis = redis
        self.pages = Pages(redis)
        self._timeout_s = timeout_s
        self._clock = clock
        self._now = now
        self._ledger = ledger or Ledger(redis)
        self._remembered = remembered
        self._refreshed = float("-inf")
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        noted = remembered or _Nobody()
        self._projects = _cached(self.read_project, clock, noted.note_project)
        self._tokens = _cached(self._read_token, clock, noted.note_token)

    async def set_project(self, project: Project) -> None:
        """Makes or replaces a project, and its limits in the ledger. The amounts that it has used
        stay counted. Raises `ValueError` (`LimitError` for a limit) before anything is changed."""
        check_id("project", project.id)
        check_id("tenant", project.tenant)
        limits = parse_limits(project.limits)
        with self._changes(project=project.id):
            # The limits are written first, so that a project is never found without them.
            await self._ledger.set_limits(Scope("project", project.tenant, project.id), limits)
            with translated():
                await self._redis.hset(names.PROJECTS, project.id, encode(project))
        self._saved()

    async def get_project(self, project_id: str) -> Project | None:
        """The project, from the cache if it is there. None if there is none."""
        return await self._projects.get(project_id)

    async def read_project(self, project_id: str) -> Project | None:
        """The project as Redis has it now. It is not read from the cache."""
        text = await self._read(names.PROJECTS, project_id)
        return None if text is None else decode(Project, text)

    async def projects(self) -> list[Project]:
        """All projects, sorted by id. They are not read from the cache."""
        return await self.pages.all_projects()

    async def tenants(self) -> set[str]:
        """The tenants of all projects. They are not read from the cache."""
        return {project.tenant for project in await self.projects()}

    async def remove_project(self, project_id: str) -> bool:
        """The tokens of the project stay but can charge nothing. If the project is made again, its
        used amounts are still counted. False if there was no such project."""
        with self._changes(project=project_id), translated():
            removed = bool(await self._redis.hdel(names.PROJECTS, project_id))
        self._saved()
        return removed

    async def set_tenant(self, tenant: str, limits: Iterable[str]) -> tuple[str, ...]:
        """Replaces a tenant's limits and gives their canonical texts. The amounts that it has used
        stay counted. Raises `ValueError` (`LimitError`) before anything is changed."""
        parsed = parse_limits(limits)
        refuse_sessions(parsed)
        await self._ledger.set_limits(Scope("tenant", check_id("tenant", tenant), tenant), parsed)
        return tuple(limit.text for limit in parsed)

    async def add_token(
        self,
        token: str,
        projects: Iterable[str],
        tenant: str,
        expires_at: float | None = None,
        label: str = "",
        limits: Iterable[str] = (),
    ) -> TokenInfo:
        """Lets ``token`` charge ``projects`` of ``tenant``, within ``limits`` of its own. Raises
        `ValueError` for a token with a wrong checksum, a token that exists, an empty list of
        projects, a project that does not exist or belongs to another tenant, and a limit that can't
        be read."""
        if not well_formed(token):
            raise ValueError(_NOT_OURS)
        wanted = tuple(dict.fromkeys(projects))
        if not wanted:
            raise ValueError("a token needs at least one project that it may charge: name one")
        for name in wanted:
            project = await self.read_project(name)
            if project is None:
                raise ValueError(
                    f"there is no project {name!r}: make it with `tollhouse project set`"
                )
            if project.tenant != tenant:
                raise ValueError(
                    f"the project {name!r} belongs to another tenant than {tenant!r}: make a token for each tenant"
                )
        parsed = parse_limits(limits)
        texts = tuple(limit.text for limit in parsed)
        info = TokenInfo(
            token_id(token), tenant, wanted, label, self._now(), expires_at, limits=texts
        )
        if parsed:
            # The limits are written first, so that a token is never found without them.
            await self._ledger.set_limits(info.scope(), parsed)
        await self._add(token, info)
        return info

    async def add_viewer(
        self,
        token: str,
        tenant: str,
        expires_at: float | None = None,
        label: str = "",
        *,
        admin: bool = False,
    ) -> TokenInfo:
        """Lets ``token`` see the status page of ``tenant``, or of all where it is empty. It is for no project, so that it can
        charge nothing. An ``admin`` may change things as well. Raises `ValueError` as `add_token`."""
        if not well_formed(token):
            raise ValueError(_NOT_OURS)
        if tenant:
            check_id("tenant", tenant)
        info = TokenInfo(token_id(token), tenant, (), label, self._now(), expires_at, admin=admin)
        await self._add(token, info)
        return info

    async def rotate(
        self, token_id: str, token: str, expires_at: float | None, overlap_s: float
    ) -> TokenInfo | None:
        """Makes ``token`` the successor of the token ``token_id``. It has the same projects, label
        and limits, and the used part of these limits stays used. The old token ends ``overlap_s``
        from now, unless it ends before. Both tokens change or none does: a change that somebody
        else makes to the old token meanwhile is seen and kept. None if there is no such token.
        Raises `ValueError` if it has ended."""
        if not well_formed(token):
            raise ValueError(_NOT_OURS)
        for _ in range(_TRIES):
            found = await self._stored(token_id)
            if found is None:
                return None
            key, text = found
            old = decode(TokenInfo, text)
            now = self._now()
            if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
                how = "has ended" if old.revoked_at is None else "was revoked"
                raise ValueError(
                    f"the token {token_id} {how}: make a new one with `tollhouse token create`"
                )
            charged_as = old.charged_as or old.id
            new = replace(
                old, id=_id_of(token), created_at=now, expires_at=expires_at, charged_as=charged_as
            )
            ends = now + overlap_s
            ending = replace(
                old, expires_at=ends if old.expires_at is None else min(old.expires_at, ends)
            )
            arguments = [key, text.decode(), encode(ending), digest(token), new.id, encode(new)]
            with self._changes(token=old.id):
                done = await self._ledger.run_script(
                    "rotate", [names.TOKENS, names.TOKEN_IDS], arguments
                )
            if done < 0:
                raise ValueError("this token exists already: make another one")
            if done:
                self._saved()
                return new
        raise _contended(token_id)

    async def successor(self, info: TokenInfo) -> TokenInfo | None:
        """The newest token that follows ``info`` by one rotation or several."""
        first = info.charged_as or info.id
        later = await self.pages.all_tokens(
            lambda one: one.charged_as == first and one.created_at >= info.created_at
        )
        return next((one for one in reversed(later) if one.id != info.id), None)

    async def token(self, token_id: str) -> TokenInfo | None:
        """The token with this public id. It is not read from the cache."""
        found = await self._stored(token_id)
        return None if found is None else decode(TokenInfo, found[1])

    async def _stored(self, token_id: str) -> tuple[str, bytes] | None:
        """The digest of a token, and its record as Redis has it."""
        with translated():
            key: Any = await self._redis.hget(names.TOKEN_IDS, token_id)
            text: Any = None if key is None else await self._redis.hget(names.TOKENS, key.decode())
        return None if text is None else (key.decode(), text)

    async def _add(self, token: str, info: TokenInfo) -> None:
        with translated():
            if not await self._redis.hsetnx(names.TOKENS, digest(token), encode(info)):
                raise ValueError("this token exists already: make another one")
            await self._redis.hset(names.TOKEN_IDS, info.id, digest(token))
        self._saved()

    async def tokens(self, project: str | None = None) -> list[TokenInfo]:
        """All tokens, or those that may charge ``project``, the oldest first. Revoked and expired
        tokens are among them."""
        return await self.pages.all_tokens(lambda info: project is None or project in info.projects)

    async def revoke(self, token_id: str) -> bool:
        """Ends a token for good. If it was revoked before, the first time stays. False if there is
        no such token."""
        revoked = await self._change(
            token_id, lambda info: replace(info, revoked_at=info.revoked_at or self._now())
        )
        return revoked is not None

    async def expire(self, token_id: str, expires_at: float | None) -> TokenInfo | None:
        """Moves a token's end, and gives what is known of it then. A token that was revoked stays
        so. None if there is no such token."""
        return await self._change(token_id, lambda info: replace(info, expires_at=expires_at))

    async def find(self, digest: str) -> TokenInfo | None:
        """The token with this `token.digest`. It may be revoked or expired."""
        return await self._tokens.get(digest)

    async def find_subject(self, subject_id: str) -> TokenInfo | None:
        """The record of a subject of the platform; None for one that was never revoked. It is kept among the tokens, with
        its id in the place of a digest, which no token's digest can be."""
        return await self._tokens.get(subject_id)

    async def revoke_subject(self, subject_id: str) -> None:
        """Refuses a subject of the platform from now on, until `restore_subject`."""
        now = self._now()
        info = TokenInfo(subject_id, "", (), "", now, revoked_at=now)
        with self._changes(token=subject_id), translated():
            await self._redis.hset(names.TOKENS, subject_id, encode(info))
            await self._redis.hset(names.TOKEN_IDS, subject_id, subject_id)
        self._saved()

    async def restore_subject(self, subject_id: str) -> bool:
        """False if it was not revoked."""
        with self._changes(token=subject_id), translated():
            removed = bool(await self._redis.hdel(names.TOKENS, subject_id))
            await self._redis.hdel(names.TOKEN_IDS, subject_id)
        self._saved()
        return removed

    async def refresh(self) -> None:
        """Asks Redis again for the tokens and projects that are remembered, at most every
        `CACHE_S`. So a revocation that was made elsewhere is known here before an outage begins."""
        now = self._clock()
        if self._remembered is None or now - self._refreshed < CACHE_S:
            return
        self._refreshed = now
        try:
            digests, projects = self._remembered.known()
            for some in _batches(digests):
                for key, token in zip(
                    some, await self._read_many(names.TOKENS, some, TokenInfo), strict=True
                ):
                    self._remembered.note_token(key, now, token, proves=False)
            for some in _batches(projects):
                for key, project in zip(
                    some, await self._read_many(names.PROJECTS, some, Project), strict=True
                ):
                    self._remembered.note_project(key, now, project, proves=False)
        except LedgerUnavailable:
            raise
        except Exception:
            self._remembered.clear()
            raise

    async def _read_many[R: (Project, TokenInfo)](
        self, name: str, some: list[str], kind: type[R]
    ) -> list[R | None]:
        """A record that can't be read is None as well: it proves nothing."""
        with translated():
            found: Any = await self._redis.hmget(name, some)
        records: list[R | None] = []
        for text in found:
            try:
                records.append(None if text is None else decode(kind, text))
            except LedgerUnavailable:
                records.append(None)
        return records

    @contextmanager
    def _changes(self, token: str = "", project: str = "") -> Iterator[None]:
        """Ends the proof of a token or project that is changed in the block, even if Redis could
        not be told of the change."""
        try:
            self._forget(token, project)
            yield
        finally:
            # Again, because somebody may have read the old record in between.
            self._forget(token, project)

    def _forget(self, token: str, project: str) -> None:
        if self._remembered is None:
            return
        if token:
            self._remembered.forget_token(token)
        if project:
            self._remembered.forget_project(project)

    async def _change(
        self, token_id: str, change: Callable[[TokenInfo], TokenInfo]
    ) -> TokenInfo | None:
        """The record as it is then. What somebody else changes meanwhile is seen and kept. None if
        there is no such token."""
        for _ in range(_TRIES):
            with self._changes(token=token_id):
                found = await self._stored(token_id)
                if found is None:
                    return None
                key, text = found
                changed = change(decode(TokenInfo, text))
                arguments = [key, text.decode(), encode(changed)]
                done = await self._ledger.run_script("change_token", [names.TOKENS], arguments)
            if done:
                self._saved()
                return changed
        raise _contended(token_id)

    async def _read_token(self, key: str) -> TokenInfo | None:
        text = await self._read(names.TOKENS, key)
        return None if text is None else decode(TokenInfo, text)

    async def _read(self, name: str, key: str) -> Any:
        with translated():
            async with asyncio.timeout(self._timeout_s):
                await self._reads.acquire()
            try:
                return await self._redis.hget(name, key)
            finally:
                self._reads.release()

    def forget(self) -> None:
        """Empties the cache. A read that is under way may give the state before a change, so its
        answer is not kept."""
        self._projects.clear()
        self._tokens.clear()

    def _saved(self) -> None:
        persist(self._redis)
        self.forget()


def _cached[T](
    read: Callable[[str], Awaitable[T | None]],
    clock: Callable[[], float],
    note: Callable[[str, float, T | None], None],
) -> Refreshed[str, T]:
    """Keeps an answer for `CACHE_S`, counted from the moment of the question. ``note`` gets each
    answer and that moment."""

    async def fresh(key: str, _: T | None) -> Fresh[T] | None:
        answer = await read(key)
        return None if answer is None else Fresh(answer, CACHE_S)

    def tell(key: str, ended: Ended[T]) -> None:
        if ended.told is not None:
            note(key, ended.asked_at, ended.told.value)

    return Refreshed(fresh, Times(missing_s=CACHE_S), clock=clock, limit=CACHE_SIZE, on_read=tell)


class _Nobody:
    """A `Remembered` that remembers nothing."""

    def note_token(self, digest: str, asked: float, record: TokenInfo | None) -> None: ...
    def note_project(self, project_id: str, asked: float, project: Project | None) -> None: ...


_id_of = token_id
"""The function `token_id`, for functions that have an argument of this name."""


def _contended(token_id: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"Redis: the token {token_id} is changed by others again and again; try it once more"
    )


def _batches(keys: list[str]) -> Iterator[list[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
