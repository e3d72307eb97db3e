"""The CA: what clients accept of it, what they refuse though its own key signed it, and how its files are kept."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from tests.support.requires import program

from tollhouse.providers import BUILT_IN
from tollhouse.trust.ca import CaError, CertificateAuthority, constraint, some

HOSTS = ["api.openai.com", "*.openai.azure.com", "llm.internal"]
NOW = datetime.now(UTC)


@pytest.fixture
def ca() -> CertificateAuthority:
    return CertificateAuthority.create(HOSTS)


def stolen_key(ca: CertificateAuthority, directory: Path) -> ec.EllipticCurvePrivateKey:
    ca.save(directory)
    key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def forge(
    ca: CertificateAuthority,
    directory: Path,
    *,
    names: Sequence[x509.GeneralName] = (),
    common_name: str = "x",
) -> Path:
    """A leaf that the CA's own key signed, past our code: what a thief of the key would make."""
    key = stolen_key(ca, directory)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(ca.certificate.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(issuer_id, critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return write(directory / "forged.pem", builder.sign(key, hashes.SHA256()))


def write(file: Path, certificate: x509.Certificate) -> Path:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return file


def openssl_verify(ca: CertificateAuthority, leaf: Path, *check: str) -> str:
    """`` `` (empty) if the system's openssl accepts the leaf as a server's, else what it says."""
    root = leaf.with_name("trusted.pem")
    root.write_text(ca.cert_pem)
    command = [
        program("openssl"),
        "verify",
        "-purpose",
        "sslserver",
        *check,
        "-CAfile",
        str(root),
        str(leaf),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    "host", ["api.openai.com", "eu.api.openai.com", "my-resource.openai.azure.com", "llm.internal"]
)
def test_openssl_accepts_covered_hosts(ca: CertificateAuthority, tmp_path: Path, host: str) -> None:
    """A leaf of ours for a covered host or a name below one passes openssl's strict check for that name."""
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = write(tmp_path / "leaf.pem", ca.sign_leaf(host, public_key, NOW.timestamp()))
    assert openssl_verify(ca, leaf, "-x509_strict", "-verify_hostname", host) == ""
    assert "hostname mismatch" in openssl_verify(ca, leaf, "-verify_hostname", "us.api.openai.com")


@pytest.mark.parametrize(
    "host",
    ["github.com", "openai.com", "evilapi.openai.com", "azure.com", "api.openai.com.evil.com"],
)
def test_openssl_refuses_another_host(ca: CertificateAuthority, tmp_path: Path, host: str) -> None:
    """A leaf for a host beyond the name constraints is refused though the CA's key signed it."""
    leaf = forge(ca, tmp_path, names=[x509.DNSName(host)])
    assert "permitted subtree violation" in openssl_verify(ca, leaf)


def test_openssl_refuses_a_second_name(ca: CertificateAuthority, tmp_path: Path) -> None:
    """A covered name beside another one does not help it."""
    leaf = forge(ca, tmp_path, names=[x509.DNSName("api.openai.com"), x509.DNSName("github.com")])
    assert "permitted subtree violation" in openssl_verify(
        ca, leaf, "-verify_hostname", "api.openai.com"
    )


@pytest.mark.parametrize("address", ["10.1.2.3", "8.8.8.8", "::1", "2001:db8::1"])
def test_openssl_refuses_an_address(ca: CertificateAuthority, tmp_path: Path, address: str) -> None:
    """A leaf for any IPv4 or IPv6 address is refused."""
    leaf = forge(ca, tmp_path, names=[x509.IPAddress(ipaddress.ip_address(address))])
    assert "excluded subtree violation" in openssl_verify(ca, leaf)


def test_openssl_refuses_common_name_only(ca: CertificateAuthority, tmp_path: Path) -> None:
    """Without a SAN openssl holds the common name against the dNSName constraints, and refuses another host's."""
    leaf = forge(ca, tmp_path, common_name="github.com")
    assert "permitted subtree violation" in openssl_verify(ca, leaf)


def test_openssl_and_a_covered_common_name(ca: CertificateAuthority, tmp_path: Path) -> None:
    """A common name of a covered host passes openssl's fallback: the constraints hold, nothing beyond them opens."""
    leaf = forge(ca, tmp_path, common_name="api.openai.com")
    assert openssl_verify(ca, leaf, "-verify_hostname", "api.openai.com") == ""


def test_openssl_refuses_a_ca_below_ours(ca: CertificateAuthority, tmp_path: Path) -> None:
    """Path length 0: a CA that our key signed can't sign leaves."""
    key, below = stolen_key(ca, tmp_path), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "below")])

    def signed(
        subject: x509.Name, issuer: x509.Name, *, is_ca: bool, by: ec.EllipticCurvePrivateKey
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(below.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(hours=1))
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("api.openai.com")]), critical=False
            )
            .sign(by, hashes.SHA256())
        )

    middle = write(
        tmp_path / "middle.pem", signed(name, ca.certificate.subject, is_ca=True, by=key)
    )
    leaf = write(tmp_path / "leaf.pem", signed(x509.Name([]), name, is_ca=False, by=below))
    assert "path length constraint exceeded" in openssl_verify(ca, leaf, "-untrusted", str(middle))


