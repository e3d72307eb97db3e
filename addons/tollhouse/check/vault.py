"""`tollhouse check`: the login to Vault, and whether each provider has a key there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config, catalog
from tollhouse.control.key_desk import named_providers, paths_of, policy_line, wrapped
from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, Lease, Reader
from tollhouse.credential.vault.dynamic_secrets import DynamicSecrets
from tollhouse.credential.vault.reader import VaultReader
from tollhouse.dispatch.sign import check_lease
from tollhouse.providers import DEFAULT, VaultRole
from tollhouse.stores import open_reader

TIMEOUT_S: Final = 15.0


async def check_vault(config: Config) -> list[Finding]:
    """Reads every path that the configuration can name, with one login. No key's value leaves this function."""
    place = "the embedded vault" if config.vault.embedded else f"Vault at {config.vault.address}"
    if wrapped(config):
        return [
            Finding(
                "warn",
                f"The login to {place} was not tried.",
                "Its secret_id is wrapped, which can be unwrapped once, by the gateway.",
                "`tollhouse run` says whether it lets us in; then `tollhouse key list` shows the keys.",
            )
        ]
    try:
        reader = open_reader(config)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.to_thread(reader.connect)
                keys = await asyncio.to_thread(lambda: list(_keys(config, reader)))
        finally:
            await asyncio.to_thread(reader.close)
    except TimeoutError:
        why = f"It did not answer within {TIMEOUT_S:g} s."
    except CredentialUnavailable as error:
        why = error.why
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'see [vault]'}."
    else:
        if config.vault.embedded:
            first = Finding(
                "warn",
                "Vault is embedded.",
                "Keys are in an encrypted file of the state directory with its key beside it: one machine alone.",
                "For more than a trial, set [vault] address to a Vault or OpenBao server.",
            )
        else:
            first = Finding("ok", f"{place} lets us in.")
        if reader.notice:
            why, _, todo = reader.notice.partition(". ")
            keys.append(Finding("warn", f"The login to {place} will end.", f"{why}.", todo))
        return [first, *keys]
    todo = "Correct [vault] address and auth, or what they name; without a key calls end in 503 credential_unavailable."
    return [Finding("error", f"{place[0].upper()}{place[1:]} can't be used.", why, todo)]


def _keys(config: Config, reader: Reader) -> Iterator[Finding]:
    readable: set[str] = set()
    denied: list[tuple[str, str, str]] = []
    for provider in catalog(config).providers:
        if provider.federation is not None:
            continue
        if provider.vault_role is not None:
            yield _role(provider.name, provider.vault_role, reader)
            continue
        paths = paths_of(config, provider)
        usable, broken = [], 0
        for path in paths:
            try:
                raw = reader.read(path)
                if raw is None:
                    continue
                place = f"{config.vault.mount}/{path}"
                found = contents(raw, config.vault.field, place, provider.account_headers)
                check_lease(
                    Lease(found.secrets[0], raw.version, "", place, found.kind, found.headers),
                    provider,
                )
                count = len(found.secrets)
                usable.append(path if count == 1 else f"{path} ({count} keys)")
            except CredentialUnavailable as error:
                broken += 1
                if policy_line(error.why):
                    denied.append((provider.name, path, error.why))
                    continue
                todo = "Correct the secret, or [vault] paths and field."
                yield Finding(
                    "error", f"The key of {provider.name} at {path} can't be used.", error.why, todo
                )
        if usable:
            readable.add(provider.name)
        if usable and not provider.hosts:
            yield Finding(
                "warn",
                f"There is a key for {provider.name}, and no host that it may go to.",
                "Each resource has a host and a key of its own; a name of somebody else's would be sent yours.",
                f'Name yours: [providers.{provider.name}] hosts = ["{provider.host_example}"].',
            )
        elif usable:
            yield Finding("ok", f"There is a key for {provider.name} at {', '.join(usable)}.")
        elif (
            paths
            and not broken
            and (provider.name == DEFAULT.name or provider.name in config.providers)
        ):
            # A built-in provider that nothing names needs no key.
            put = f"Put one there (field {config.vault.field}), if {provider.name} is to be called."
            yield Finding(
                "warn",
                f"There is no key for {provider.name}.",
                f"Nothing was found at {' or '.join(paths) or 'any path'} below {config.vault.mount}.",
                f"`tollhouse key set {provider.name}`." if config.vault.embedded else put,
            )
    yield from _denied(config, denied, readable)


def _role(name: str, role: VaultRole, reader: Reader) -> Finding:
    """Asks for no keys: Vault would make a user for them."""
    if not isinstance(reader, VaultReader):
        return Finding("error", f"{name} has no Vault.", "The embedded one has no AWS engine.", "")
    try:
        allowed = DynamicSecrets(reader).allowed(role)
    except CredentialUnavailable as error:
        allowed, why = None, error.why
    else:
        why = "Vault does not say what our policy allows."
    line = f'path "{role.path}" {{ capabilities = ["{role.capability}"] }}'
    if allowed:
        return Finding("ok", f"Our login may ask for keys of {name} at {role.path}.")
    if allowed is None:
        todo = "`tollhouse key test` asks for keys."
        return Finding("warn", f"It is not known whether {name} gets keys.", why, todo)
    what = f"Our login may not ask for keys of {name} at {role.path}."
    return Finding(
        "error", what, "Its calls are refused 503.", f"Give its policy the line: {line}."
    )


def _denied(
    config: Config, denied: list[tuple[str, str, str]], readable: set[str]
) -> Iterator[Finding]:
    """Of what our login may not read: provider, path and why. A policy for some providers alone is as it should be, so it
    is no error for those that nothing in the file names, once a key of another could be read."""
    expected = readable | named_providers(config)
    spared: dict[str, str] = {}
    todo = "Correct the policy of our login, or [vault] paths."
    if not readable:
        todo = (
            f"Correct the policy of our login. If it has that line, [vault] mount ({config.vault.mount}) or kv_version "
            f"({config.vault.kv_version}) may be wrong: Vault says the same of a path that does not exist."
        )
    for provider, path, why in denied:
        if readable and provider not in expected:
            spared.setdefault(provider, policy_line(why))
        else:
            yield Finding("error", f"The key of {provider} at {path} can't be used.", why, todo)
    if spared:
        first, line = next(iter(spared.items()))
        yield Finding(
            "warn",
            f"Our login may not read keys of {', '.join(spared)}.",
            "That is as it should be while nobody calls them.",
            f"Whichever is to be called needs a line in the policy, as {first} does: {line}.",
        )
