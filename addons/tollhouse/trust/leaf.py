"""The TLS server contexts towards workloads: one for each host, made when it is first needed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from tollhouse.trust.ca import CertificateAuthority, Clock

# The keys of session tickets live and die with their context, so this is also how long one ticket key serves. A leaf
# is replaced with 6 of its 7 days left: a workload's clock may be that much fast.
CONTEXT_LIFETIME_S: Final = 86_400.0
# A provider with a wildcard host lets a workload ask for any number of names.
MAX_CONTEXTS: Final = 256

HTTP: Final = (b"h2", b"http/1.1")


@dataclass(frozen=True, slots=True)
class _Made:
    context: SSL.Context
    at: float


class LeafStore:
    """Server contexts with leaves of ``ca``, for one thread. All leaves have one P-256 key, made here and never written
    down: the CA's own key signs and does nothing else."""

    def __init__(self, ca: CertificateAuthority, clock: Clock = time.time) -> None:
        self._ca = ca
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made: OrderedDict[str, _Made] = OrderedDict()

    def context(self, host: str) -> SSL.Context:
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
            made = _Made(self._make(host, now), now)
            self._made[host] = made
        self._made.move_to_end(host)
        if len(self._made) > MAX_CONTEXTS:
            self._made.popitem(last=False)
        return made.context

    def _make(self, host: str, now: float) -> SSL.Context:
        context = server_context(HTTP)
        context.use_certificate(self._ca.sign_leaf(host, self._key.public_key(), now))
        context.use_privatekey(self._key)
        for certificate in self._ca.chain:
            context.add_extra_chain_cert(certificate)
        return context


def server_context(protocols: Sequence[bytes]) -> SSL.Context:
    """A TLS server context without a certificate: TLS 1.2 or later, forward secrecy and AEAD only, no renegotiation,
    stateless session tickets. Of ``protocols`` the client's first choice is negotiated; none means HTTP/1.1."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # Sessions are in the clients' tickets; the server's own cache would keep 20,000 of them in memory.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # An idle connection gives its 34 kB of buffers back: SSL_CTX_set_mode(3).
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_verify(SSL.VERIFY_NONE)
    known = frozenset(protocols)

    def choose(_: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
        return next(
            (protocol for protocol in offered if protocol in known), SSL.NO_OVERLAPPING_PROTOCOLS
        )

    context.set_alpn_select_callback(choose)
    return context