def test_openssl_shows_what_was_promised(ca: CertificateAuthority, tmp_path: Path) -> None:
    """Basic constraints, key usage and name constraints are critical, and the CA lives ten years."""
    ca.save(tmp_path)
    shown = subprocess.run(
        [
            program("openssl"),
            "x509",
            "-in",
            str(tmp_path / "ca.pem"),
            "-noout",
            "-text",
            "-fingerprint",
            "-sha256",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    for wanted in (
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign",
        "X509v3 Name Constraints: critical",
        "DNS:openai.azure.com",
        "IP:0.0.0.0/0.0.0.0",
        "NIST CURVE: P-256",
        f"Fingerprint={ca.fingerprint}",
    ):
        assert wanted in shown
    assert ca.not_after - ca.certificate.not_valid_before_utc == timedelta(days=3651)


def test_covers_and_uncovered(ca: CertificateAuthority) -> None:
    """A host, the names below it, and a wildcard inside it are covered; a bare suffix or an address is not."""
    hosts = ["api.openai.com", "eu.api.openai.com", "*.openai.azure.com", "a.b.openai.azure.com"]
    others = [
        "openai.com",
        "notapi.openai.com",
        "*.openai.com",
        "10.0.0.1",
        "[::1]",
        "",
        "api.openai.com.",
    ]
    assert ca.uncovered([*hosts, *others]) == others


def test_hosts_in_a_sentence() -> None:
    """A few are all named; of many it is said how many there are."""
    assert some(["a.x", "b.x", "c.x", "d.x"]) == "a.x, b.x, c.x, d.x"
    assert some([f"{letter}.x" for letter in "abcdefgh"]) == "a.x, b.x, c.x and 5 other hosts"


def test_every_built_in_provider_can_be_covered() -> None:
    """A CA made of all built-in hosts covers all of them."""
    hosts = [host for provider in BUILT_IN for host in provider.hosts]
    assert CertificateAuthority.create(hosts).uncovered(hosts) == []


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.",
        "10.0.0.1",
        "0x7f.1",
        "::1",
        "a..b",
        "API.openai.com",
        "a b",
        "*.*.com",
        "ü.de",
    ],
)
def test_what_is_no_host(host: str) -> None:
    """A CA is limited to DNS names in the normal form only, and the error names the offender."""
    with pytest.raises(CaError, match="not a host name"):
        constraint(host)


def test_no_hosts() -> None:
    """A CA without a host would be limited to nothing."""
    with pytest.raises(CaError, match="at least one provider host"):
        CertificateAuthority.create([])


def test_leaf_ends_with_the_ca() -> None:
    """A leaf does not outlive its CA, and an expired CA signs none."""
    ca = CertificateAuthority.create(HOSTS, clock=lambda: 0.0)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    end = ca.not_after.timestamp()
    assert ca.sign_leaf("api.openai.com", key, end - 60).not_valid_after_utc == ca.not_after
    with pytest.raises(CaError, match="expired on 1979-12-30"):
        ca.sign_leaf("api.openai.com", key, end)


def test_files_and_modes(tmp_path: Path) -> None:
    """The directory is 0700, the key 0600, the certificate 0644; the second start finds the same CA."""
    state = tmp_path / "deep" / "state"
    made = CertificateAuthority.load_or_create(state, HOSTS)
    assert [
        oct(path.stat().st_mode & 0o7777)
        for path in (state, state / "ca-key.pem", state / "ca.pem")
    ] == [
        "0o700",
        "0o600",
        "0o644",
    ]
    assert sorted(path.name for path in state.iterdir()) == ["ca-key.pem", "ca.pem"]
    again = CertificateAuthority.load_or_create(state, ["other.example"])
    assert again.fingerprint == made.fingerprint
    assert again.hosts == ("api.openai.com", "llm.internal", "openai.azure.com")
    assert again.uncovered(["other.example"]) == ["other.example"]


def test_two_that_start_together_make_one(tmp_path: Path) -> None:
    """Eight at once in an empty directory all get the same CA."""
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(
            lambda _: CertificateAuthority.load_or_create(tmp_path, HOSTS).fingerprint, range(8)
        )
    assert len(set(made)) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_key_open_to_others_is_refused(ca: CertificateAuthority, tmp_path: Path, mode: int) -> None:
    """A key that others can read or change is refused, with the mode and the way out."""
    ca.save(tmp_path)
    (tmp_path / "ca-key.pem").chmod(mode)
    with pytest.raises(CaError, match=rf"ca-key.pem has mode {mode:04o}.*others.*chmod 0600"):
        CertificateAuthority.load_or_create(tmp_path, HOSTS)


