"""`tollhouse key list` and `key test`: what the keys of the store are like, and whether their providers take them.

The same serves the running gateway's control socket and a command that opened the store itself. No row holds a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from tollhouse.config import AppRoleAuth, Config, catalog
from tollhouse.credential.cache import KeyCache
from tollhouse.credential.entry import KeyState, KeyStatus
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.paths import fill
from tollhouse.dispatch.answer import UpstreamError
from tollhouse.dispatch.upstream import Upstream
from tollhouse.providers import Provider

Row = dict[str, Any]

# Lists of models, which no provider charges for. By host where one family's API stands under another path.
_FREE: Final = {
    "openai": "/v1/models",
    "anthropic": "/v1/models",
    "google": "/v1beta/models",
    "mistral": "/v1/models",
    "cohere": "/v1/models",
}
_FREE_BY_HOST: Final = ((".azure.com", "/openai/v1/models"),)
_HEADERS: Final = {"anthropic": [("anthropic-version", "2023-06-01")]}
_TEST_S: Final = 20.0


class KeyDesk:
    """``keys`` and ``upstream`` are the gateway's own, or opened for one command."""

    def __init__(self, config: Config, keys: KeyCache, upstream: Upstream) -> None:
        self._config = config
        self._keys = keys
        self._upstream = upstream

    def known(self) -> list[Row]:
        """A row for each key of each path that calls have used: ``path``, ``state`` (fresh, stale, missing, failed),
        ``version``, ``fingerprint``, ``age_s`` since it was read, ``paused`` (rate, money, refused) for ``paused_s``,
        and the last ``error``, of the login if of nothing else."""
        rows = [row for status in self._keys.status() for row in _rows(status)]
        return [{**row, "error": row["error"] or self._keys.trouble} for row in rows]

    async def read(self) -> list[Row]:
        """The same of each path that the configuration can name, read now. What is missing is left out, but for a
        provider that has no key at all though it is open."""
        rows = []
        for provider in catalog(self._config).providers:
            found = [status async for status in self._statuses(provider)]
            there = [status for status in found if status.state != "missing"]
            if not there and not (provider.endpoints or provider.name in self._config.providers):
                continue
            rows += [row for status in there or found for row in _rows(status)]
        return rows

    async def test(self, provider: str | None = None) -> list[Row]:
        """A free call with each key of one provider, or of all: ``provider``, ``host``, ``path``, ``version``,
        ``fingerprint``, ``result`` and ``why``.

        ``result`` is ok, refused (the provider does not take the key), failed (nobody can tell), untested (there is no
        free call), or unread (there is a path, and no key could be read).
        """
        rows: list[Row] = []
        calls = []
        for entry in catalog(self._config).providers:
            if provider is not None and entry.name != provider:
                continue
            for path in paths_of(self._config, entry):
                try:
                    leases = await self._keys.read_now(path)
                except CredentialUnavailable as error:
                    rows.append(_tested(entry, "", path, None, "unread", error.why))
                    continue
                calls += [self._call(entry, lease) for lease in leases]
        return rows + list(await asyncio.gather(*calls))

    async def _statuses(self, provider: Provider) -> AsyncIterator[KeyStatus]:
        for path in paths_of(self._config, provider):
            try:
                leases = await self._keys.read_now(path)
            except CredentialUnavailable as error:
                yield KeyStatus(path, "failed", error=error.why)
                continue
            keys = tuple(KeyState(lease.fingerprint) for lease in leases)
            yield KeyStatus(path, "fresh", leases[0].version, keys, 0.0) if leases else KeyStatus(path, "missing")

    async def _call(self, provider: Provider, lease: Lease) -> Row:
        host = next((host for host in provider.hosts if not host.startswith("*.")), "")
        target = next((path for end, path in _FREE_BY_HOST if host.endswith(end)), _FREE.get(provider.family))
        if not host or target is None:
            why = "Name one of its hosts under [providers]." if not host else "Its API has no free call."
            return _tested(provider, host, lease.path, lease, "untested", why)
        try:
            async with asyncio.timeout(_TEST_S):
                answer = await self._upstream.send(
                    provider,
                    host,
                    "GET",
                    target,
                    [("accept", "application/json"), *_HEADERS.get(provider.family, [])],
                    None,
                    lease.secret,
                    budget_s=provider.connect_timeout_s,
                )
                body = await answer.peek(65_536, 2.0)
                await answer.close()
        except UpstreamError as error:
            return _tested(provider, host, lease.path, lease, "failed", error.why)
        except TimeoutError:
            return _tested(provider, host, lease.path, lease, "failed", f"No answer within {_TEST_S:g} s.")
        result, why = _judged(answer.status, body)
        return _tested(provider, host, lease.path, lease, result, why)


def paths_of(config: Config, provider: Provider) -> list[str]:
    """All paths for ``provider``: templates that name a project or tenant, once for each of the file's projects."""
    whose = [(project.tenant, name) for name, project in config.projects.items()]
    paths = []
    for template in config.vault.paths:
        personal = "{project}" in template or "{tenant}" in template
        for tenant, project in whose if personal else [("", "")]:
            paths.append(fill(template, provider.name, tenant, project))
    return list(dict.fromkeys(paths))


def wrapped(config: Config) -> bool:
    """Whether only the gateway may log in: a wrapping token can be unwrapped once."""
    return isinstance(config.vault.auth, AppRoleAuth) and config.vault.auth.wrapped


async def desk_once(config: Config, test: bool, provider: str | None) -> list[Row]:
    """`KeyDesk.test` or `KeyDesk.read`, with a login and connections for this alone. Raises `CredentialUnavailable`, and
    `ValueError` for a ca_file that can't be used."""
    from tollhouse.stores import open_keys

    keys, upstream = open_keys(config), Upstream(catalog(config))
    try:
        await upstream.start()
        await keys.connect()
        desk = KeyDesk(config, keys, upstream)
        return await desk.test(provider) if test else await desk.read()
    finally:
        await upstream.close()
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
        }


def _tested(provider: Provider, host: str, path: str, lease: Lease | None, result: str, why: str) -> Row:
    return {
        "provider": provider.name,
        "host": host,
        "path": path,
        "version": lease.version if lease else "",
        "fingerprint": lease.fingerprint if lease else "",
        "result": result,
        "why": why,
    }


def _judged(status: int, body: bytes) -> tuple[str, str]:
    if 200 <= status < 300:
        return "ok", ""
    # Gemini's 400: https://ai.google.dev/gemini-api/docs/troubleshooting
    if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in body):
        return "refused", f"The provider answered {status}: the key is wrong, or has no right to list models."
    if status == 429:
        return "ok", "The provider knows the key, and limits its rate just now (429)."
    return "failed", f"The provider answered {status}."
