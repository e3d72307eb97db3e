"""What the commands do to gate tokens and to the subjects of the platform."""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Callable
from typing import Final

from tollhouse.accounts import token as gate_token
from tollhouse.accounts.directory import Directory
from tollhouse.control.described import moment, token_json
from tollhouse.control.records_desk import Count
from tollhouse.control.refusal import Json, OperationRefused, known_project

_LONGEST_S: Final = 1e10
_TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{16}")


class TokenDesk:
    """Every method raises `OperationRefused`. Times in results are RFC 3339 in UTC."""

    def __init__(
        self,
        directory: Directory,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._random_bytes = random_bytes

    async def create(
        self,
        projects: list[str],
        expires_s: float | None = None,
        label: str = "",
        limits: list[str] | None = None,
    ) -> Json:
        """Mint a gate token for ``projects``, which are all of one tenant, with ``limits`` of its own. ``{"token", ...}``
        as in `listed`; the token itself is in no other answer and in no store."""
        if not projects:
            raise OperationRefused(
                "a token needs a project; one that only looks is made by `tollhouse token create --view`",
                400,
            )
        known = [
            await known_project(self._directory, project) for project in dict.fromkeys(projects)
        ]
        tenants = sorted({project.tenant for project in known})
        if len(tenants) > 1:
            raise OperationRefused(
                f"a token is for one tenant, but these projects belong to {', '.join(tenants)}: make one each"
            )
        _check_seconds("expires_s", expires_s)
        _check_label(label)
        token = gate_token.mint(self._random_bytes(32))
        expires_at = None if expires_s is None else self._clock() + expires_s
        names = [p.id for p in known]
        info = await self._directory.add_token(
            token, names, tenants[0], expires_at, label, limits or []
        )
        return {"token": token, **token_json(info)}

    async def create_viewer(
        self, tenant: str = "", expires_s: float | None = None, label: str = ""
    ) -> Json:
        """Mint a token that can charge nothing and sees the status page and the metrics: of ``tenant``, or of all. As
        `create`."""
        _check_seconds("expires_s", expires_s)
        _check_label(label)
        if tenant and tenant not in await self._directory.tenants():
            raise OperationRefused(
                f"no project belongs to tenant {tenant!a}: `tollhouse project list` shows the tenants"
            )
        token = gate_token.mint(self._random_bytes(32))
        expires_at = None if expires_s is None else self._clock() + expires_s
        info = await self._directory.add_viewer(token, tenant, expires_at, label)
        return {"token": token, **token_json(info)}

    async def create_admin(self, expires_s: float | None = None, label: str = "") -> Json:
        """Mint a token that can charge nothing, and may change projects, limits and tokens through the admin API. As
        `create`."""
        _check_seconds("expires_s", expires_s)
        _check_label(label)
        token = gate_token.mint(self._random_bytes(32))
        expires_at = None if expires_s is None else self._clock() + expires_s
        info = await self._directory.add_viewer(token, "", expires_at, label, admin=True)
        return {"token": token, **token_json(info)}

    async def page(
        self, after: str = "", count: Count = 100, project: str | None = None
    ) -> list[Json]:
        """At most ``count`` entries of `listed` with ids behind ``after``, sorted by id."""
        if project is not None:
            await known_project(self._directory, project)
        found = await self._directory.pages.tokens(after, count, project)
        return [token_json(info) for info in found]

    async def show(self, token_id: str) -> Json:
        """One entry of `listed`."""
        if not gate_token.SUBJECT_ID.fullmatch(token_id):
            _check_token_id(token_id)
        info = await self._directory.token(token_id)
        if info is None:
            raise _no_token(token_id)
        return token_json(info)

    async def rotate(self, token_id: str, overlap_s: float, expires_s: float | None = None) -> Json:
        """Mint the successor of a token; both are valid for ``overlap_s``. Without ``expires_s`` it lives as long as the
        old one was made to. ``{"token", ..., "replaces", "replaced_ends_at"}``."""
        _check_token_id(token_id)
        _check_seconds("overlap_s", overlap_s)
        _check_seconds("expires_s", expires_s)
        old = await self._directory.token(token_id)
        ends = None if old is None or old.revoked_at is not None else old.expires_at
        if expires_s is None and old is not None and ends is not None:
            if successor := await self._directory.successor(old):
                raise OperationRefused(
                    f"{token_id} was rotated into {successor.id}, and its end no longer says how long a token should live: "
                    "rotate that one, or say --expires"
                )
            expires_s = max(ends - old.created_at, overlap_s)
        token = gate_token.mint(self._random_bytes(32))
        expires_at = None if expires_s is None else self._clock() + expires_s
        info = await self._directory.rotate(token_id, token, expires_at, overlap_s)
        if info is None:
            raise _no_token(token_id)
        replaced = await self._directory.token(token_id)
        ends = None if replaced is None else replaced.expires_at
        return {
            "token": token,
            **token_json(info),
            "replaces": token_id,
            "replaced_ends_at": moment(ends),
        }

    async def listed(
        self, project: str | None = None, most: Count | None = None
    ) -> list[Json] | None:
        """``[{"id", "kind", "tenant", "projects", "label", "created_at", "expires_at", "revoked_at", "limits"}]``, oldest
        first. None if there are more than ``most``."""
        if project is not None:
            await known_project(self._directory, project)
        found = await self._directory.pages.few_tokens(
            lambda info: project is None or project in info.projects,
            sys.maxsize if most is None else most,
        )
        return None if found is None else [token_json(info) for info in found]

    async def revoke(self, token_id: str) -> Json:
        """Also of a subject of the platform, by the ``identity`` in its lines."""
        if gate_token.SUBJECT_ID.fullmatch(token_id):
            await self._directory.revoke_subject(token_id)
            return {"id": token_id, "revoked": True}
        _check_token_id(token_id)
        if not await self._directory.revoke(token_id):
            raise _no_token(token_id)
        return {"id": token_id, "revoked": True}

    async def restore(self, token_id: str) -> Json:
        """Lets a subject of the platform in again. A gate token stays revoked."""
        if not gate_token.SUBJECT_ID.fullmatch(token_id):
            raise OperationRefused(
                "only a subject of the platform (jwt_..., crt_..., net_...) can be let in again: make a new token instead"
            )
        if not await self._directory.restore_subject(token_id):
            raise OperationRefused(
                f"{token_id} was not revoked, so that it is let in already: nothing was changed"
            )
        return {"id": token_id, "revoked": False}

    async def extend(self, token_id: str, expires_s: float) -> Json:
        """Move a token's end to ``expires_s`` from now, also if it has ended: `listed`'s entry of it. Refused once it
        was revoked."""
        _check_token_id(token_id)
        _check_seconds("expires_s", expires_s)
        info = await self._directory.expire(token_id, self._clock() + expires_s)
        if info is None:
            raise _no_token(token_id)
        if info.revoked_at is not None:
            raise OperationRefused(
                f"the token {token_id} was revoked: make a new one with `tollhouse token create`"
            )
        return token_json(info)


def _check_token_id(token_id: str) -> None:
    if not _TOKEN_ID.fullmatch(token_id):
        # The text is not repeated: it may be a token or a part of one.
        raise OperationRefused(
            "that is not a token's id (tok_...): `tollhouse token list` shows the ids"
        )


def _no_token(token_id: str) -> OperationRefused:
    return OperationRefused(
        f"no token has the id {token_id}: `tollhouse token list` shows the ids", 404
    )


def _check_label(label: str) -> None:
    if gate_token.carries_token(label):
        raise OperationRefused(
            "a token stands in the label, which is shown to whoever lists tokens: leave it out, and revoke that token",
            400,
        )


def _check_seconds(what: str, seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < _LONGEST_S:
        raise OperationRefused(
            f"{what}: {seconds:g} is no time span; give a positive number of seconds, 300 years at most",
            400,
        )
