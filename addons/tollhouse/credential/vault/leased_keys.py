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
_MOST_DUE: Final = 16
"""Leases that wait to be revoked. Beyond them the oldest ends by itself."""
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
        self.longest_s = 2 * bound_s + _SETTLES_S
        """What `fresh` takes at most."""
        self._workers = Workers(2, bound_s, "Vault")
        self._revokers = Workers(2, bound_s, "Vault")
        """Other threads, so that a revocation that hangs delays no renewal."""
        self._sleep = sleep
        self._held: dict[str, VaultLease] = {}
        """What has to be revoked some day, by id. A thread adds to it, so that a lease that comes too late is not lost."""
        self._used: tuple[Lease, VaultLease] | None = None
        self._before = ""
        """The id of the lease before it: calls with its keys may be under way."""
        self._asking = 0
        """How many calls of `fresh` are under way."""
        self._due: deque[VaultLease] = deque(maxlen=_MOST_DUE)
        self._giving_back: asyncio.Task[None] | None = None

    async def fresh(self, known: Lease | None, wall: float, *, serves: bool) -> tuple[Lease, float]:
        """Keys, and how long they live: those in ``known`` if their lease can be renewed. ``serves``: calls have ``known``
        meanwhile. ``wall`` is seconds since the epoch. Leases that nobody uses any more are revoked behind it. Raises
        `CredentialUnavailable`."""
        if self._vault is None:
            raise CredentialUnavailable("There is no Vault that could lease keys.")
        self._asking += 1
        try:
            return await self._fresh(self._vault, known, wall, serves)
        finally:
            self._asking -= 1
            if not self._asking:
                self._give_back()

    async def _fresh(
        self, vault: SecretsEngine, known: Lease | None, wall: float, serves: bool
    ) -> tuple[Lease, float]:
        if known is not None and self._used is not None and self._used[0] is known:
            used = self._used[1]
            renewed = await self._workers.run(lambda: vault.renew(used))
            if renewed is not None:
                self._held.pop(used.id, None)
                self._held[renewed.id] = renewed
                self._used = known, renewed
                return known, renewed.life_s

        def read() -> VaultLease:
            made = vault.read(self.role)
            self._held[made.id] = made
            return made

        found = await self._workers.run(read)
        lease = self._lease(found, wall)
        if serves and found.renewable:
            await self._sleep(_SETTLES_S)
        self._before = self._used[1].id if self._used is not None else ""
        self._used = lease, found
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
        self._used, self._before = None, ""
        self._give_back()
        if self._giving_back is None:
            return
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                await self._giving_back
        except TimeoutError:
            _log.info("not all leases of %s were given back", self.role.path)

    def _give_back(self) -> None:
        """Begins to revoke what is held, but for the lease in use and the one before it."""
        kept = (self._before, self._used[1].id if self._used is not None else "")
        for each in list(self._held):
            if each not in kept:
                self._due.append(self._held.pop(each))
        if self._due and (self._giving_back is None or self._giving_back.done()):
            self._giving_back = asyncio.get_running_loop().create_task(
                self._revoke_due(), name=f"tend the leases of {self.role.path}"
            )

    async def _revoke_due(self) -> None:
        vault = self._vault
        assert vault is not None
        while self._due:
            lease = self._due.popleft()
            try:
                await self._revokers.run(lambda lease=lease: vault.revoke(lease))  # type: ignore[misc]
            except CredentialUnavailable as error:
                _log.info("a lease of %s was not given back: %s", self.role.path, error.why)
