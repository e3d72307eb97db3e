"""What `tollhouse init [DIR]` does: a commented tollhouse.toml, the state directory, the CA. Nothing is overwritten."""

from __future__ import annotations

import os
import shlex
import stat
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tollhouse.check.finding import Clock
from tollhouse.config.load import Config, catalog, load_config
from tollhouse.providers import DEFAULT
from tollhouse.trust.ca import CaError, CertificateAuthority, some

FILE_NAME = "tollhouse.toml"


class InitError(Exception):
    """Nothing usable was made; ``str()`` says what happened, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was made. ``next_steps`` are lines for a person."""

    config: Config
    ca_file: Path
    fingerprint: str
    next_steps: str


def template(*, embedded: bool = False) -> str:
    """The file that `initialise` writes: every key at its default; ``embedded`` names the embedded stores instead."""
    text = files("tollhouse.cli").joinpath("template.toml").read_text("utf-8")
    if embedded:
        for default, wanted in (
            ('\nurl = "redis://127.0.0.1:6379/0"\n', '\nurl = "embedded"\n'),
            ('\naddress = "https://vault:8200"\n', '\naddress = "embedded"\n'),
            ("\nauth = {", "\n#auth = {"),
        ):
            if text.count(default) != 1:
                raise AssertionError(f"the template has lost its line {default!r}")
            text = text.replace(default, wanted)
    return text


def initialise(directory: Path, *, embedded: bool = False, clock: Clock = time.time) -> Initialised:
    """Write ``directory``/tollhouse.toml (0600: it may come to hold a password), its state directory (0700) and the CA.

    A CA that is there already is kept. Raises `InitError`, and then leaves no tollhouse.toml behind that it made.
    """
    file = directory / FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with os.fdopen(
            os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as out:
            out.write(template(embedded=embedded))
    except FileExistsError:
        raise InitError(
            f"{file if file.exists() else directory} exists already and is not overwritten, because it may be in use; "
            "edit it, or name another directory"
        ) from None
    except OSError as error:
        raise InitError(
            f"{file} can't be written ({error.strerror}); name a directory that you may write"
        ) from None
    try:
        config = load_config(file)
        state = config.state.directory
        _make_private(state)
        hosts = catalog(config).hosts
        ca = CertificateAuthority.load_or_create(state, hosts, clock)
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, CaError):
            raise InitError(str(error)) from None
        if isinstance(error, OSError):
            place = error.filename or state
            raise InitError(
                f"{place} can't be used ({error.strerror}); name a directory of your own"
            ) from None
        raise
    ca_file = state / "ca.pem"
    return Initialised(
        config, ca_file, ca.fingerprint, _next_steps(config, ca_file, ca.uncovered(hosts))
    )


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        directory.chmod(0o700)


def _next_steps(config: Config, ca_file: Path, uncovered: list[str]) -> str:
    option = (
        "" if config.path.parent == Path.cwd() else f" --config {shlex.quote(str(config.path))}"
    )
    if config.vault.embedded:
        stores = "Redis and Vault are embedded: nothing to install, for one machine."
        key = f"tollhouse key set {DEFAULT.name}{option}      (asks for the provider's key)"
    else:
        stores = f"Open {config.path}: say where Redis ([redis] url) and Vault ([vault] address, auth) are."
        place = f"{config.vault.mount}/infrastructure/{DEFAULT.name}, field {config.vault.field}"
        key = f"Put the provider's key into Vault: {place}"
    steps = [
        stores,
        key,
        f"tollhouse check{option}",
        f"tollhouse run{option}",
        f'tollhouse project set proj_123 --tenant acme --limit "10 usd/day"{option}',
        f"tollhouse token create proj_123{option}      (prints the gate token, once)",
        f"tollhouse exec{option} -- COMMAND      (a workload on this machine; it needs no more)",
        f"Give other workloads {ca_file} (SSL_CERT_FILE; certs/README.md has other clients) and "
        f"HTTPS_PROXY=http://proj_123:gate_...@{config.listen.proxy}",
    ]
    if uncovered:
        steps.insert(
            0, f"The CA that was there does not cover {some(uncovered)}: tollhouse ca renew{option}"
        )
    return "\n".join(["Next:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))])
