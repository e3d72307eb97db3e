"""The snippets of certs/: what they set, and that the CA made with openssl is one that the gateway takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.requires import require

from tollhouse.trust.ca import CertificateAuthority

CERTS = Path(__file__).parent.parent.parent / "certs"
# The table of the clients that were tried, in certs/README.md.
TOLD = {
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_ENV_PROXY",
}
PATH = "/usr/local/bin:/usr/bin:/bin"


def sourced(shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [shell, "-euc", f". {CERTS}/env.sh; env"]
    return subprocess.run(
        command,
        env={"PATH": PATH, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_env_sets_what_all_clients_read(shell: str) -> None:
    """Sourcing env.sh sets every variable, the bundle where public roots are replaced, the CA where it is added."""
    done = sourced(shell, TOLLHOUSE_PROXY="http://p:gate_x@gw:8080", TOLLHOUSE_CERTS="/c")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: found[name] for name in TOLD} == {
        "HTTPS_PROXY": "http://p:gate_x@gw:8080",
        "https_proxy": "http://p:gate_x@gw:8080",
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "no_proxy": "localhost,127.0.0.1,::1",
        "SSL_CERT_FILE": "/c/bundle.pem",
        "REQUESTS_CA_BUNDLE": "/c/bundle.pem",
        "CURL_CA_BUNDLE": "/c/bundle.pem",
        "NODE_EXTRA_CA_CERTS": "/c/ca.pem",
        "NODE_USE_ENV_PROXY": "1",
    }


def test_env_says_what_is_missing() -> None:
    """Without the proxy's URL nothing is set and the reason is said."""
    done = sourced("sh", TOLLHOUSE_CERTS="/c")
    assert done.returncode != 0
    assert "TOLLHOUSE_PROXY: the URL of the gateway" in done.stderr


def test_compose_tells_the_same() -> None:
    """compose.yaml sets the variables of env.sh, and the README names each of them."""
    environment = (
        (CERTS / "compose.yaml").read_text().partition("environment:\n")[2].partition("\n\n")[0]
    )
    assert set(re.findall(r"^ +(\w+):", environment, re.MULTILINE)) == TOLD
    readme = (CERTS / "README.md").read_text()
    assert all(name in readme for name in TOLD if name.isupper())


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    require("openssl")
    command = ["bash", str(CERTS / "make-ca.sh"), *map(str, arguments)]
    return subprocess.run(
        command, env={"PATH": PATH}, capture_output=True, text=True, timeout=30, check=False
    )


def test_made_with_openssl(tmp_path: Path) -> None:
    """make-ca.sh makes a CA with the limits of ours and the same modes; the gateway loads it and signs with it."""
    done = make(tmp_path / "next", "api.openai.com", "*.openai.azure.com")
    assert done.returncode == 0, done.stderr
    ca = CertificateAuthority.load(tmp_path / "next/ca.pem", tmp_path / "next/ca-key.pem")
    assert ca.hosts == ("api.openai.com", "openai.azure.com")
    assert ca.fingerprint in done.stdout
    modes = [
        (tmp_path / "next" / name).stat().st_mode & 0o7777 for name in (".", "ca.pem", "ca-key.pem")
    ]
    assert modes == [0o700, 0o644, 0o600]
    ours = CertificateAuthority.create(["api.openai.com", "*.openai.azure.com"])

    def extensions(authority: CertificateAuthority) -> dict[str, tuple[bool, object]]:
        found = {
            e.oid.dotted_string: (e.critical, e.value) for e in authority.certificate.extensions
        }
        del found["2.5.29.14"]  # the subject key identifier, which is the key's
        return found

    assert extensions(ca) == extensions(ours)
    leaf = ca.sign_leaf(
        "a.openai.azure.com", ec.generate_private_key(ec.SECP256R1()).public_key(), 2e9
    )
    leaf.verify_directly_issued_by(ca.certificate)


def test_never_overwrites_a_ca(tmp_path: Path) -> None:
    """A CA that is there stays, and wrong use is said."""
    make(tmp_path / "next", "api.openai.com")
    before = (tmp_path / "next/ca-key.pem").read_bytes()
    done = make(tmp_path / "next", "api.openai.com")
    assert (done.returncode, (tmp_path / "next/ca-key.pem").read_bytes()) == (1, before)
    assert "is not overwritten" in done.stderr
    assert make(tmp_path / "other").returncode == 2
