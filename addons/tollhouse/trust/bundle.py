"""What a workload trusts that talks to providers and to others as well: the public roots, and ours."""

from __future__ import annotations

from pathlib import Path

import certifi

from tollhouse import files
from tollhouse.trust.ca import CertificateAuthority


def write_bundle(ca: CertificateAuthority, roots: Path | None = None) -> str:
    """PEM of the public roots (certifi's, or those of the file ``roots``: a machine's own store, with its company's)
    and of ``ca``. Needed since SSL_CERT_FILE replaces the public roots in Python and Go. `OSError` if ``roots`` can't
    be read."""
    public = files.read(roots or Path(certifi.where())).decode().rstrip()
    return f"{public}\n\n# Tollhouse CA, SHA-256 {ca.fingerprint}, until {ca.not_after:%Y-%m-%d}\n{ca.cert_pem}"
