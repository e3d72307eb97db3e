"""What a configuration names is opened, or said to be unfit for use."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tollhouse.call import ListenerKind
from tollhouse.config.load import Config, TlsFiles, catalog, load_config
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.credential.vault.reader import VaultReader
from tollhouse.demo.gateway_config import Settings, write_config
from tollhouse.stores import listener_context, open_ca, open_keys, open_reader
from tollhouse.trust.ca import CertificateAuthority
from tollhouse.trust.leaf import LeafStore


def configured(directory: Path, settings: Settings | None = None) -> Config:
    config = load_config(write_config(directory, None, settings))
    config.state.directory.mkdir(mode=0o700, exist_ok=True)
    return config


# The CA.


def test_a_ca_is_made_once(tmp_path: Path) -> None:
    """For every provider's host, and found again at the next start."""
    config = configured(tmp_path)
    made = open_ca(config, catalog(config))
    assert made.covers("api.openai.com")
    assert not made.covers("example.com")
    assert open_ca(config, catalog(config)).fingerprint == made.fingerprint
    assert (config.state.directory / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_a_ca_that_replicas_share(tmp_path: Path) -> None:
    """The configured files are used, and none is made."""
    config = configured(tmp_path, {"ca": {"cert_file": "ca.pem", "key_file": "ca-key.pem"}})
    hosts = [host for provider in catalog(config).providers for host in provider.hosts]
    shared = CertificateAuthority.create(hosts)
    shared.save(tmp_path)
    assert open_ca(config, catalog(config)).fingerprint == shared.fingerprint
    assert list(config.state.directory.iterdir()) == []


def test_a_new_ca_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state directory that got lost would else end all trust in silence."""
    config = configured(tmp_path)
    open_ca(config, catalog(config))
    assert f"give {config.state.directory / 'ca.pem'} to the workloads" in caplog.text
    caplog.clear()
    open_ca(config, catalog(config))
    assert caplog.text == ""


def test_a_host_that_was_added(tmp_path: Path) -> None:
    """The CA does not reach it: said with its name and what to do, not at the first handshake."""
    config = configured(tmp_path)
    before = open_ca(config, catalog(config))
    config = configured(
        tmp_path,
        {"providers.vllm": {"family": "openai", "hosts": ["llm.example", "*.llm.example"]}},
    )
    with pytest.raises(ValueError, match=r"does not cover .*llm\.example.*tollhouse ca renew"):
        open_ca(config, catalog(config))
    assert (
        CertificateAuthority.load_or_create(config.state.directory, []).fingerprint
        == before.fingerprint
    )


def test_a_ca_of_an_older_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It does not reach a host that is built in now: told at start, and the others are served."""
    config = configured(tmp_path)
    CertificateAuthority.create(["api.openai.com"]).save(config.state.directory)
    assert open_ca(config, catalog(config)).covers("api.openai.com")
    assert "api.anthropic.com" in caplog.text
    assert "tollhouse ca renew" in caplog.text


def test_a_ca_that_is_not_there(tmp_path: Path) -> None:
    """A configured one is never made."""
    config = configured(tmp_path, {"ca": {"cert_file": "ca.pem", "key_file": "ca-key.pem"}})
    with pytest.raises((ValueError, OSError), match=r"ca\.pem"):
        open_ca(config, catalog(config))


# The store of keys.


def vault(tmp_path: Path, **keys: Any) -> Config:
    files = {"role_id_file": "role-id", "secret_id_file": "secret-id"}
    settings = {"address": "https://vault.internal:8200", "auth": {"method": "approle", **files}}
    return configured(tmp_path, {"vault": {**settings, **keys}})


@pytest.mark.parametrize(
    "auth",
    [
        {"method": "approle", "role_id_file": "role-id", "secret_id_file": "secret-id"},
        {"method": "token_file", "token_file": "token"},
        {"method": "token", "token_file": "token"},
        {"method": "kubernetes", "role": "tollhouse"},
        {"method": "jwt", "role": "tollhouse", "jwt_file": "token", "mount": "oidc"},
    ],
    ids=lambda auth: auth["method"],
)
def test_ways_to_log_in(tmp_path: Path, auth: dict[str, str]) -> None:
    """Opened, not logged in yet: no file is read and nobody is asked."""
    reader = open_reader(vault(tmp_path, auth=auth))
    assert isinstance(reader, VaultReader)
    assert reader.mount == "secret"


def test_where_a_pod_has_its_token(tmp_path: Path) -> None:
    """Kubernetes' own place, unless another is named."""
    for file in ("", "token"):
        auth = {"method": "kubernetes", "role": "tollhouse", **({"jwt_file": file} if file else {})}
        reader = open_reader(vault(tmp_path, auth=auth))
        where = (
            str(tmp_path / file) if file else "/var/run/secrets/kubernetes.io/serviceaccount/token"
        )
        with pytest.raises(
            CredentialUnavailable, match=f"The kubernetes token file {where} can't be used"
        ):
            reader.connect()


def test_an_embedded_store(tmp_path: Path) -> None:
    """A file of the state directory."""
    assert isinstance(open_reader(configured(tmp_path)), EmbeddedVault)


async def test_a_key_that_is_set_while_it_runs(tmp_path: Path) -> None:
    """The embedded store has it at once where there was none, by the paths of the configuration."""
    config = configured(tmp_path)
    cache = open_keys(config)
    EmbeddedVault(config.state.directory).set("openai", "sk-the-first-one-of-this-test")
    lease = await cache.get("openai", "acme", "proj_1")
    assert lease.path == "infrastructure/openai"
    assert lease.secret.reveal() == "sk-the-first-one-of-this-test"
    with pytest.raises(CredentialUnavailable):
        await cache.get("anthropic", "acme", "proj_1")
    await cache.close()


def test_how_long_a_key_serves(tmp_path: Path) -> None:
    """As configured; the embedded one is a file, which is read more often."""
    assert open_keys(vault(tmp_path, refresh_s=120)).refresh_s == 120
    assert open_keys(configured(tmp_path, {"vault": {"refresh_s": 120}})).refresh_s == 5
    assert open_keys(configured(tmp_path, {"vault": {"refresh_s": 2}})).refresh_s == 2


# A listener's own TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A listener's certificate and key, as an operator makes them."""
    directory = tmp_path_factory.mktemp("tls")
    files = TlsFiles(cert_file=directory / "cert.pem", key_file=directory / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-keyout", str(files.key_file), "-out", str(files.cert_file)],
        capture_output=True,
        check=True,
    )
    return files


def agreed(server_context: ssl.SSLContext, *offered: str) -> str | None:
    """The protocol that a handshake in memory agrees on."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    client_context.set_alpn_protocols(list(offered))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(back, there)
    server = server_context.wrap_bio(there, back, server_side=True)
    for one in [client, server] * 4:
        with contextlib.suppress(ssl.SSLWantReadError):
            one.do_handshake()
    return client.selected_alpn_protocol()


@pytest.mark.parametrize(("kind", "protocol"), [("proxy", "http/1.1"), ("base_url", "h2")])
def test_a_listeners_certificate(certificate: TlsFiles, kind: ListenerKind, protocol: str) -> None:
    """CONNECT is spoken over HTTP/1.1 only."""
    assert agreed(listener_context(certificate, kind), "h2", "http/1.1") == protocol


@pytest.mark.parametrize("broken", ["no certificate", "no key", "not PEM", "another's key"])
def test_a_certificate_that_cannot_be_used(
    certificate: TlsFiles, tmp_path: Path, broken: str
) -> None:
    """Both names in one sentence, since either may be the wrong one."""
    other = tmp_path / "other.pem"
    if broken == "not PEM":
        other.write_text("nothing")
    elif broken == "another's key":
        made = CertificateAuthority.create(["a.example"])
        made.save(tmp_path)
        assert LeafStore(made)
        other = tmp_path / "ca-key.pem"
    files = {
        "no certificate": certificate.model_copy(update={"cert_file": other}),
        "no key": certificate.model_copy(update={"key_file": other}),
        "not PEM": certificate.model_copy(update={"key_file": other}),
        "another's key": certificate.model_copy(update={"key_file": other}),
    }[broken]
    with pytest.raises(ValueError, match=r"\[listen\] tls") as error:
        listener_context(files, "base_url")
    assert str(files.cert_file) in str(error.value)
    assert str(files.key_file) in str(error.value)
