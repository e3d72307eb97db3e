"""A company's root and the limited CA that it signed for the gateway."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tollhouse.trust.ca import CertificateAuthority


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(False, False, False, False, False, True, False, False, False)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def company_ca(host: str) -> CertificateAuthority:
    """The CA limited to ``host``, with the self-signed root as its parent."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.now(UTC)

    def build(subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("root"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
                critical=False,
            )
        )

    root = build("root", root_key.public_key()).sign(root_key, hashes.SHA256())
    no_ip = [x509.IPAddress(ipaddress.ip_network(network)) for network in ("0.0.0.0/0", "::/0")]
    limits = x509.NameConstraints([x509.DNSName(host)], no_ip)
    certificate = (
        build("gateway", key.public_key())
        .add_extension(limits, critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return CertificateAuthority(certificate, key, [root])
