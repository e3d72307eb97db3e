"""`tollhouse key list` and `key test`: what the keys of the store are like, and whether their providers take them.

The same serves the running gateway's control socket and a command that opened the store itself. No row holds a key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from tollhouse.config.load import AppRoleAuth, Config, catalog
from tollhouse.credential.cache import KeyCache
from tollhouse.credential.entry import KeyState, KeyStatus
from tollhouse.credential.federation.federated_keys import place_of
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.paths import fill
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.dispatch.upstream import Upstream
from tollhouse.dispatch.verdict import verdict_on_key
from tollhouse.providers import DEFAULT, Provider

Row = dict[str, Any]

_TEST_S: Final = 20.0
# `credential.vault.replies` ends the refusal of a read with it, and nothing else.
_POLICY_LINE: Final = re.compile(r'path "[^"]+" \{ capabilities = \["read"\] \}')


class KeyDesk:
    """``keys`` and ``upstream`` are the gateway's own, or opened for one command."""

    def __init__(self, config: Config, keys: KeyCache, upstream: Upstream) -> None:
        self._config = config
        self._keys = keys
        self._upstream = upstream

    def known(self) -> list[Row]:
        """A row for each key of each path that calls have used: ``path``, ``state`` (fresh, stale, missing, failed),
        ``version``, ``fingerprint``, ``age_s`` since it was read, ``paused`` (rate, money, refused) for ``paused_s``,
        and the last ``error``, of the login if of nothing else. Of a credential that is exchanged also ``method``,
        ``subject``, and ``expires_s`` and ``refresh_s``: until its end, and until it is made anew."""
        rows = [row for status in self._keys.status() for row in _rows(status)]
        return [{**row, "error": row["error"] or self._keys.trouble} for row in rows]

    async def read(self) -> list[Row]:
        """The same of each path that the configuration can name, read now. What is missing is left out, but for a
        provider that has no key at all though the file, or the base URL, names it."""
        rows = []
        for provider in catalog(self._config).providers:
            found = [status async for status in self._statuses(provider)]
            there = [status for status in found if status.state != "missing"]
            if not there and not (
                provider.name == DEFAULT.name or provider.name in self._config.providers
            ):
                continue
            rows += [row for status in there or found for row in _rows(status)]
        return rows

    async def test(self, provider: str | None = None) -> list[Row]:
        """A free call with each key of one provider, or of all: ``provider``, ``host``, ``path``, ``version``,
        ``fingerprint``, ``result`` and ``why``.

        ``result`` is ok, refused (the provider does not take the key), failed (nobody can tell), untested (there is no
        free call), unread (there is a path, and no key could be read), or skipped: of all providers, one that nothing in
        the file names and that our login has no right to, while it can read another's key.
        """
        rows: list[Row] = []
        named = named_providers(self._config)
        readable: set[str] = set()
        denied: list[Row] = []
        calls = []
        for entry in catalog(self._config).providers:
            if provider is not None and entry.name != provider:
                continue
            for path in paths_of(self._config, entry):
                try:
                    leases = await self._keys.read_now(path)
                except CredentialUnavailable as error:
                    rows.append(_tested(entry, "", path, None, "unread", error.why))
                    if policy_line(error.why) and entry.name not in named and provider is None:
                        denied.append(rows[-1])
                    continue
                if leases:
                    readable.add(entry.name)
                calls += [self._call(entry, lease) for lease in leases]
        for row in denied if readable else ():
            if row["provider"] not in readable:
                row["result"] = "skipped"
        return rows + list(await asyncio.gather(*calls))

    async def _statuses(self, provider: Provider) -> AsyncIterator[KeyStatus]:
        for path in paths_of(self._config, provider):
            try:
                leases = await self._keys.read_now(path)
            except CredentialUnavailable as error:
                known = self._status(path)
                yield known or KeyStatus(path, "failed", error=error.why)
                continue
            if (known := self._status(path)) is not None:
                yield known
                continue
            keys = tuple(KeyState(lease.fingerprint) for lease in leases)
            yield (
                KeyStatus(path, "fresh", leases[0].version, keys, 0.0)
                if leases
                else KeyStatus(path, "missing")
            )

    def _status(self, path: str) -> KeyStatus | None:
        """What is kept at ``path``. Keys that were read for this alone are not kept, and what is exchanged is."""
        return next((status for status in self._keys.status() if status.path == path), None)

    async def _call(self, provider: Provider, lease: Lease) -> Row:
        exact = [host for host in provider.hosts if not host.startswith("*.")]
        free = provider.free_call.partition("?")[0]
        host = next(
            (host for host in exact if provider.family.operation("GET", free, host=host)),
            exact[0] if exact else "",
        )
        if not host or not provider.free_call:
            why = (
                "Name one of its hosts under [providers]."
                if not host
                else "Its API has no free call."
            )
            return _tested(provider, host, lease.path, lease, "untested", why)
        try:
            async with asyncio.timeout(_TEST_S):
                headers = [("accept", "application/json"), *provider.free_call_headers]
                call = Outgoing(provider, host, "GET", provider.free_call, headers, None, lease)
                answer = await self._upstream.send(call, budget_s=provider.connect_timeout_s)
                result, why = await _judged(provider, answer)
                await answer.close()
        except (UpstreamError, CredentialUnavailable) as error:
            return _tested(provider, host, lease.path, lease, "failed", error.why)
        except TimeoutError:
            return _tested(
                provider, host, lease.path, lease, "failed", f"No answer within {_TEST_S:g} s."
            )
        return _tested(provider, host, lease.path, lease, result, why)


