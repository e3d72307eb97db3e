"""The directory of tokens and projects, as the gates see it."""

from __future__ import annotations

from typing import Protocol

from tollhouse.parties import Project


class TokenRecord(Protocol):
    """What the directory knows of a gate token. Times are seconds since the epoch."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def projects(self) -> tuple[str, ...]: ...
    @property
    def label(self) -> str: ...
    @property
    def expires_at(self) -> float | None: ...
    @property
    def revoked_at(self) -> float | None: ...
    @property
    def charged_as(self) -> str: ...
    @property
    def limits(self) -> tuple[str, ...]: ...


class TokenDirectory(Protocol):
    async def find(self, digest: str) -> TokenRecord | None: ...
    async def find_subject(self, subject_id: str) -> TokenRecord | None:
        """The record of a subject of the platform; None for one that was never revoked."""

    async def get_project(self, project_id: str) -> Project | None: ...
