"""A client certificate as an identity: of the TLS that a listener speaks itself, verified against a CA of its own.

OpenSSL verifies the chain and that the certificate is for clients. What is read here are its names. One of them has to be
configured, exactly and case by case, and no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509

from tollhouse.accounts.token import subject_id
from tollhouse.denial import Refused
from tollhouse.parties import Identity

_TODO = (
    "Use a certificate with a name that [identity.mtls] projects has, or ask for yours to be added."
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """``projects`` are the projects by a DNS name or a URI. ``clock`` is seconds since the epoch."""

    projects: Mapping[str, str]
    tenant: str
    limits: tuple[str, ...]
    clock: Callable[[], float]

    def identify(self, certificate: bytes) -> Identity:
        """Of a DER certificate whose handshake was verified. Raises `Refused`."""
        try:
            read = x509.load_der_x509_certificate(certificate)
            ends_at = read.not_valid_after_utc.timestamp()
            names = _names(read)
        except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
            raise Refused.telling(
                "identity_unknown", "The client certificate can't be read.", _TODO
            ) from None
        if self.clock() >= ends_at:
            raise Refused.telling(
                "identity_expired", "The client certificate has expired.", "Connect with a new one."
            )
        known = [name for name in names if name in self.projects]
        if len(known) != 1:
            how = "no name that is" if not known else f"{len(known)} names that are"
            raise Refused.telling(
                "identity_unknown", f"The client certificate has {how} configured here.", _TODO
            )
        return Identity(
            subject_id("crt", "", known[0]),
            self.tenant,
            (self.projects[known[0]],),
            limits=self.limits,
            kind="certificate",
            subject=known[0],
        )


def _names(certificate: x509.Certificate) -> list[str]:
    """Its URIs and DNS names. The common name is no name (RFC 9525). A URI has a scheme, and a DNS name no colon: who is given the
    one by his CA can't write the other's text into it."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = [one for one in found.get_values_for_type(x509.UniformResourceIdentifier) if ":" in one]
    names = [one for one in found.get_values_for_type(x509.DNSName) if ":" not in one]
    return list(dict.fromkeys([*uris, *names]))