def paths_of(config: Config, provider: Provider) -> list[str]:
    """All paths for ``provider``: templates that name a project or tenant, once for each of the file's projects.
    None for one that takes no key."""
    if provider.login_only:
        return []
    if provider.federation is not None or provider.vault_role is not None:
        return [place_of(provider.name, leased=provider.vault_role is not None)]
    whose = [(project.tenant, name) for name, project in config.projects.items()]
    paths = []
    for template in config.vault.paths:
        personal = "{project}" in template or "{tenant}" in template
        for tenant, project in whose if personal else [("", "")]:
            paths.append(fill(template, provider.name, tenant, project))
    return list(dict.fromkeys(paths))


def named_providers(config: Config) -> set[str]:
    """The providers that the file itself speaks of: in [providers], [routes] or a project's models."""
    models = [model for project in config.projects.values() for model in project.models]
    return {
        *config.providers,
        *config.routes.values(),
        *(model.partition("/")[0] for model in models if "/" in model),
    }


def policy_line(why: str) -> str:
    """The line that our login's policy lacks, of why a key could not be read; empty where that is for another reason."""
    found = _POLICY_LINE.search(why)
    return found[0] if found else ""


def federated(config: Config) -> bool:
    """Whether some credential is exchanged, or leased. A token of its subject may be good for one exchange, and is the
    gateway's then; and a lease may make a user of AWS."""
    entries = catalog(config).providers
    return any(entry.federation or entry.vault_role for entry in entries)


def wrapped(config: Config) -> bool:
    """Whether only the gateway may log in: a wrapping token can be unwrapped once."""
    return isinstance(config.vault.auth, AppRoleAuth) and config.vault.auth.wrapped


async def desk_once(config: Config, test: bool, provider: str | None) -> tuple[list[Row], str]:
    """`KeyDesk.test` or `KeyDesk.read`, with a login and connections for this alone; and what somebody will have to do for
    that login, empty if nothing. Raises `CredentialUnavailable`, and `ValueError` for a ca_file that can't be used."""
    from tollhouse.stores import open_exchanges, open_keys, open_secrets, open_tokens

    keys = open_keys(config)
    secrets = open_secrets(config, keys)
    proxies = ProxyTunnels(secrets)
    open_exchanges(config, keys, proxies, secrets)
    tokens = open_tokens(config, proxies)
    upstream = Upstream(catalog(config), tokens=tokens, secrets=secrets)
    try:
        await upstream.start()
        await keys.connect()
        desk = KeyDesk(config, keys, upstream)
        rows = await desk.test(provider) if test else await desk.read()
        return rows, keys.notice
    finally:
        await upstream.close()
        await tokens.close()
        await proxies.close()
        await secrets.close()
        await keys.close()


def _rows(status: KeyStatus) -> Iterator[Row]:
    shared = {"path": status.path, "state": status.state, "version": status.version}
    for key in status.keys or (KeyState(""),):
        yield {
            **shared,
            "fingerprint": key.fingerprint,
            "age_s": None if status.age_s is None else round(status.age_s, 1),
            "paused": key.paused,
            "paused_s": round(key.paused_s, 1),
            "error": status.error,
            "method": status.method or "store",
            "subject": status.subject,
            "expires_s": None if status.expires_s is None else round(status.expires_s, 1),
            "refresh_s": None if status.refresh_s is None else round(status.refresh_s, 1),
        }


def _tested(
    provider: Provider, host: str, path: str, lease: Lease | None, result: str, why: str
) -> Row:
    return {
        "provider": provider.name,
        "host": host,
        "path": path,
        "version": lease.version if lease else "",
        "fingerprint": lease.fingerprint if lease else "",
        "result": result,
        "why": why,
    }


async def _judged(provider: Provider, answer: Answer) -> tuple[str, str]:
    status = answer.status
    if 200 <= status < 300:
        return "ok", ""
    verdict = await verdict_on_key(provider.family, answer)
    if verdict == "refused" or status in (401, 403):
        return (
            "refused",
            f"The provider answered {status}: the key is wrong, or has no right to list models.",
        )
    if verdict == "no_money":
        return "failed", f"The provider knows the key, and its account is empty ({status})."
    if status == 429:
        return "ok", "The provider knows the key, and limits its rate just now (429)."
    return "failed", f"The provider answered {status}."