@pytest.mark.parametrize("gone", ["ca.pem", "ca-key.pem"])
def test_half_a_ca_is_never_replaced(ca: CertificateAuthority, tmp_path: Path, gone: str) -> None:
    """With one of the two files missing nothing is made and nothing overwritten."""
    ca.save(tmp_path)
    (tmp_path / gone).unlink()
    left = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CaError, match=f"{gone} is not.*Put {gone} back"):
        CertificateAuthority.load_or_create(tmp_path, HOSTS)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == left


def test_save_replaces(ca: CertificateAuthority, tmp_path: Path) -> None:
    """A renewed CA takes the place of the former one."""
    CertificateAuthority.create(HOSTS).save(tmp_path)
    ca.save(tmp_path)
    loaded = CertificateAuthority.load(tmp_path / "ca.pem", tmp_path / "ca-key.pem")
    assert loaded.fingerprint == ca.fingerprint
    assert loaded.cert_pem == ca.cert_pem


def test_broken_files_say_which(ca: CertificateAuthority, tmp_path: Path) -> None:
    """Missing, malformed, encrypted or foreign files are named, and no key material is quoted."""
    ca.save(tmp_path)
    cert, key = tmp_path / "ca.pem", tmp_path / "ca-key.pem"
    with pytest.raises(CaError, match=r"certificate can't be read from .*none.pem"):
        CertificateAuthority.load(tmp_path / "none.pem", key)
    with pytest.raises(CaError, match=r"key can't be read from .*none.pem"):
        CertificateAuthority.load(cert, tmp_path / "none.pem")
    with pytest.raises(CaError, match=r"certificate can't be read from .*ca-key.pem"):
        CertificateAuthority.load(key, key)
    other = tmp_path / "other"
    CertificateAuthority.create(HOSTS).save(other)
    with pytest.raises(CaError, match=r"ca.pem: .*does not belong"):
        CertificateAuthority.load(cert, other / "ca-key.pem")
    secret = key.read_text().splitlines()[1]
    key.write_text(f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(CaError, match="no unencrypted PEM private key") as caught:
        CertificateAuthority.load(cert, key)
    assert secret not in str(caught.value)


def own_ca(
    *,
    names: Sequence[x509.GeneralName] | None,
    excluded: Sequence[x509.GeneralName] | None,
    is_ca: bool = True,
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A company's own signing certificate with an RSA key, as its PKI might make one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "company")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names or excluded:
        builder = builder.add_extension(x509.NameConstraints(names, excluded), critical=True)
    return builder.sign(key, hashes.SHA256()), key


NO_IP = [x509.IPAddress(ipaddress.ip_network(network)) for network in ("0.0.0.0/0", "::/0")]


@pytest.mark.parametrize(
    ("names", "excluded", "is_ca", "why"),
    [
        (None, None, True, "no nameConstraints"),
        ([x509.DNSName("api.openai.com")], None, True, "may sign for IP addresses"),
        ([x509.DNSName("api.openai.com")], NO_IP[:1], True, "may sign for IP addresses"),
        (None, NO_IP, True, "may sign for any host"),
        ([x509.DNSName("")], NO_IP, True, "may sign for any host"),
        ([x509.DNSName("api.openai.com")], NO_IP, False, "not a CA"),
    ],
)
def test_a_ca_without_our_limits_is_refused(
    names: Sequence[x509.GeneralName] | None,
    excluded: Sequence[x509.GeneralName] | None,
    is_ca: bool,
    why: str,
) -> None:
    """A company's CA that may sign for the world is no CA for a proxy, and the error says what is wanted."""
    with pytest.raises(CaError, match=f"(?s){why}.*Wanted is"):
        CertificateAuthority(*own_ca(names=names, excluded=excluded, is_ca=is_ca))


def test_a_limited_rsa_ca_of_the_company_is_taken() -> None:
    """A CA of somebody else's making with the same limits works, with an RSA key too."""
    ca = CertificateAuthority(*own_ca(names=[x509.DNSName("api.openai.com")], excluded=NO_IP))
    leaf = ca.sign_leaf(
        "api.openai.com", ec.generate_private_key(ec.SECP256R1()).public_key(), NOW.timestamp()
    )
    leaf.verify_directly_issued_by(ca.certificate)


def test_repr_shows_no_key(ca: CertificateAuthority) -> None:
    """The object may be printed."""
    assert repr(ca) == f"<CertificateAuthority {ca.fingerprint[:11]} for 3 hosts>"
