"""A client's handshake for a WebSocket (RFC 6455 4.2), and our answer to it. No extension is taken: frames could not be read."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from wsproto.utilities import generate_accept_token

from tollhouse.call import RequestHead
from tollhouse.denial import Refused

_VERSION: Final = "13"


def check_handshake(head: RequestHead) -> None:
    """Raises `Refused`: 400 for a malformed one, 426 for another version of the protocol."""
    if head.method != "GET":
        raise _bad("Its method is not GET.")
    if _tokens(head, "upgrade") != ["websocket"]:
        raise _bad("Its Upgrade header is not websocket alone.")
    if "upgrade" not in _tokens(head, "connection"):
        raise _bad("Its Connection header does not name Upgrade.")
    if head.get_all("content-length") or head.get_all("transfer-encoding"):
        raise _bad("It has a body.")
    if head.get("expect") is not None:
        raise _bad("It expects 100-continue, and has no body.")
    keys = head.get_all("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise _bad("Its Sec-WebSocket-Key is not one key of 16 bytes in base64.")
    if head.get_all("sec-websocket-version") != [_VERSION]:
        raise Refused(
            "upgrade_required",
            "Its Sec-WebSocket-Version is not 13.",
            (("sec-websocket-version", _VERSION),),
        )


def accepted(head: RequestHead, subprotocol: str) -> list[tuple[str, str]]:
    """The headers of the 101 to a handshake that was checked. ``subprotocol`` is "" for none."""
    key = head.get("sec-websocket-key") or ""
    headers = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", generate_accept_token(key.encode()).decode()),
    ]
    return headers + ([("sec-websocket-protocol", subprotocol)] if subprotocol else [])


def _tokens(head: RequestHead, name: str) -> list[str]:
    return [
        token.strip().lower() for token in ",".join(head.get_all(name)).split(",") if token.strip()
    ]


def _is_key(text: str) -> bool:
    try:
        return len(text) == 24 and len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _bad(why: str) -> Refused:
    return Refused("bad_request", f"The handshake of the WebSocket is malformed. {why}")
