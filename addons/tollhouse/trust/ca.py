"""The certificate authority. It belongs to this gateway, and its own name constraints limit it to
the providers' hosts.

Somebody who stole its key could impersonate the providers to workloads that trust the CA, and no
other host: clients refuse a leaf of any other host or of any IP address (tried: OpenSSL with
Python, Node and curl, and Go). Java takes no constraints from a trust anchor (tried: 17); RFC 5280
section 6.2 allows that.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tollhouse import files
from tollhouse.trust.pem_files import locked, make_private, open_to_others

Clock = Callable[[], float]
"""Seconds since the epoch."""
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

LIFETIME: Final = timedelta(days=3650)
LEAF_LIFETIME: Final = timedelta(days=7)
# A machine that takes its local-time clock for UTC is up to 14 h off.
BACKDATED: Final = timedelta(days=1)

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NO_IP: Final = [
    x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
    x509.IPAddress(ipaddress.ip_network("::/0")),
]


class CaError(ValueError):
    """The CA can't be used, or does not cover a host. The text says to a person what happened, why,
    and what to do."""


def constraint(host: str) -> str:
    """The dNSName subtree for a provider's ``host``: ``*.x.y`` gives ``x.y``, for a subtree holds the name itself and
    all names below it. `CaError` for what is no DNS name in lower-case ASCII."""
    name = host.removeprefix("*.")
    if (
        len(name) > 253
        or not all(_LABEL.fullmatch(label) for label in name.split("."))
        or _is_ip(name)
    ):
        raise CaError(
            f"{host!r} is not a host name that a CA can be limited to: it must be a lower-case ASCII DNS name, "
            "or one with a leading `*.`. Correct `hosts` of the provider in tollhouse.toml."
        )
    return name


def _is_ip(name: str) -> bool:
    # A numeric last label makes a URL's host an IPv4 address: https://url.spec.whatwg.org/#ends-in-a-number-checker
    return name.rpartition(".")[2].isdigit()


class CertificateAuthority:
    """A CA certificate and its key. ``hosts`` are the permitted dNSName subtrees of the certificate itself."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: SigningKey,
        parents: Sequence[x509.Certificate] = (),
    ) -> None:
        """`CaError` if the certificate is not a CA limited as ours is, or the key is another's."""
        self.certificate: Final = certificate
        self._key: Final = key
        self._parents: Final = tuple(parents)
        if _public_bytes(certificate) != _public_bytes(key):
            raise CaError(
                "The CA's key does not belong to its certificate. Give the two files of the same CA."
            )
        self.hosts: Final = _permitted(certificate)

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self.fingerprint[:11]} for {len(self.hosts)} hosts>"

    @classmethod
    def create(cls, hosts: Sequence[str], clock: Clock = time.time) -> Self:
        """A new self-signed one for the providers' ``hosts``. `CaError` for none, or for one that is no DNS name."""
        names = sorted({constraint(host) for host in hosts})
        if not names:
            raise CaError(
                "A CA needs at least one provider host. Configure a provider in tollhouse.toml."
            )
        key = ec.generate_private_key(ec.SECP256R1())
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # The key's id in the name: clients look an issuer up by its name, and during a rotation they hold two of ours.
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tollhouse"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Tollhouse CA {key_id.digest.hex()[:8]}"),
            ]
        )
        now = datetime.fromtimestamp(int(clock()), UTC)
        certificate = (
            _builder(now, now + LIFETIME)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            # Not its own key usage alone: a stolen key shall not sign client certificates or code either.
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.NameConstraints([x509.DNSName(name) for name in names], _NO_IP), critical=True
            )
            .add_extension(key_id, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, cert_file: Path, key_file: Path) -> Self:
        """From PEM files; certificates after the first are its parents, if a CA of yours signed it. `CaError` says
        which file is missing, unreadable, malformed, or open to others."""
        try:
            certificate, *parents = x509.load_pem_x509_certificates(files.read(cert_file))
        except (OSError, ValueError) as error:
            raise CaError(
                f"The CA's certificate can't be read from {cert_file}: {error}."
            ) from None
        try:
            if why := open_to_others(key_file):
                raise CaError(f"The CA's key {why}")
            key = serialization.load_pem_private_key(files.read(key_file), password=None)
        except OSError as error:
            raise CaError(f"The CA's key can't be read from {key_file}: {error}.") from None
        except CaError:
            raise
        except (ValueError, TypeError):
            # The parser's own words may quote what it read.
            raise CaError(
                f"{key_file} holds no unencrypted PEM private key. Give the key of {cert_file}."
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise CaError(
                f"The CA's key in {key_file} is neither EC nor RSA, which clients need. Make a CA with one."
            )
        try:
            return cls(certificate, key, parents)
        except CaError as error:
            raise CaError(f"{cert_file}: {error}") from None

    @classmethod
    def load_or_create(
        cls, directory: Path, hosts: Sequence[str], clock: Clock = time.time
    ) -> Self:
        """The CA in ``directory`` (``ca.pem``, ``ca-key.pem``), made for ``hosts`` if there is none. One that is there
        is never changed: ask `uncovered` whether it reaches all hosts. `CaError` as from `load`, or if one of the two
        files is missing; `OSError` if the directory can't be written."""
        make_private(directory)
        with locked(directory):
            cert_file, key_file = directory / "ca.pem", directory / "ca-key.pem"
            if not cert_file.exists() and not key_file.exists():
                ca = cls.create(hosts, clock)
                ca._write(directory)
                return ca
            for here, gone in ((key_file, cert_file), (cert_file, key_file)):
                if not gone.exists():
                    raise CaError(
                        f"{here} is there but {gone} is not, so the CA can't be used and is not replaced either. "
                        f"Put {gone.name} back, or remove {here.name} to have a new CA made."
                    )
            return cls.load(cert_file, key_file)

    def save(self, directory: Path) -> None:
        """Write ``ca.pem`` (0644) and ``ca-key.pem`` (0600) into ``directory`` (made 0700), over what is there."""
        make_private(directory)
        with locked(directory):
            self._write(directory)

    def _write(self, directory: Path) -> None:
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # The certificate last: it is what `load_or_create` and people look for.
        files.replace(directory / "ca-key.pem", key, 0o600)
        files.replace(
            directory / "ca.pem",
            "".join(map(_pem, (self.certificate, *self._parents))).encode(),
            0o644,
        )

    def covers(self, host: str) -> bool:
        """Whether a leaf for ``host`` (normalised; ``*.x.y`` for all names below) would be accepted by clients."""
        try:
            name = constraint(host)
        except CaError:
            return False
        return any(name == root or name.endswith(f".{root}") for root in self.hosts)

    def uncovered(self, hosts: Sequence[str]) -> list[str]:
        """The ``hosts`` that this CA does not cover, so that a new one must be made for them."""
        return [host for host in hosts if not self.covers(host)]

    def sign_leaf(
        self, host: str, public_key: ec.EllipticCurvePublicKey, now: float
    ) -> x509.Certificate:
        """A server certificate for exactly ``host``, from a day ago to `LEAF_LIFETIME` ahead, never past the CA's own
        end. `CaError` for a host that the CA does not cover, or when the CA has expired."""
        if host.startswith("*.") or not self.covers(host):
            raise CaError(
                f"The CA does not cover {host!r}: it is limited to {', '.join(self.hosts)}. {_MAKE_ANEW}"
            )
        moment = datetime.fromtimestamp(int(now), UTC)
        if moment >= self.not_after:
            raise CaError(f"The CA expired on {self.not_after:%Y-%m-%d}. {_MAKE_ANEW}")
        ca_key_id = self.certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value
        return (
            _builder(moment, min(moment + LEAF_LIFETIME, self.not_after))
            # No common name: only clients that ignore RFC 9525 would read it.
            .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tollhouse")]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            # OpenSSL's X509_V_FLAG_X509_STRICT, Python 3.13's default, refuses a leaf without it.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_key_id),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a server sends after the leaf: nothing if the CA is a root, for that is what clients have; else the CA
        and its parents up to the root."""
        if self.certificate.issuer == self.certificate.subject:
            return ()
        return (
            self.certificate,
            *(parent for parent in self._parents if parent.issuer != parent.subject),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as `openssl x509 -fingerprint -sha256` prints it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def cert_pem(self) -> str:
        """What clients are told to trust: the root above ours if there is one in the file, else our own."""
        roots = [parent for parent in self._parents if parent.issuer == parent.subject]
        return _pem((roots or [self.certificate])[0])


def some(hosts: Sequence[str]) -> str:
    """Hosts for a sentence: all of a few; of many the first three, and the number of the others."""
    if len(hosts) <= 4:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:3])} and {len(hosts) - 3} other hosts"


def _builder(now: datetime, until: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _permitted(certificate: x509.Certificate) -> tuple[str, ...]:
    """The permitted dNSName subtrees. `CaError` unless it is a CA limited to DNS names, with all addresses barred."""
    try:
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        limits = extensions.get_extension_for_class(x509.NameConstraints)
        extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise CaError(
            f"This is no CA for here: it has no {error.oid._name} extension. {_WANTED}"
        ) from None
    except ValueError as error:
        raise CaError(f"This certificate's extensions can't be read: {error}. {_WANTED}") from None
    names = tuple(
        name.value
        for name in limits.value.permitted_subtrees or ()
        if isinstance(name, x509.DNSName)
    )
    if not basic.ca:
        raise CaError(f"This certificate is not a CA. {_WANTED}")
    if not names or "" in names or not limits.critical:
        raise CaError(
            f"This CA may sign for any host, so a stolen key would open all of a workload's TLS. {_WANTED}"
        )
    if not all(network in (limits.value.excluded_subtrees or ()) for network in _NO_IP):
        raise CaError(f"This CA may sign for IP addresses. {_WANTED}")
    return names


_WANTED: Final = (
    "Wanted is a CA with critical name constraints: dNSName of the providers' hosts permitted, iPAddress 0.0.0.0/0 and "
    "::/0 excluded, and a subject key identifier. `tollhouse run` makes such a one when [ca] is not set."
)
_MAKE_ANEW: Final = (
    "Make a new one (`tollhouse ca renew`; the files of [ca] are yours to make), give it to the "
    "workloads, and restart."
)


def _public_bytes(holder: x509.Certificate | SigningKey) -> bytes:
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
