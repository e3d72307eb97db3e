"""Clients of the tests wait longer than they do by themselves: a busy machine is no fault of the gateway.

What a test asserts of times it says itself, with a clock of its own or a time-out that it gives.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2
import websockets.asyncio.client
import websockets.sync.client

SECONDS: Final = 60.0


def be_patient() -> None:
    """Changes the defaults of libraries that end a wait after 5 or 10 s."""
    for connect in (
        websockets.sync.client.connect,
        websockets.asyncio.client.connect.__init__,
    ):
        _default(connect, "open_timeout")
        _default(connect, "close_timeout")
        _default(connect, "ping_timeout")
    for made in (httpx2.Client.__init__, httpx2.AsyncClient.__init__, httpx2.get, httpx2.post):
        _default(made, "timeout")


def _default(function: Any, name: str) -> None:
    defaults = function.__kwdefaults__
    # A library that renames one must be looked at again.
    assert name in defaults, f"{function} has no {name} of its own"
    defaults[name] = SECONDS
