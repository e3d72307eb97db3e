"""`tollhouse check`: the login to Vault, and whether each provider has a key there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from tollhouse.admin.finding import Finding
from tollhouse.admin.keys import paths_of, wrapped
from tollhouse.config import Config, catalog
from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, Lease, Reader
from tollhouse.dispatch.sign import check_lease
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
    for provider in catalog(config).providers:
        paths = paths_of(config, provider)
        usable, broken = [], 0
        for path in paths:
            try:
                raw = reader.read(path)
                if raw is None:
                    continue
                place = f"{config.vault.mount}/{path}"
                found = contents(raw, config.vault.field, place, provider.account_headers)
                check_lease(Lease(found.secrets[0], raw.version, "", place, found.kind, found.headers), provider)
                count = len(found.secrets)
                usable.append(path if count == 1 else f"{path} ({count} keys)")
            except CredentialUnavailable as error:
                broken += 1
                yield Finding(
                    "error",
                    f"The key of {provider.name} at {path} can't be used.",
                    error.why,
                    "Correct the secret, the policy of our login, or [vault] paths and field.",
                )
        if usable and not provider.hosts:
            yield Finding(
                "warn",
                f"There is a key for {provider.name}, and no host that it may go to.",
                "Each resource has a host and a key of its own; a name of somebody else's would be sent yours.",
                f'Name yours: [providers.{provider.name}] hosts = ["NAME.openai.azure.com"].',
            )
        elif usable:
            yield Finding("ok", f"There is a key for {provider.name} at {', '.join(usable)}.")
        elif not broken and (provider.billable or provider.name in config.providers):
            # A built-in provider of which only the list of models is open needs no key.
            put = f"Put one there (field {config.vault.field}), if {provider.name} is to be called."
            yield Finding(
                "warn",
                f"There is no key for {provider.name}.",
                f"Nothing was found at {' or '.join(paths) or 'any path'} below {config.vault.mount}.",
                f"`tollhouse key set {provider.name}`." if config.vault.embedded else put,
            )
