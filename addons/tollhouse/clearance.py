"""The proof that a call passed every gate."""

from __future__ import annotations

from typing import NamedTuple

from tollhouse.call import Covered, StreamedBody
from tollhouse.credential.lease import Lease


class Clearance(NamedTuple):
    """Made in one place, behind the last gate (`journey`); dispatch takes nothing else."""

    covered: Covered
    lease: Lease
    body: bytes | StreamedBody | None
    """The request's body as it will be sent; None for a request without one."""
