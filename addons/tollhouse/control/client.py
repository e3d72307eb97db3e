"""How a command reaches the stores: Redis itself, the running gateway's control socket, or the embedded store's file.

Only the standard library is imported here until a store has to be opened: over the socket a command stays light.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tollhouse.control.lock import StateBusy, StateLock

if TYPE_CHECKING:
    from tollhouse.config.load import Config

SOCKET_NAME = "control.sock"
_ANSWER_S = 30.0
# sun_path is 108 bytes on Linux and 104 on the BSDs, its terminating NUL included: unix(7).
_SUN_PATH = 103


class StoreError(Exception):
    """Why an operation was not done, in a sentence for a person: a refusal, or a store that can't be reached.

    ``wrong_use`` when its arguments are what is wrong. ``away`` when a store did not answer, which may pass.
    """

    def __init__(self, message: str, *, wrong_use: bool = False, away: bool = False) -> None:
        super().__init__(message)
        self.wrong_use = wrong_use
        self.away = away


class NoGateway(Exception):
    """Nobody answers on the control socket."""


def perform(
    config: Config, name: str, arguments: Mapping[str, Any], *, give_up_s: float = 5.0
) -> Any:
    """Do operation ``name`` of `operations.TABLE` where the configuration keeps its state; its JSON-able result.
    ``give_up_s`` is for a gateway that is starting or stopping.

    Raises `StoreError`.
    """
    if config.redis.url != "embedded":
        return _open_and_perform(config, name, arguments)
    directory = config.state.directory
    give_up = time.monotonic() + give_up_s
    while True:
        with contextlib.suppress(NoGateway):
            return ask(directory, name, arguments)
        try:
            with StateLock.take(directory):
                return _open_and_perform(config, name, arguments)
        except StateBusy:
            # A gateway holds the lock a moment before it listens and a moment after it has stopped listening.
            if time.monotonic() > give_up:
                raise StoreError(
                    f"the gateway that owns {directory} does not answer on {SOCKET_NAME}: it is starting, stopping or "
                    "stuck; try again, or restart it"
                ) from None
            time.sleep(0.05)
        except OSError as error:
            raise StoreError(
                f"the state directory {directory} can't be used ({error.strerror}): run this as the gateway's user, or "
                "set [state] directory"
            ) from None


def _open_and_perform(config: Config, name: str, arguments: Mapping[str, Any]) -> Any:
    from tollhouse.control.operations import perform_once
    from tollhouse.control.refusal import OperationRefused

    try:
        return perform_once(config, name, arguments)
    except OperationRefused as error:
        away = error.status == 503
        raise StoreError(str(error), wrong_use=error.status == 400, away=away) from None


def ask(
    state_directory: Path,
    name: str,
    arguments: Mapping[str, Any],
    *,
    answer_s: float = _ANSWER_S,
) -> Any:
    """Have the running gateway do it. Raises `NoGateway` when none listens, `StoreError` for everything else."""
    connection = _UnixConnection(state_directory / SOCKET_NAME, answer_s)
    sent = False
    try:
        connection.connect()
        sent = True
        connection.request(
            "POST",
            f"/operations/{name}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not sent and isinstance(
            error, (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)
        ):
            raise NoGateway from None
        if isinstance(error, PermissionError):
            raise StoreError(
                f"the control socket in {state_directory} belongs to another user: run this as the gateway's user"
            ) from None
        raise StoreError(
            f"the running gateway did not answer ({error or type(error).__name__}): look whether the change was made "
            "before you try again"
        ) from None
    finally:
        connection.close()
    if answer.status != 200:
        why = str(body.get("error") if isinstance(body, dict) else "the gateway gave no reason")
        away = answer.status == 503
        raise StoreError(why, wrong_use=answer.status == 400, away=away)
    return body["result"]


def reachable(state_directory: Path) -> bool:
    """Whether a gateway takes connections on the control socket of ``state_directory``."""
    connection = _UnixConnection(state_directory / SOCKET_NAME)
    try:
        connection.connect()
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)
    finally:
        connection.close()
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, answer_s: float = _ANSWER_S) -> None:
        super().__init__("control", timeout=answer_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as address:
            self.sock.connect(address)


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """``path`` in a form that fits a Unix socket's address, valid inside the ``with``.

    A longer one goes by its directory's descriptor, which Linux shows under /proc/self/fd. Raises `OSError`.
    """
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
