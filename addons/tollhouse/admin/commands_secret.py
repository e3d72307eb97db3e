"""`tollhouse key set|list` (the embedded Vault) and `tollhouse ca show|bundle`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tollhouse.admin.commands_common import SaysNo, WrongUse, config_option, json_option, load, say, show

if TYPE_CHECKING:
    from tollhouse.config import Config
    from tollhouse.credential.embedded import EmbeddedVault
    from tollhouse.trust.ca import CertificateAuthority


@click.group()
@config_option
def key() -> None:
    """Providers' keys in the embedded Vault.

    A real Vault's are managed with its own tools.
    """


@key.command("set")
@config_option
@click.argument("provider")
@click.argument("never", nargs=-1, metavar="")
def key_set(provider: str, never: tuple[str, ...]) -> None:
    """Keep the key of PROVIDER: asked for without echo, or read from stdin; never an argument."""
    if never:
        # The argument itself is not repeated: it may well be the key.
        raise WrongUse(
            "a key is never given as an argument, where other users and the shell's history can see it: leave it out "
            "and type it when asked, or pipe it in; if that was a real key, have it replaced"
        )
    config = load()
    vault = _embedded(config)
    from tollhouse.config import catalog

    known = [entry.name for entry in catalog(config).providers]
    if provider not in known:
        raise SaysNo(f"{provider} is not a provider; there are {', '.join(known)}: add your own under [providers]")
    value = click.prompt(f"Key of {provider}", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    value = value.strip()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise SaysNo("that is not a key, which is one line of printable ASCII without spaces: nothing was changed")
    from tollhouse.credential.lease import CredentialUnavailable

    try:
        kept = vault.set(provider, value)
    except CredentialUnavailable as error:
        raise SaysNo(error.why) from None
    say(
        f"kept as version {kept.version} of {kept.path} (fingerprint {kept.fingerprint}); a running gateway uses it "
        f"within {config.vault.refresh_s:g} s"
    )


@key.command("list")
@config_option
@json_option
def key_list(as_json: bool) -> None:
    """What keys there are: their paths, versions and fingerprints, never the keys."""
    from tollhouse.admin.operations import rfc3339
    from tollhouse.credential.lease import CredentialUnavailable

    try:
        kept = _embedded(load()).list()
    except CredentialUnavailable as error:
        raise SaysNo(error.why) from None
    found = [
        {
            "path": key.path,
            "version": key.version,
            "fingerprint": key.fingerprint,
            "written_at": rfc3339(key.written_at),
        }
        for key in kept
    ]
    if not found:
        say("there is no key yet: `tollhouse key set PROVIDER` keeps one")

    def for_people() -> str:
        from tollhouse.admin import render

        headings = ("PATH", "VERSION", "FINGERPRINT", "WRITTEN")
        return render.table(headings, [list(row.values()) for row in found]) if found else ""

    show(found, as_json, for_people)


def _embedded(config: Config) -> EmbeddedVault:
    from tollhouse.credential.embedded import EmbeddedVault

    vault = config.vault
    if not vault.embedded:
        raise SaysNo(
            f"the keys are in the Vault at {vault.address}: write them there, into {vault.mount}/{vault.paths[-1]}, "
            f"field {vault.field}"
        )
    shared = [path for path in vault.paths if "{project}" not in path and "{tenant}" not in path]
    if not shared:
        raise SaysNo('[vault] paths has none that all projects share: add "infrastructure/{provider}"')
    config.state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return EmbeddedVault(config.state.directory, shared[0], vault.field)


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
    authority = _authority(config)
    from tollhouse.config import catalog

    cert_file, _ = _ca_files(config)
    missing = authority.uncovered([host for entry in catalog(config).providers for host in entry.hosts])
    if missing:
        say(f"the CA does not cover {', '.join(missing)}: it must be made anew and given to the workloads again")
    found = {
        "cert_file": str(cert_file),
        "fingerprint": authority.fingerprint,
        "not_after": authority.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "hosts": list(authority.hosts),
        "uncovered": missing,
    }

    def for_people() -> str:
        from tollhouse.admin import render

        return "\n".join(f"{name.replace('_', ' ') + ':':<13}{render.cell(value)}" for name, value in found.items())

    show(found, as_json, for_people)


@ca.command("renew")
@config_option
def ca_renew() -> None:
    """Make a new CA for the configured providers.

    Workloads must be given it before the gateway is started anew; until then the old one serves on. The old files are
    kept beside it as ca-previous.pem and ca-previous-key.pem.
    """
    from tollhouse.config import catalog
    from tollhouse.trust.ca import CaError, CertificateAuthority

    config = load()
    if config.ca.cert_file is not None:
        raise SaysNo(f"[ca] names {config.ca.cert_file}, which is yours: make the new one where that one was made")
    directory = config.state.directory
    try:
        renewed = CertificateAuthority.create([host for entry in catalog(config).providers for host in entry.hosts])
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("ca.pem", "ca-key.pem"):
            if (directory / name).exists():
                (directory / name).replace(directory / name.replace("ca", "ca-previous", 1))
        renewed.save(directory)
    except CaError as error:
        raise SaysNo(str(error)) from None
    say(f"made {directory / 'ca.pem'} (SHA-256 {renewed.fingerprint}): now give it to the workloads, then restart us")


@ca.command("bundle")
@config_option
def ca_bundle() -> None:
    """The public roots and ours as one PEM, for clients whose CA setting replaces the public roots."""
    from tollhouse.trust.bundle import write_bundle

    click.echo(write_bundle(_authority(load())), nl=False)


def _ca_files(config: Config) -> tuple[Path, Path]:
    directory = config.state.directory
    return config.ca.cert_file or directory / "ca.pem", config.ca.key_file or directory / "ca-key.pem"


def _authority(config: Config) -> CertificateAuthority:
    from tollhouse.trust.ca import CaError, CertificateAuthority

    cert_file, key_file = _ca_files(config)
    if not cert_file.exists() and not key_file.exists():
        raise SaysNo(f"there is no CA yet ({cert_file}): `tollhouse init` or the first `tollhouse run` makes it")
    try:
        return CertificateAuthority.load(cert_file, key_file)
    except CaError as error:
        raise SaysNo(str(error)) from None
