"""`tollhouse ca show|renew|bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tollhouse.cli.common import SaysNo, config_option, json_option, load, say, show
from tollhouse.timestamps import rfc3339

if TYPE_CHECKING:
    from tollhouse.config.load import Config
    from tollhouse.trust.ca import CertificateAuthority


@click.group()
@config_option
def ca() -> None:
    """The CA that workloads must trust."""


@ca.command("show")
@config_option
@json_option
def ca_show(as_json: bool) -> None:
    """The CA's fingerprint, its end, the hosts that it is limited to, and its file."""
    config = load()
    ours = authority(config)
    from tollhouse.config.load import catalog

    cert_file, _ = _ca_files(config)
    missing = ours.uncovered([host for entry in catalog(config).providers for host in entry.hosts])
    if missing:
        say(
            f"the CA does not cover {', '.join(missing)}: it must be made anew and given to the workloads again"
        )
    found = {
        "cert_file": str(cert_file),
        "fingerprint": ours.fingerprint,
        "not_after": rfc3339(ours.not_after.timestamp()),
        "hosts": list(ours.hosts),
        "uncovered": missing,
    }

    def for_people() -> str:
        from tollhouse.cli import render

        return "\n".join(
            f"{name.replace('_', ' ') + ':':<13}{render.cell(value)}"
            for name, value in found.items()
        )

    show(found, as_json, for_people)


@ca.command("renew")
@config_option
def ca_renew() -> None:
    """Make a new CA for the configured providers.

    Workloads must be given it before the gateway is started anew; until then the old one serves on. The old files are
    kept beside it as ca-previous.pem and ca-previous-key.pem.
    """
    from tollhouse.config.load import catalog
    from tollhouse.trust.ca import CaError, CertificateAuthority

    config = load()
    if config.ca.cert_file is not None:
        raise SaysNo(
            f"[ca] names {config.ca.cert_file}, which is yours: make the new one where that one was made"
        )
    directory = config.state.directory
    try:
        renewed = CertificateAuthority.create(
            [host for entry in catalog(config).providers for host in entry.hosts]
        )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("ca.pem", "ca-key.pem"):
            if (directory / name).exists():
                (directory / name).replace(directory / name.replace("ca", "ca-previous", 1))
        renewed.save(directory)
    except CaError as error:
        raise SaysNo(str(error)) from None
    say(
        f"made {directory / 'ca.pem'} (SHA-256 {renewed.fingerprint}): now give it to the workloads, then restart us"
    )


@ca.command("bundle")
@config_option
def ca_bundle() -> None:
    """The public roots and ours as one PEM, for clients whose CA setting replaces the public roots."""
    from tollhouse.trust.bundle import write_bundle

    click.echo(write_bundle(authority(load())), nl=False)


def _ca_files(config: Config) -> tuple[Path, Path]:
    directory = config.state.directory
    return (
        config.ca.cert_file or directory / "ca.pem",
        config.ca.key_file or directory / "ca-key.pem",
    )


def authority(config: Config) -> CertificateAuthority:
    """The CA that the configuration names. `SaysNo` if it can't be used."""
    from tollhouse.trust.ca import CaError, CertificateAuthority

    cert_file, key_file = _ca_files(config)
    if not cert_file.exists() and not key_file.exists():
        raise SaysNo(
            f"there is no CA yet ({cert_file}): `tollhouse init` or the first `tollhouse run` makes it"
        )
    try:
        return CertificateAuthority.load(cert_file, key_file)
    except CaError as error:
        raise SaysNo(str(error)) from None
