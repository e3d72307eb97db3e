"""How an operation is refused, and the projects that there have to be for one."""

from __future__ import annotations

from typing import Any, Literal

from tollhouse.accounts.directory import Directory
from tollhouse.parties import Project

Json = dict[str, Any]


class OperationRefused(Exception):
    """The text says to a person what happened, why, and what to do. ``status`` is for the control
    socket: 404 for an operation, a project or a token that does not exist, 400 for arguments that don't fit, 409 for a
    refusal, 503 for a store that is away."""

    def __init__(self, message: str, status: Literal[400, 404, 409, 503] = 409) -> None:
        super().__init__(message)
        self.status = status


async def known_project(directory: Directory, project: str) -> Project:
    """The project of this name. Raises `OperationRefused` if there is none."""
    # Not of the cache: another gateway may have made it a moment ago.
    found = await directory.read_project(project)
    if found is None:
        raise OperationRefused(
            f"project {project} does not exist: `tollhouse project list` shows those that do, "
            f"`tollhouse project set {project} --tenant TENANT` makes it",
            404,
        )
    return found
