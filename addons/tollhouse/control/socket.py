"""The control socket: a running gateway takes the commands' operations on a Unix socket in its state directory.

It is needed because the embedded stores live in the gateway's process. It is never TCP. Whoever may
open the socket (mode 0600) may do everything that the commands can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from tollhouse.control.actor import Actor, peer_uid, user_actor
from tollhouse.control.client import SOCKET_NAME, reachable, short_path
from tollhouse.control.refusal import OperationRefused

_MAX_BODY = 1024 * 1024


class Performs(Protocol):
    """`Operations`, or who passes on to them."""

    async def perform(
        self, name: str, arguments: Mapping[str, Any], by: Actor | None = None
    ) -> Any:
        """Raises `OperationRefused`."""


class ControlServer:
    """``POST /operations/{name}`` with a JSON object of arguments answers ``{"result": ...}``, or ``{"error": ...}``
    with the status of the `OperationRefused`: 404 for a name outside `operations.TABLE`.

    Whoever starts it holds the state directory's `StateLock`, so a socket that nobody answers on is a dead gateway's.
    """

    def __init__(self, state_directory: Path, operations: Performs) -> None:
        self.path = state_directory / SOCKET_NAME
        self._operations = operations
        self._runner: web.AppRunner | None = None
        self._inode = 0

    async def start(self) -> None:
        """Serve, replacing a dead gateway's socket. Raises `OSError`, which says it when a live one answers there."""
        if reachable(self.path.parent):
            raise FileExistsError(f"a gateway already answers on {self.path}")
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_post("/operations/{name}", self._operate)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        try:
            listening = listen(self.path)
            self._inode = self.path.stat().st_ino
            await web.SockSite(runner, listening).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def close(self) -> None:
        """Finish what is under way (2 s), then take the socket's file away if it is still ours."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        await runner.cleanup()

    async def _operate(self, request: web.Request) -> web.Response:
        try:
            arguments = json.loads(await request.read())
        except (ValueError, RecursionError):
            return _answer(400, {"error": "The arguments are not JSON: send an object."})
        if not isinstance(arguments, dict):
            return _answer(400, {"error": "The arguments are not a JSON object: send one."})
        try:
            by = await _peer(request)
            result = await self._operations.perform(request.match_info["name"], arguments, by)
            return _answer(200, {"result": result})
        except OperationRefused as error:
            return _answer(error.status, {"error": str(error)})
        except Exception as error:  # the type only: a message could carry an argument
            why = f"The gateway has a fault at this operation ({type(error).__name__})"
            todo = "look whether the change was made, and report it."
            return _answer(500, {"error": f"{why}: {todo}"})


async def _peer(request: web.Request) -> Actor | None:
    """Whose command it is."""
    connection: Any = request.transport and request.transport.get_extra_info("socket")
    uid = peer_uid(connection) if connection is not None else None
    return Actor("command") if uid is None else await asyncio.to_thread(user_actor, uid)


def listen(path: Path) -> socket.socket:
    """A listening Unix socket at ``path``, mode 0600 from the moment it can be reached: it is bound inside a new 0700
    directory and then moved into place, which also replaces what was there."""
    private = Path(tempfile.mkdtemp(prefix=".control-", dir=path.parent))
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        with short_path(private / path.name) as address:
            bound.bind(address)
        (private / path.name).chmod(0o600)
        bound.listen(16)
        (private / path.name).replace(path)
    except BaseException:
        bound.close()
        (private / path.name).unlink(missing_ok=True)
        raise
    finally:
        private.rmdir()
    return bound


def _answer(status: int, body: dict[str, object]) -> web.Response:
    return web.json_response(body, status=status)
