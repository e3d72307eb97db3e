"""Which tenant's calls got which objects that a provider keeps: files, stored answers, batches.

A provider gives an object to whoever has the key under which it was made. Where several tenants use
one key, this says whose it is. Redis has digests of ids, and no id. An object is its tenant's for
`KEPT_S` after its last use.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from tollhouse.call import Requested
from tollhouse.denial import Denial, Refused
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import LedgerUnavailable

log = logging.getLogger(__name__)

KEPT_S: Final = 90 * 86_400
MOST: Final = 1_000_000
"""The most objects of one tenant at one provider."""
MOST_NAMED: Final = 1_000
"""The most objects that one request names."""
_MAX_WAITING: Final = 100_000
_LIVES: Final = str(KEPT_S * 1000)
_TODO: Final = (
    "Use an object that a call of your tenant made, or have a key stored for your tenant or "
    "project alone; [providers.{provider}] share_objects = true opens it to all who use this key."
)


class KeptObjects:
    """Redis is asked by ``ledger``. What it could not be told waits in memory, and is told by
    `retry`. Until then, and for good if the process dies before, such an object is nobody's."""

    def __init__(self, ledger: Ledger, *, most: int = MOST) -> None:
        self._ledger = ledger
        self._most = str(most)
        self.waiting: deque[tuple[str, str, tuple[str, ...]]] = deque(maxlen=_MAX_WAITING)
        """Tenant, provider and digests of ids that Redis could not be told."""

    async def check(self, requested: Requested) -> None:
        """For a call whose key is shared. Raises `Refused`: 403 for a list of objects, for a
        deletion and for an object that is not the tenant's; 503 if Redis can't say."""
        admitted = requested.admitted
        tenant, provider = admitted.project.tenant, admitted.provider.name
        deletes = admitted.arrival.head.method == "DELETE"
        if admitted.operation.objects == "lists":
            raise _refused(
                provider, "The list shows the objects of every tenant that uses this key."
            )
        if deletes or admitted.operation.objects == "deletes":
            raise _refused(provider, "Nothing is deleted with a key that several tenants use.")
        ids = tuple(dict.fromkeys((*admitted.objects, *requested.asked.objects)))
        if not ids:
            return
        if len(ids) > MOST_NAMED:
            raise Refused("bad_request", f"The request names more than {MOST_NAMED} objects.")
        try:
            missing = await self.missing(tenant, provider, ids)
        except LedgerUnavailable as error:
            log.error("call %s: nobody can say whose its objects are (%s)", admitted.id, error)
            raise Refused("ledger_unavailable", headers=(("retry-after", "1"),)) from None
        if missing:
            raise _refused(provider, f"No call of tenant {tenant} has made {missing[0][:80]!a}.")

    async def missing(self, tenant: str, provider: str, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that are not the tenant's. Raises `LedgerUnavailable`."""
        arguments = [_LIVES, *map(_digest, ids)]
        places = await self._ledger.run_script(
            "objects_ask", names.objects_keys(tenant, provider), arguments
        )
        return [ids[place] for place in places]

    async def note(self, tenant: str, provider: str, ids: Sequence[str]) -> None:
        """From now on ``ids`` are the tenant's. Raises nothing but a cancellation."""
        digests = tuple(map(_digest, ids[:MOST_NAMED]))
        try:
            await self._add(tenant, provider, digests)
        except (LedgerUnavailable, asyncio.CancelledError) as error:
            self.waiting.append((tenant, provider, digests))
            log.error("objects of tenant %s could not be noted (%s); they wait", tenant, error)
            if not isinstance(error, LedgerUnavailable):
                raise

    async def retry(self) -> None:
        """Tells Redis what waits; called when it answers. Each tenant is tried once."""
        lost: set[str] = set()
        for _ in range(len(self.waiting)):
            tenant, provider, digests = entry = self.waiting.popleft()
            if tenant not in lost:
                try:
                    await self._add(tenant, provider, digests)
                    continue
                except LedgerUnavailable:
                    lost.add(tenant)
                except BaseException:
                    self.waiting.append(entry)
                    raise
            self.waiting.append(entry)

    async def _add(self, tenant: str, provider: str, digests: Sequence[str]) -> None:
        await self._ledger.run_script(
            "objects_add", names.objects_keys(tenant, provider), [_LIVES, self._most, *digests]
        )


def _digest(object_id: str) -> str:
    """Of one length, however long the id is: 128 bits of SHA-256."""
    digest = hashlib.sha256(object_id.encode("utf-8", "surrogatepass")).digest()[:16]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _refused(provider: str, why: str) -> Refused:
    todo = _TODO.format(provider=provider)
    return Refused.of(Denial("object_not_yours", why, todo_override=todo))
