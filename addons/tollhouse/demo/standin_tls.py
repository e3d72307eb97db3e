"""A certificate for the stand-in, from a CA of its own that is thrown away with it.

It has nothing to do with Tollhouse's own CA (`tollhouse.trust`): this one plays the public roots of the real provider.
"""

from __future__ import annotations

import datetime as dt
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Certificate = Literal["good", "expired", "wrong_name", "self_signed", "untrusted"]
"""``untrusted``: signed by a CA that is not the one in ``ca_pem``."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """``ca_pem`` is what a client must trust; ``context`` is the server's side and speaks HTTP/1.1 only."""

    ca_pem: bytes
    context: ssl.SSLContext


def make_server_tls(hosts: Sequence[str], certificate: Certificate = "good") -> ServerTls:
    """A server context for ``hosts`` (a leading ``*.`` is allowed) and the CA that vouches for it."""
    ca_key, ca = _authority("stand-in's throw-away CA")
    signer_key, signer = (
        _authority("a CA nobody trusts") if certificate == "untrusted" else (ca_key, ca)
    )
    names = ["wrong.example.com"] if certificate == "wrong_name" else list(hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    end = now - dt.timedelta(hours=1) if certificate == "expired" else now + dt.timedelta(days=7)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    own = certificate == "self_signed"
    by_name, by_key = (subject, key) if own else (signer.subject, signer_key)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()),
            critical=False,
        )
        .sign(by_key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The ssl module loads a key from a file only.
    with tempfile.TemporaryDirectory() as directory:
        pem = Path(directory) / "leaf.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(pem)
    return ServerTls(ca.public_bytes(serialization.Encoding.PEM), context)


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate
