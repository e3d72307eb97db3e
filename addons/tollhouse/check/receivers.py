"""`tollhouse check`: the receivers of [[alerts]]. They are told nothing: `tollhouse alerts test` does that."""

from __future__ import annotations

from collections.abc import Iterator

from tollhouse.alerts.from_config import open_receivers
from tollhouse.alerts.receiver import Receiver
from tollhouse.check.finding import Finding
from tollhouse.config.load import AlertConfig, Config, asks_store
from tollhouse.control.key_desk import wrapped
from tollhouse.stores import ways_once


async def check_receivers(config: Config) -> list[Finding]:
    """Reads the URL and the signing secret of each, as the gateway will."""
    if not config.alerts:
        return []
    found: list[Finding] = []
    async with ways_once(config) as (proxies, secrets):
        receivers = open_receivers(config, proxies, secrets)
        for entry, receiver in zip(config.alerts, receivers, strict=True):
            found += _entry(config, entry)
            if asks_store(config, entry) and wrapped(config):
                found.append(_not_asked(entry))
            else:
                found.append(await _read(entry, receiver))
            await receiver.close()
    return found


async def _read(entry: AlertConfig, receiver: Receiver) -> Finding:
    if why := await receiver.look():
        return Finding(
            "error",
            f"The receiver {entry.called} of alerts can't be told.",
            why,
            "Correct its entry in [[alerts]]; `tollhouse alerts test` tries it.",
        )
    return Finding(
        "ok",
        f"The receiver {entry.called} of alerts has what it needs ({entry.speaks}).",
        "`tollhouse alerts test` sends it a message.",
    )


def _not_asked(entry: AlertConfig) -> Finding:
    return Finding(
        "warn",
        f"The receiver {entry.called} of alerts was not looked at.",
        "A secret of it, or of the proxy on the way, is in Vault, and only the gateway may unwrap the secret_id, once.",
        "`tollhouse alerts test` has the running gateway try it.",
    )


def _entry(config: Config, entry: AlertConfig) -> Iterator[Finding]:
    signed = entry.signing_secret_file is not None or "signing_secret" in entry.fields
    if entry.speaks == "generic" and not signed:
        yield Finding(
            "warn",
            f"What the receiver {entry.called} of alerts is told is not signed.",
            "Anybody who knows its URL can tell it anything.",
            "Give signing_secret_file, or secret with the field signing_secret.",
        )
    known = {project.tenant for project in config.projects.values()} | config.tenants.keys()
    for tenant in entry.tenants or ():
        if known and tenant not in known:
            yield Finding(
                "warn",
                f"The receiver {entry.called} of alerts is told of the tenant {tenant}.",
                "No project of the file is of that tenant.",
                "Correct tenants, unless its projects are made by commands.",
            )
