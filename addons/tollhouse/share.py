"""A worker's part of the gateway: what the supervisor has given it, which a gateway alone opens for itself."""

from __future__ import annotations

import mmap
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tollhouse.call import ListenerKind

if TYPE_CHECKING:
    from tollhouse.credential.vault.auth import Unwrapped
    from tollhouse.prices.kept import Snapshot
    from tollhouse.trust.ca import CertificateAuthority
    from tollhouse.trust.leaf import LeafStore


@dataclass(frozen=True, slots=True)
class Share:
    """``workers`` is how many processes the gateway has. ``number`` is this one's, from 1."""

    number: int = 1
    workers: int = 1
    alone: bool = True
    """No supervisor: this process opens the admin listener and the control socket itself, and takes each step of its start when
    the one before it is done."""
    patience_s: float = float("inf")
    """How long Redis and Vault are waited for at the start."""
    sockets: Mapping[ListenerKind, tuple[socket.socket, ...]] = field(default_factory=dict)
    """Bound, and perhaps listening already."""
    ca: CertificateAuthority | None = None
    leaves: LeafStore | None = None
    """Made before the fork: TLS sessions are resumed by any worker then, and all leaves have one key."""
    prices: Snapshot | None = None
    unwrapped: Unwrapped | None = None
    concluding: mmap.mmap | None = None
    """Memory for the lines of calls that are being settled (`concluding`)."""

    def of(self, total: int) -> int:
        """This process's part of a bound of the whole gateway."""
        return max(1, -(-total // self.workers))


ALONE = Share()
"""A gateway of one process, without a supervisor."""
