"""`tollhouse check`: the files that the configuration names, and the CA."""

from __future__ import annotations

import os
import ssl
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from tollhouse import files
from tollhouse.check.finding import Clock, Finding
from tollhouse.config.load import AppRoleAuth, Config, TokenAuth, catalog
from tollhouse.config.models import UpstreamProxyConfig
from tollhouse.control.lock import NAME as LOCK_NAME
from tollhouse.trust.ca import CaError, CertificateAuthority, some
from tollhouse.trust.state_directory import exposures

SOON: Final = timedelta(days=30)


def check_ca(config: Config, clock: Clock) -> Iterator[Finding]:
    """Whether the CA can be used, reaches all providers' hosts, and will not end soon. Makes nothing."""
    cert_file = config.ca.cert_file or config.state.directory / "ca.pem"
    key_file = config.ca.key_file or config.state.directory / "ca-key.pem"
    if config.ca.cert_file is None and not _exists(cert_file) and not _exists(key_file):
        yield Finding(
            "ok", "There is no CA yet.", f"`tollhouse run` makes it in {config.state.directory}."
        )
        return
    try:
        ca = CertificateAuthority.load(cert_file, key_file)
    except CaError as error:
        yield Finding("error", "The CA can't be used.", str(error))
        return
    hosts = [host for provider in catalog(config).providers for host in provider.hosts]
    missing = ca.uncovered(hosts)
    if missing:
        configured = {host for entry in config.providers.values() for host in entry.hosts or ()}
        added = [host for host in missing if host in configured]
        yield Finding(
            "error" if added else "warn",
            f"The CA does not cover {some(added or missing)}.",
            "It was made before these hosts were configured or built in, and its name constraints are a part of its signature. "
            + (
                "The gateway does not start."
                if added
                else "Calls to them are refused, others go on."
            ),
            "Make a new one (`tollhouse ca renew`) and give it to the workloads.",
        )
    else:
        yield Finding(
            "ok", f"The CA covers all {len(hosts)} provider hosts.", f"SHA-256 {ca.fingerprint}"
        )
    yield from _end_of(ca.not_after, "The CA", "Make a new one (`tollhouse ca renew`).", clock)


def check_files(config: Config, clock: Clock) -> Iterator[Finding]:
    """What the gateway opens or writes at start, and whether others on this machine can read secrets."""
    directory = config.state.directory
    lock = directory / LOCK_NAME
    if why := _no_directory(directory) or (_unwritable(lock) if _exists(lock) else ""):
        todo = "Name a directory that the gateway's user may write to in [state] directory, or change its owner."
        yield Finding("error", f"The state directory {directory} can't be used.", why, todo)
    yield from _exposed(directory)
    tls = config.listen.tls
    if tls is not None:
        yield from _server_certificate(tls.cert_file, tls.key_file, clock)
    bundles = [
        (f"providers.{name}.ca_file", entry.ca_file) for name, entry in config.providers.items()
    ]
    proxies = [("upstream.proxy", config.upstream.proxy)]
    proxies += [
        (f"providers.{name}.upstream_proxy", entry.upstream_proxy)
        for name, entry in config.providers.items()
        if isinstance(entry.upstream_proxy, UpstreamProxyConfig)
    ]
    proxies += [
        (f"tunnels.{index}.upstream_proxy", entry.upstream_proxy)
        for index, entry in enumerate(config.tunnels)
        if isinstance(entry.upstream_proxy, UpstreamProxyConfig)
    ]
    proxies += [
        (f"identity.jwt[{index}].upstream_proxy", entry.upstream_proxy)
        for index, entry in enumerate(config.identity.jwt)
        if isinstance(entry.upstream_proxy, UpstreamProxyConfig)
    ]
    proxies += [
        (f"alerts[{index}].upstream_proxy", entry.upstream_proxy)
        for index, entry in enumerate(config.alerts)
        if isinstance(entry.upstream_proxy, UpstreamProxyConfig)
    ]
    bundles += [(f"alerts[{n}].ca_file", entry.ca_file) for n, entry in enumerate(config.alerts)]
    bundles += [(f"{key}.ca_file", proxy.ca_file) for key, proxy in proxies if proxy is not None]
    bundles += [
        (f"identity.jwt[{n}].ca_file", entry.ca_file) for n, entry in enumerate(config.identity.jwt)
    ]
    if config.identity.mtls is not None:
        bundles.append(("identity.mtls.ca_file", config.identity.mtls.ca_file))
    if config.vault.proxy is not None:
        bundles.append(("vault.proxy.ca_file", config.vault.proxy.ca_file))
    for key, file in [*bundles, ("vault.ca_file", config.vault.ca_file)]:
        if file is not None and (why := _not_roots(file)):
            yield Finding(
                "error", f"{key} {file} can't be used.", why, "Give a PEM file of CA certificates."
            )
    calls = config.log.calls
    if isinstance(calls, Path) and (why := _no_file(calls)):
        todo = "Name a file that the gateway's user may write to; its directory must be there."
        yield Finding("error", f"log.calls {calls} can't be written.", why, todo)
    yield from _readable_by_others(config)


