"""The keys of one role of Vault's AWS engine: leased, renewed, and given back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, Lease, RawSecret
from tollhouse.credential.workers import Workers
from tollhouse.providers import VaultRole

if TYPE_CHECKING:
    # It brings hvac, which not every gateway needs.
    from tollhouse.credential.vault.dynamic_secrets import VaultLease

_log = logging.getLogger("tollhouse.credential")

_SETTLES_S: Final = 10.0
"""A new IAM user is known everywhere in AWS some seconds after it was made."""
_HELD: Final = 2
"""The lease in use, and the one before it: calls with its keys may be under way."""
_GIVE_BACK_S: Final = 3.0


class SecretsEngine(Protocol):
    """As `DynamicSecrets`."""

    def read(self, role: VaultRole) -> VaultLease: ...
    def renew(self, lease: VaultLease) -> VaultLease | None: ...
    def revoke(self, lease: VaultLease) -> None: ...


class LeasedKeys:
    """``place`` stands in a `Lease` in place of a path of the store. ``vault`` is None without a Vault that has engines. It is
    for one event loop."""

    def __init__(
        self,
        role: VaultRole,
        vault: SecretsEngine | None,
        place: str,
        bound_s: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.role = role
        self.arn = ""
        """Whom the keys are of, if Vault says it."""
        self._vault = vault
        self._place = place
        self._workers = Workers(2, bound_s, "Vault")
        self._sleep = sleep
        self._held: deque[VaultLease] = deque()
        """What has to be revoked. The last one is the latest."""
        self._used: tuple[Lease, VaultLease] | None = None

    async def fresh(self, known: Lease | None, wall: float, *, serves: bool) -> tuple[Lease, float]:
        """Keys, and how long they live: those in ``known`` if their lease can be renewed. ``serves``: calls have ``known``
        meanwhile. ``wall`` is seconds since the epoch. Raises `CredentialUnavailable`."""
        vault = self._vault
        if vault is None:
            raise CredentialUnavailable("There is no Vault that could lease keys.")
        if known is not None and self._used is not None and self._used[0] is known:
            used = self._used[1]
            renewed = await self._workers.run(lambda: vault.renew(used))
            if renewed is not None:
                if used in self._held:
                    self._held[self._held.index(used)] = renewed
                self._used = known, renewed
                return known, renewed.life_s
        found = await self._workers.run(lambda: vault.read(self.role))
        self._held.append(found)
        lease = self._lease(found, wall)
        if serves and found.renewable:
            await self._sleep(_SETTLES_S)
        self._used = lease, found
        while len(self._held) > _HELD:
            await self._revoke(self._held.popleft())
        return lease, found.life_s

    def _lease(self, found: VaultLease, wall: float) -> Lease:
        data = found.data
        arn = data.get("arn")
        self.arn = arn if isinstance(arn, str) else ""
        keys = {
            "access_key_id": data.get("access_key"),
            "secret_access_key": data.get("secret_key"),
            "session_token": data.get("security_token") or data.get("session_token"),
        }
        held = contents(RawSecret(keys, ""), "api_key", self.role.path)
        ends = datetime.fromtimestamp(wall, UTC) + timedelta(seconds=found.life_s)
        secret = held.secrets[0]
        version = ends.strftime("%Y%m%dT%H%M%SZ")
        return Lease(secret, version, secret.fingerprint, self._place, held.kind)

    async def close(self) -> None:
        """Revokes what is held. It takes 3 s at most; what could not be revoked ends with its lease, or its login."""
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                while self._held:
                    await self._revoke(self._held.pop())
        except TimeoutError:
            _log.info("not all leases of %s were given back", self.role.path)

    async def _revoke(self, lease: VaultLease) -> None:
        vault = self._vault
        assert vault is not None
        try:
            await self._workers.run(lambda: vault.revoke(lease))
        except CredentialUnavailable as error:
            _log.info("a lease of %s was not given back: %s", self.role.path, error.why)
