"""Keys that Vault's AWS engine makes, under a lease: read, renewed, revoked. Everything here blocks.

https://developer.hashicorp.com/vault/api-docs/secret/aws and /system/leases. Keys of an IAM user (``creds`` of a role of that type)
are renewable, and their user is deleted with the lease. Those of STS are neither renewable nor revocable (Vault's
``secret_access_keys.go``). A lease ends with the token that asked for it, whatever its own life is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.vault.reader import VaultReader
from tollhouse.credential.vault.replies import VaultReply
from tollhouse.providers import VaultRole

LONGEST_S: Final = 86_400.0
"""A lease of longer life is renewed each day all the same: so it is seen that it was revoked."""


@dataclass(frozen=True, slots=True)
class VaultLease:
    """``granted_s`` is what Vault says, and ``life_s`` how long the keys may be used, from the request on: ``login`` is the one
    that they end with."""

    id: str
    data: Mapping[str, object] = field(repr=False)
    granted_s: float
    life_s: float
    renewable: bool
    login: object = field(repr=False)


class DynamicSecrets:
    """By the login of ``reader``. Its methods raise `CredentialUnavailable`."""

    def __init__(self, reader: VaultReader) -> None:
        self._reader = reader

    def read(self, role: VaultRole) -> VaultLease:
        """New keys."""
        mount, endpoint, name = role.parts
        answer, login = self._reader.asked(
            lambda client: client.secrets.aws.generate_credentials(
                name,
                role.role_arn or None,
                f"{role.ttl_s}s" if role.ttl_s else None,
                endpoint,
                mount,
                role.session_name or None,
            )
        )
        if answer.status != 200:
            raise CredentialUnavailable(_refused(role, answer.status))
        found = self._lease(answer, login, None)
        if found is None:
            raise StoreAway(f"What Vault gives at {role.path} is no lease.")
        return found

    def renew(self, lease: VaultLease) -> VaultLease | None:
        """The same keys for longer. None: they can't be, and others have to be read."""
        if not lease.renewable or self._reader.login is not lease.login:
            return None
        wanted_s = int(lease.granted_s)
        answer, login = self._reader.asked(
            lambda client: client.sys.renew_lease(lease.id, wanted_s)
        )
        if answer.status != 200 or login is not lease.login:
            return None
        found = self._lease(answer, login, lease)
        # It shrinks as the lease's longest life comes near, as that of a token does.
        return found if found is not None and found.granted_s >= lease.granted_s / 2 else None

    def revoke(self, lease: VaultLease) -> None:
        answer, _ = self._reader.asked(lambda client: client.sys.revoke_lease(lease.id))
        if answer.status not in (200, 204):
            line = 'path "sys/leases/revoke" { capabilities = ["update"] }'
            raise CredentialUnavailable(
                f"Vault does not revoke a lease ({answer.status}). Its policy needs: {line}."
            )

    def allowed(self, role: VaultRole) -> bool | None:
        """Whether our policy lets us ask for keys; None if Vault does not say. Nothing is made."""
        answer, _ = self._reader.asked(lambda client: client.sys.get_capabilities([role.path]))
        found = (answer.body or {}).get("capabilities")
        if answer.status != 200 or not isinstance(found, list):
            return None
        return role.capability in found or "root" in found

    def _lease(
        self, answer: VaultReply, login: object, before: VaultLease | None
    ) -> VaultLease | None:
        body: Mapping[str, Any] = answer.body or {}
        lease_id, life, data = body.get("lease_id"), body.get("lease_duration"), body.get("data")
        if (
            not isinstance(lease_id, str)
            or not lease_id
            or isinstance(life, bool)
            or not isinstance(life, int | float)
            or not 1 <= life < math.inf
        ):
            return None
        if before is not None:
            data = before.data
        if not isinstance(data, dict):
            return None
        left_s = self._reader.left_s()
        life_s = min(float(life), LONGEST_S, math.inf if left_s is None else left_s)
        renewable = body.get("renewable") is True
        return VaultLease(lease_id, data, float(life), life_s, renewable, login)


def _refused(role: VaultRole, status: int) -> str:
    what = f"Vault gives no keys at {role.path} ({status})"
    if status == 403:
        return f'{what}: our policy lacks: path "{role.path}" {{ capabilities = ["{role.capability}"] }}.'
    if status == 404:
        return f"{what}: there is no AWS engine at {role.parts[0]}."
    return (
        f"{what}: there is no such role, or it does not allow what is asked, or AWS refuses Vault."
    )
