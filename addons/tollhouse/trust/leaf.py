"""The TLS server contexts towards workloads: one for each host, made when it is first needed."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tollhouse.trust.ca import CertificateAuthority, Clock

# The keys of session tickets live and die with their context, so this is also how long one ticket key serves. A leaf
# is replaced with 6 of its 7 days left: a workload's clock may be that much fast.
CONTEXT_LIFETIME_S: Final = 86_400.0
# A provider with a wildcard host lets a workload ask for any number of names.
MAX_CONTEXTS: Final = 256

HTTP: Final = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class _MadeLeaf:
    context: ssl.SSLContext
    at: float


class LeafStore:
    """Server contexts with leaves of ``ca``, for one thread. All leaves have one P-256 key, made here and never written
    down: the CA's own key signs and does nothing else."""

    def __init__(self, ca: CertificateAuthority, clock: Clock = time.time) -> None:
        self._ca = ca
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._first: _MadeLeaf | None = None
        self._made: OrderedDict[str, _MadeLeaf] = OrderedDict()

    def context(self, host: str) -> ssl.SSLContext:
        """The context for ``host`` (normalised), the same one for a day, so that session tickets of this host, and of
        no other, are taken back. `CaError` (a `ValueError`) for a host that the CA does not cover, or an expired CA."""
        now = self._clock()
        made = self._made.get(host)
        # A clock that was set back counts as well.
        if (
            made is None
            or not 0 <= now - made.at < CONTEXT_LIFETIME_S
            or now >= self._ca.not_after.timestamp()
        ):
            made = _MadeLeaf(self._make(host, now), now)
            self._made[host] = made
        self._made.move_to_end(host)
        if len(self._made) > MAX_CONTEXTS:
            self._made.popitem(last=False)
        return made.context

    def first(self) -> ssl.SSLContext:
        """The context that handshakes begin with, until their name is known: the same one for a day. Its ticket keys serve
        all hosts; whose name may be answered is judged at each handshake."""
        now = self._clock()
        if self._first is None or not 0 <= now - self._first.at < CONTEXT_LIFETIME_S:
            self._first = _MadeLeaf(server_context(()), now)
        return self._first.context

    def _make(self, host: str, now: float) -> ssl.SSLContext:
        context = server_context(HTTP)
        leaf = self._ca.sign_leaf(host, self._key.public_key(), now)
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, *self._ca.chain))
        with _in_memory(chain + self._pem) as file:
            context.load_cert_chain(file)
        return context


def server_context(protocols: Sequence[str]) -> ssl.SSLContext:
    """A TLS server context without a certificate: TLS 1.2 or later, forward secrecy and AEAD only, no renegotiation,
    session tickets. Of ``protocols`` the first that the client knows is negotiated; none means HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # A client keeps one, or takes the next one from its next connection. Each costs 25 us.
    context.num_tickets = 1
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A file of ``content`` that is on no disk, where the system has such files. `ssl` reads keys from files alone."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("leaf", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as kept:  # Its mode is 0600.
        kept.write(content)
        kept.flush()
        yield kept.name
