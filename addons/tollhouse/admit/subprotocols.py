"""The subprotocols of a WebSocket's handshake: a browser can send no header, so that its key stands among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tollhouse.accounts.token import carries_token
from tollhouse.call import RequestHead
from tollhouse.denial import Refused
from tollhouse.providers import KEY_SUBPROTOCOLS, PAYER_SUBPROTOCOLS

HEADER: Final = "sec-websocket-protocol"
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_MOST: Final = 32


def key_offered(head: RequestHead) -> str | None:
    """The first key among them; None if there is none."""
    for name in _named(", ".join(head.get_all(HEADER))):
        for start in KEY_SUBPROTOCOLS:
            if name.startswith(start):
                return name.removeprefix(start)
    return None


def without_keys(value: str) -> str:
    """The value of the header without keys, without those that choose who pays, and without any that carries a gate
    token. Raises `Refused` (400) for what is no list of tokens."""
    dropped = KEY_SUBPROTOCOLS + PAYER_SUBPROTOCOLS
    names = list(_named(value))
    if len(names) > _MOST or not all(_TOKEN.fullmatch(name) for name in names):
        raise Refused("bad_request", "Sec-WebSocket-Protocol is no list of subprotocols.")
    return ", ".join(
        name for name in names if not name.startswith(dropped) and not carries_token(name)
    )


def _named(value: str) -> Iterator[str]:
    return (name for part in value.split(",") if (name := part.strip()))
