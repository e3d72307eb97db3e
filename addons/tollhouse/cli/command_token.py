"""The token of a command: one that was given, or one that is made for it and lives while the command does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from tollhouse.cli.common import SaysNo, perform, perform_again, say

if TYPE_CHECKING:
    from tollhouse.config.load import Config

GIVEN: Final = "TOLLHOUSE_TOKEN"
LIFE_S: Final = 300.0
"""How long a token outlives a command's `exec` that was killed. A store that is away for less is not noticed."""
_TENDED_EVERY_S: Final = 60.0
_AGAIN_S: Final = 10.0
_LOOK_S: Final = 1.0
"""The wall clock is looked at: within so long a command that was stopped, or whose machine was asleep, has its token again."""


@dataclass(frozen=True, slots=True)
class CommandToken:
    """``made`` says that it is ours to revoke. ``ends_at`` is None for one that does not."""

    token: str
    id: str
    project: str
    made: bool
    ends_at: str | None


class TokenLife:
    """Moves the end of a token on, never beyond ``until``, while somebody calls `tend`. ``extend`` has it end so many seconds
    from now, and raises `click.ClickException`. ``clock`` is seconds since the epoch."""

    def __init__(
        self,
        extend: Callable[[float], None],
        until: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._extend = extend
        self._until = until
        self._clock = clock
        self._due = clock() + _TENDED_EVERY_S
        self.failure: str | None = None
        """Why it could not be moved on, the last time."""

    def tend(self) -> None:
        """Moves the end on if that is due. Raises nothing: it is tried again."""
        now = self._clock()
        left = self._until - now
        if now < self._due or left <= 0:
            return
        try:
            self._extend(min(LIFE_S, left))
        except click.ClickException as error:
            self.failure = error.format_message()
            self._due = now + _AGAIN_S
        else:
            self.failure = None
            self._due = now + _TENDED_EVERY_S

    @contextmanager
    def tended(self, look_s: float = _LOOK_S) -> Iterator[None]:
        """In a thread. Signals are blocked there if they are here."""
        over = threading.Event()

        def tend() -> None:
            while not over.wait(look_s):
                self.tend()

        # It may be waiting for a store that does not answer. The token is revoked all the same, and stays so.
        threading.Thread(target=tend, daemon=True).start()
        try:
            yield
        finally:
            over.set()


@contextmanager
def for_command(
    config: Config,
    project: str | None,
    given: str,
    expires: float,
    limits: tuple[str, ...],
) -> Iterator[CommandToken]:
    """The token ``given``; or a new one, which ends soon after the block, however that ends."""
    if given:
        yield _given(config, given, project, limits)
        return
    made = _made(config, project, min(expires, LIFE_S), limits, "tollhouse exec")
    asked = {"token_id": made.id}

    def extend(seconds: float) -> None:
        # The terminal is the command's.
        perform(config, "token_extend", {**asked, "expires_s": seconds}, shown=False)

    life = TokenLife(extend, time.time() + expires)
    try:
        with life.tended():
            yield made
    finally:
        _revoke(config, made)
    if life.failure is not None:
        say(f"its token could not be kept valid to the end ({life.failure})")


@contextmanager
def for_shell(
    config: Config,
    project: str | None,
    given: str,
    expires: float,
    limits: tuple[str, ...],
) -> Iterator[CommandToken]:
    """The token ``given``; or a new one, which is revoked only if the block fails."""
    if given:
        yield _given(config, given, project, limits)
        return
    made = _made(config, project, expires, limits, "tollhouse env")
    try:
        yield made
    except BaseException:
        _revoke(config, made)
        raise


def read_given(token_file: Any) -> str:
    """What the file or the environment has; empty for nothing."""
    return str(token_file.read() if token_file is not None else os.environ.get(GIVEN, "")).strip()


def _made(
    config: Config, project: str | None, expires: float, limits: tuple[str, ...], label: str
) -> CommandToken:
    chosen = project or _only_project(config)
    wanted = {"projects": [chosen], "expires_s": expires, "label": label, "limits": list(limits)}
    made = perform(config, "token_create", wanted)
    return CommandToken(made["token"], made["id"], chosen, True, made["expires_at"])


def _revoke(config: Config, made: CommandToken) -> None:
    try:
        perform_again(config, "token_revoke", {"token_id": made.id})
    except click.ClickException as error:
        say(
            f"the token {made.id} could not be revoked ({error.format_message()}): `tollhouse token list` says when it ends, "
            f"`tollhouse token revoke {made.id}` ends it"
        )


def _given(
    config: Config, token: str, project: str | None, limits: tuple[str, ...]
) -> CommandToken:
    from tollhouse.accounts.token import token_id, well_formed

    if limits:
        raise SaysNo("--limit is for a token that is made here: this one was given")
    if not well_formed(token):
        raise SaysNo(
            "what was given is not a gate token (gate_...): `tollhouse token create` makes one"
        )
    identity = token_id(token)
    found = perform(config, "token_show", {"token_id": identity})
    if found["revoked_at"]:
        raise SaysNo(f"the token {identity} was revoked: leave it out, and one is made")
    if found["expires_at"] and datetime.fromisoformat(found["expires_at"]) <= datetime.now(UTC):
        raise SaysNo(
            f"the token {identity} ended at {found['expires_at']}: leave it out, and one is made"
        )
    projects = found["projects"]
    chosen = project or (projects[0] if len(projects) == 1 else None)
    if chosen is None:
        raise SaysNo(f"the token is for several projects: --project one of {', '.join(projects)}")
    if chosen not in projects:
        raise SaysNo(f"the token {identity} is not for {chosen}, but for {', '.join(projects)}")
    return CommandToken(token, identity, chosen, False, found["expires_at"])


def _only_project(config: Config) -> str:
    known = [one["project"] for one in perform(config, "project_list", {})]
    if not known:
        raise SaysNo("there is no project yet: `tollhouse project set NAME --tenant T` makes one")
    if len(known) > 1:
        few = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        raise SaysNo(f"there are several projects: choose by --project one of {few}")
    return str(known[0])
