"""A SPIFFE Workload API of the tests' own: gRPC over a Unix socket, its messages written byte by byte as the standard has them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from tests.support.signed_token import signed

SPIFFE_ID = "spiffe://prod.example.com/ns/tollhouse/sa/gateway"


@dataclass
class WorkloadApi:
    """``gives`` makes the JWT-SVID for an audience. ``refuses`` is the status that it gives instead, while set."""

    socket: Path
    gives: Callable[[str], str] = lambda audience: signed(sub=SPIFFE_ID, aud=[audience])
    refuses: grpc.StatusCode | None = None
    asked: list[dict[int, list[str]]] = field(default_factory=list)
    """The fields of each request: 1 are audiences, 2 is the SPIFFE ID."""


def _fields(message: bytes) -> dict[int, list[str]]:
    """Of a message that has only texts, each shorter than 128 bytes."""
    found: dict[int, list[str]] = {}
    while message:
        tag, length = message[0], message[1]
        found.setdefault(tag >> 3, []).append(message[2 : 2 + length].decode())
        message = message[2 + length :]
    return found


def _field(number: int, value: bytes) -> bytes:
    length, left = b"", len(value)
    while left > 127:
        length += bytes([left % 128 + 128])
        left //= 128
    return bytes([number << 3 | 2]) + length + bytes([left]) + value


@contextlib.contextmanager
def workload_api(socket: Path) -> Iterator[WorkloadApi]:
    def fetch(request: bytes, context: Any) -> bytes:
        # The standard demands it: a browser can't send it.
        assert ("workload.spiffe.io", "true") in context.invocation_metadata()
        fields = _fields(request)
        api.asked.append(fields)
        if api.refuses is not None:
            context.abort(api.refuses, "a text of the server's own")
        svid = api.gives(fields[1][0]).encode()
        return _field(1, _field(1, SPIFFE_ID.encode()) + _field(2, svid))

    api = WorkloadApi(socket)
    handlers = {"FetchJWTSVID": grpc.unary_unary_rpc_method_handler(fetch)}
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", handlers)]
    )
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield api
    finally:
        server.stop(None).wait()
