"""The two proxies of the bench and what they need, each started with a clean environment and ended with the block."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.load import HOST, Proxy

_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Side:
    pids: tuple[int, ...]
    """The processes that carry the calls."""
    proxy: Proxy
    neighbour: Proxy | None = None
    """The same for another tenant."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


@contextmanager
def _running(arguments: list[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(arguments, env=environment(**more), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    port = free_port()
    arguments = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(directory),
    ]
    with _running(arguments) as process:
        _wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def mitmdump(directory: Path, provider_port: int, port: int) -> Iterator[Side]:
    arguments = [str(_BIN / "mitmdump"), "-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    for option in (
        "connection_strategy=lazy",
        "upstream_cert=false",
        f"confdir={directory / 'mitm'}",
        f"ssl_verify_upstream_trusted_ca={directory / 'provider.pem'}",
    ):
        arguments += ["--set", option]
    arguments += ["-s", str(Path(__file__).with_name("mitm_redirect.py"))]
    with _running(arguments, BENCH_PROVIDER_PORT=str(provider_port)) as process:
        _wait_for_port(port, process)
        yield Side((process.pid,), Proxy(port))


@contextmanager
def tollhouse(
    directory: Path, provider_port: int, redis_url: str, workers: int = 1
) -> Iterator[Side]:
    port = free_port()
    config = directory / "tollhouse.toml"
    config.write_text(
        f"""[listen]
proxy = "127.0.0.1:{port}"
base_url = "off"
admin = "off"
[redis]
url = "{redis_url}"
[vault]
address = "embedded"
[log]
calls = "calls.jsonl"
[providers.openai]
connect_to = "127.0.0.1:{provider_port}"
ca_file = "provider.pem"
allow_private = true
[projects.bench]
tenant = "bench"
limits = ["1000000 usd/day", "9000000000 tokens/minute", "100000000 requests/minute", "1000 concurrent"]
[projects.neighbour]
tenant = "neighbour"
"""
    )
    command = [str(_BIN / "tollhouse")]
    key = "sk-" + secrets.token_urlsafe(32)
    where = ["--config", str(config)]
    subprocess.run(
        [*command, "key", "set", "openai", *where],
        input=key.encode(),
        env=environment(),
        check=True,
    )
    with _running([*command, "run", "--workers", str(workers), *where]) as process:
        _wait_for_port(port, process)
        tokens = [
            subprocess.run(
                [*command, "token", "create", project, *where],
                env=environment(),
                check=True,
                stdout=subprocess.PIPE,
            )
            .stdout.decode()
            .strip()
            for project in ("bench", "neighbour")
        ]
        shown = subprocess.run(
            [*command, "workers", "--json", *where],
            env=environment(),
            check=True,
            stdout=subprocess.PIPE,
        )
        pids = tuple(worker["pid"] for worker in json.loads(shown.stdout))
        yield Side(
            pids,
            Proxy.basic(port, "bench", tokens[0]),
            Proxy.basic(port, "neighbour", tokens[1]),
        )


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate of the provider for its name and 127.0.0.1, and its CA in ``provider.pem``."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bench CA")])
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())

    def builder(public_key: ec.EllipticCurvePublicKey, name: x509.Name) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    ca = (
        builder(ca_key.public_key(), ca_name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        builder(key.public_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    cert_file, key_file = directory / "leaf.pem", directory / "leaf-key.pem"
    cert_file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (directory / "provider.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return cert_file, key_file