def _exposed(directory: Path) -> Iterator[Finding]:
    """What `run` refuses to start with."""
    try:
        for found in exposures(directory):
            yield Finding("error", found.what, found.why, found.todo)
    except OSError as error:
        why = f"{error.strerror or type(error).__name__}."
        yield Finding(
            "error",
            f"The state directory {directory} can't be looked at.",
            why,
            "Run this as the gateway's user.",
        )


def _no_directory(directory: Path) -> str:
    """Why ``directory`` can't be written in, or, if it is missing, be made with its parents; empty if it can."""
    try:
        while not directory.exists():
            directory = directory.parent
        # The only answer that holds for root, read-only mounts and /proc too. The file has no name, or loses it at once.
        with tempfile.TemporaryFile(dir=directory):
            return ""
    except OSError as error:
        return f"{error.strerror or type(error).__name__}: {directory} can't be written in."


def _no_file(file: Path) -> str:
    """Why ``file`` can't be written, or made where it is missing; empty if it can."""
    if not _exists(file):
        directory = file.parent
        return (
            _no_directory(directory)
            if _exists(directory)
            else f"There is no directory {directory}."
        )
    return _unwritable(file)


def _unwritable(file: Path) -> str:
    if file.is_dir():
        return f"{file} is a directory."
    return "" if os.access(file, os.W_OK) else f"This user may not write {file}."


def _exists(path: Path) -> bool:
    """False too for what this user can't see."""
    try:
        return path.exists()
    except OSError:
        return False


def _server_certificate(cert_file: Path, key_file: Path, clock: Clock) -> Iterator[Finding]:
    try:
        # The password: OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password="")
        certificate = x509.load_pem_x509_certificates(files.read(cert_file))[0]
    except (OSError, ValueError) as error:
        why = (
            getattr(error, "reason", None)
            or getattr(error, "strerror", None)
            or type(error).__name__
        )
        yield Finding(
            "error",
            f"listen.tls {cert_file} and {key_file} can't be used.",
            f"{why}.",
            "Give a PEM certificate chain and its unencrypted key.",
        )
        return
    yield Finding("ok", f"listen.tls {cert_file} belongs to its key.")
    yield from _end_of(
        certificate.not_valid_after_utc, f"listen.tls {cert_file}", "Renew it.", clock
    )


def _end_of(end: datetime, whose: str, todo: str, clock: Clock) -> Iterator[Finding]:
    now = datetime.fromtimestamp(clock(), UTC)
    if end <= now:
        yield Finding("error", f"{whose} expired on {end:%Y-%m-%d}.", "Clients refuse it.", todo)
    elif end - now < SOON:
        yield Finding(
            "warn", f"{whose} expires on {end:%Y-%m-%d}.", "After that clients refuse it.", todo
        )


def _not_roots(file: Path) -> str:
    try:
        context = ssl.create_default_context(cafile=str(file))
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'reason', None) or getattr(error, 'strerror', None) or type(error).__name__}."
    return "" if context.cert_store_stats()["x509"] else "It holds no certificate."


def _readable_by_others(config: Config) -> Iterator[Finding]:
    auth = config.vault.auth
    secrets = []
    if urlsplit(config.redis.url).password:
        secrets.append((config.path, "the password of Redis"))
    if isinstance(auth, AppRoleAuth):
        secrets.append((auth.secret_id_file, "the secret_id of our login to Vault"))
    elif isinstance(auth, TokenAuth):
        secrets.append((auth.token_file, "a token of Vault"))
    if config.listen.tls is not None:
        secrets.append((config.listen.tls.key_file, "the key of the listeners' certificate"))
    for entry in config.alerts:
        if entry.to is not None and entry.speaks == "slack":
            secrets.append((config.path, f"the URL of {entry.called}, by which messages are sent"))
        if entry.to_file is not None:
            secrets.append((entry.to_file, f"the URL of {entry.called}"))
        if entry.signing_secret_file is not None:
            secrets.append((entry.signing_secret_file, f"what signs alerts to {entry.called}"))
    secrets.append((config.state.directory, "the CA's key and the embedded stores"))
    for file, what in secrets:
        # A group may be meant (a mounted secret with fsGroup); everybody never is.
        # What others may write in is an error, and said already.
        refused = 0o022 if file == config.state.directory else 0
        if (
            _exists(file)
            and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o007
            and not mode & refused
        ):
            private = "0700" if file.is_dir() else "0600"
            why = f"Everybody on this machine may read {what}."
            yield Finding("warn", f"{file} is open to others.", why, f"`chmod {private} {file}`.")
