"""Identities for which no gate token was made: what Redis keeps of them. Their limits, and whether they were revoked.

The scope of a subject is that of a token with the subject's id. Its limits are written before its first call, by each process
once, so that it is never found without them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tollhouse.accounts.token_record import TokenDirectory
from tollhouse.denial import Refused
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.names import Scope
from tollhouse.parties import Identity

_REMEMBERED: Final = 16_384


class Subjects:
    """It is mutable, and for one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._limited: OrderedDict[tuple[str, str], tuple[str, ...]] = OrderedDict()

    async def check(self, identity: Identity, directory: TokenDirectory) -> None:
        """Raises `Refused` (401) for a subject that was revoked, and the errors of the directory."""
        record = await directory.find_subject(identity.token_id)
        if record is not None and record.revoked_at is not None:
            raise Refused.telling(
                "identity_revoked",
                f"Its id is {identity.token_id}.",
                "Ask whoever runs the gateway: the subject was revoked (`tollhouse token revoke`).",
            )

    async def limit(self, identity: Identity) -> None:
        """Writes the limits of a subject that this process has not seen yet. Raises `LedgerUnavailable`."""
        key = (identity.tenant, identity.token_id)
        if self._limited.get(key) == identity.limits:
            self._limited.move_to_end(key)
            return
        await self._ledger.set_limits(Scope("token", *key), parse_limits(identity.limits))
        self._limited[key] = identity.limits
        if len(self._limited) > _REMEMBERED:
            self._limited.popitem(last=False)
