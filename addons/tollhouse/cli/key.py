"""`tollhouse key set|list|test`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tollhouse.cli.common import SaysNo, WrongUse, config_option, json_option, load, say, show
from tollhouse.cli.progress import waiting

if TYPE_CHECKING:
    from tollhouse.config.load import Config
    from tollhouse.credential.vault.embedded_vault import EmbeddedVault
    from tollhouse.providers import Provider


@click.group()
@config_option
def key() -> None:
    """Providers' keys: what there is of them, whether they work; setting those of the embedded Vault.

    A real Vault's keys are set with its own tools.
    """


@key.command("set")
@config_option
@click.argument("provider")
@click.argument("never", nargs=-1, metavar="")
def key_set(provider: str, never: tuple[str, ...]) -> None:
    """Keep the key of PROVIDER: asked for without echo, or read from stdin; never an argument.

    Several keys that share the load are a JSON list: ["KEY", "KEY"]. An AWS access key is a JSON object of
    access_key_id, secret_access_key and, if it is temporary, session_token; a Google service account its file. OpenAI's
    organization and project may stand beside the key: {"api_key": "KEY", "organization": "org-..."}.
    """
    if never:
        # The argument itself is not repeated: it may well be the key.
        raise WrongUse(
            "a key is never given as an argument, where other users and the shell's history can see it: leave it out "
            "and type it when asked, or pipe it in; if that was a real key, have it replaced"
        )
    config = load()
    entry = _known_provider(config, provider)
    vault = _embedded(config, provider)
    value = (
        click.prompt(f"Key of {provider}", hide_input=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.read()
    )
    value = value.strip()
    from tollhouse.credential.fields import contents
    from tollhouse.credential.lease import CredentialUnavailable, Lease, RawSecret
    from tollhouse.dispatch.sign import check_lease

    try:
        found = contents(
            RawSecret({config.vault.field: value}, ""),
            config.vault.field,
            "stdin",
            entry.account_headers,
        )
    except CredentialUnavailable as error:
        why = f". {error.why}" if value.startswith("{") else ""
        raise SaysNo(
            "that is not a key, which is one line of printable ASCII without spaces, nor a JSON list of keys, nor a JSON "
            f"object with {config.vault.field}, an AWS access key or a Google service account: nothing was changed{why}"
        ) from None
    try:
        check_lease(Lease(found.secrets[0], "", "", "stdin", found.kind, found.headers), entry)
    except CredentialUnavailable as error:
        raise SaysNo(f"{error.why} Nothing was changed.") from None
    from tollhouse.stores import EMBEDDED_REFRESH_S

    try:
        kept = vault.set(provider, value)
    except CredentialUnavailable as error:
        raise SaysNo(error.why) from None
    say(
        f"kept as version {kept.version} of {kept.path} (fingerprint {kept.fingerprint}); a running gateway uses it "
        f"within {min(config.vault.refresh_s, EMBEDDED_REFRESH_S):g} s"
    )


@key.command("list")
@config_option
@json_option
def key_list(as_json: bool) -> None:
    """The keys that the running gateway has read, or else those that can be read now.

    Path, version, fingerprint, age since the read, pauses that a provider asked for, the last error; of a credential that
    is exchanged also method, subject, end and next refresh. Never a key.
    """
    config = load()
    with waiting("reads the keys"):
        found = _by_gateway(config, "key_list", {})
        asked = found is not None
        if found is None:
            found = _by_ourselves(config, test=False, provider=None)
    if asked and not found:
        say("the running gateway has read no key yet: it does at the first call")

    def for_people() -> str:
        from tollhouse.cli import render

        headings = ("PATH", "STATE", "VERSION", "FINGERPRINT", "AGE", "PAUSED", "ERROR")
        exchanged = [row for row in found if row.get("method", "store") != "store"]
        tables = [render.table(headings, map(_row, found))] if found else []
        if exchanged:
            more = ("PATH", "METHOD", "SUBJECT", "EXPIRES", "NEXT REFRESH")
            tables.append(render.table(more, map(_exchanged_row, exchanged)))
        return "\n\n".join(tables)

    show(found, as_json, for_people)


def _row(row: dict[str, Any]) -> list[Any]:
    age = None if row["age_s"] is None else f"{row['age_s']:.0f} s"
    paused = f"{row['paused']}, {row['paused_s']:.0f} s" if row["paused"] else None
    return [
        row["path"],
        row["state"],
        row["version"],
        row["fingerprint"],
        age,
        paused,
        row["error"],
    ]


def _exchanged_row(row: dict[str, Any]) -> list[Any]:
    times = [
        None if row[name] is None else f"in {row[name]:.0f} s"
        for name in ("expires_s", "refresh_s")
    ]
    return [row["path"], row["method"], row["subject"], *times]


@key.command("test")
@config_option
@json_option
@click.argument("provider", required=False)
def key_test(provider: str | None, as_json: bool) -> None:
    """Make a free call with each key of PROVIDER, or of all: the list of its models.

    Exit 1 when a provider refuses a key, a call fails, a key can't be read, or there is none. Without PROVIDER, one that
    the configuration does not name and whose key our login may not read is skipped, if another's can be read.
    """
    config = load()
    if provider is not None:
        _known_provider(config, provider)
    with waiting("asks the providers whether they take the keys"):
        found = (
            _by_gateway(config, "key_test", {"provider": provider})
            if _only_gateway(config) or _federated(config)
            else None
        )
        if found is None:
            found = _by_ourselves(config, test=True, provider=provider)

    def for_people() -> str:
        from tollhouse.cli import render

        headings = ("PROVIDER", "HOST", "PATH", "VERSION", "FINGERPRINT", "RESULT", "WHY")
        return render.table(headings, [list(row.values()) for row in found]) if found else ""

    show(found, as_json, for_people)
    if not found:
        raise SaysNo(
            f"there is no key{f' of {provider}' if provider else ''} at any of [vault] paths"
        )
    bad = [row for row in found if row["result"] not in ("ok", "untested", "skipped")]
    if bad:
        raise SaysNo(f"{len(bad)} of {len(found)} did not work: see RESULT and WHY")


def _by_gateway(
    config: Config, operation: str, arguments: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """What the running gateway says; None when none runs."""
    from tollhouse.control import client

    try:
        found: list[dict[str, Any]] = client.ask(config.state.directory, operation, arguments)
    except client.NoGateway:
        return None
    except client.StoreError as error:
        raise SaysNo(str(error)) from None
    return found


def _by_ourselves(config: Config, *, test: bool, provider: str | None) -> list[dict[str, Any]]:
    import asyncio

    from tollhouse.control.key_desk import desk_once
    from tollhouse.credential.lease import CredentialUnavailable

    if _only_gateway(config):
        raise SaysNo(
            "no gateway runs, and only it may unwrap the secret_id, once: start it (`tollhouse run`)"
        )
    try:
        found, notice = asyncio.run(desk_once(config, test, provider))
    except CredentialUnavailable as error:
        raise SaysNo(error.why) from None
    except ValueError as error:
        raise SaysNo(str(error)) from None
    if notice:
        say(notice)
    return found


def _only_gateway(config: Config) -> bool:
    from tollhouse.control.key_desk import wrapped

    return wrapped(config)


def _federated(config: Config) -> bool:
    from tollhouse.control.key_desk import federated

    return federated(config)


def _known_provider(config: Config, provider: str) -> Provider:
    from tollhouse.config.load import catalog

    entries = catalog(config)
    entry = entries.by_name(provider)
    if entry is None:
        known = ", ".join(entry.name for entry in entries.providers)
        raise SaysNo(
            f"{provider} is not a provider; there are {known}: add your own under [providers]"
        )
    return entry


def _embedded(config: Config, provider: str) -> EmbeddedVault:
    from tollhouse.credential.vault.embedded_vault import EmbeddedVault

    vault = config.vault
    shared = [path for path in vault.paths if "{project}" not in path and "{tenant}" not in path]
    if not vault.embedded:
        path = [*shared, *vault.paths][0].replace("{provider}", provider)
        raise SaysNo(
            f"the keys are in the Vault at {vault.address}: write this one there, into {vault.mount}/{path}, "
            f"field {vault.field}"
        )
    if not shared:
        raise SaysNo(
            '[vault] paths has none that all projects share: add "infrastructure/{provider}"'
        )
    config.state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return EmbeddedVault(config.state.directory, shared[0], vault.field)
