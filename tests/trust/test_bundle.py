"""The bundle for SSL_CERT_FILE."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from tests.trust.company import company_ca

from tollhouse.trust.bundle import write_bundle
from tollhouse.trust.ca import CertificateAuthority

# Some public roots have a serial number of 0.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def test_public_roots_and_ours() -> None:
    """The bundle holds every public root and our CA once, is found by its fingerprint, and Python loads it whole."""
    ca = CertificateAuthority.create(["api.openai.com"])
    text = write_bundle(ca)
    certificates = x509.load_pem_x509_certificates(text.encode())
    public = x509.load_pem_x509_certificates(Path(certifi.where()).read_bytes())
    assert len(certificates) == len(public) + 1
    assert certificates[-1] == ca.certificate
    assert f"# Tollhouse CA, SHA-256 {ca.fingerprint}" in text
    assert text.endswith("-----END CERTIFICATE-----\n")
    context = ssl.create_default_context(cadata=text)
    assert context.cert_store_stats()["x509_ca"] == len(certificates)


def test_another_store_instead_of_the_public_roots(tmp_path: Path) -> None:
    """A machine's own store can take the place of certifi's, with or without a newline at its end."""
    first, ca = (CertificateAuthority.create(["api.openai.com"]) for _ in range(2))
    store = tmp_path / "store.pem"
    store.write_text(first.cert_pem.rstrip("\n"))
    certificates = x509.load_pem_x509_certificates(write_bundle(ca, store).encode())
    assert certificates == [first.certificate, ca.certificate]
    with pytest.raises(FileNotFoundError):
        write_bundle(ca, tmp_path / "none.pem")


def test_the_companys_root_is_what_is_trusted() -> None:
    """Of a CA that a company's root signed, the bundle holds the root."""
    ca = company_ca("api.openai.com")
    last = x509.load_pem_x509_certificates(write_bundle(ca).encode())[-1]
    assert last.subject == ca.certificate.issuer
