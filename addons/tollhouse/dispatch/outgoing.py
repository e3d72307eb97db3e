"""A request as it will be sent, but for the headers that the key is put into."""

from __future__ import annotations

from typing import NamedTuple

from tollhouse.call import StreamedBody
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import Lease
from tollhouse.headers import Headers
from tollhouse.providers import Provider


class Outgoing(NamedTuple):
    """``host`` is the normalised name of the call. ``path_and_query`` goes out byte for byte. These
    of ``headers`` are replaced or left out: hop-by-hop headers, every provider's credential slot,
    cookies, ``host``, ``content-length``, ``accept-encoding``, ``expect``. ``body`` is None for a
    request without one."""

    provider: Provider
    host: str
    method: str
    path_and_query: str
    headers: Headers
    body: bytes | StreamedBody | None
    lease: Lease

    @classmethod
    def of(cls, clearance: Clearance) -> Outgoing:
        requested = clearance.covered.requested
        admitted = requested.admitted
        return cls(
            admitted.provider,
            admitted.host,
            admitted.arrival.head.method,
            f"{admitted.path}?{admitted.query}" if admitted.query else admitted.path,
            requested.headers,
            clearance.body,
            clearance.lease,
        )
