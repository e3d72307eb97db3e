"""Secrets that are no provider's keys: a client certificate, the password of a proxy. They are kept ready as keys are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tollhouse.credential.lease import CredentialUnavailable, RawSecret, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.refreshed import Fresh, NotRead, Refreshed, Times

Fields = Mapping[str, Secret]
_BOUND_S: Final = 5.0
_IDLE_S: Final = 600.0


class SecretsBesideKeys:
    """``read`` gives the secret at a path of the store. A value serves for ``refresh_s``, is read again ahead of its end while
    it is used, and serves for ``stale_for_s`` more while the store is away. It is for one event loop."""

    def __init__(
        self,
        read: Callable[[str], Awaitable[RawSecret | None]],
        refresh_s: float,
        stale_for_s: float,
    ) -> None:
        self._read_raw = read
        self._refresh_s = refresh_s
        self._reads: Refreshed[str, Fields] = Refreshed(
            self._read,
            Times(
                ahead_share=1 / 3,
                spread=0.2,
                missing_s=min(refresh_s, _BOUND_S),
                from_asked=False,
                grace_s=_BOUND_S,
                stale_for_s=stale_for_s,
                retry_s=(0.5, 1.0, 2.0, 5.0),
                idle_s=_IDLE_S,
            ),
            away=(StoreAway,),
        )

    async def get(self, path: str, *names: str) -> tuple[Secret, ...]:
        """The fields of these names. They stay the same objects as long as the secret does not change. Raises
        `CredentialUnavailable`."""
        kept = self._reads.peek(path)
        try:
            if kept is not None:
                fields = kept.value
            else:
                async with asyncio.timeout(_BOUND_S):
                    fields = await self._reads.get(path)
        except (TimeoutError, NotRead):
            raise StoreAway(f"The store of keys did not give {path} in time.") from None
        missing = [name for name in names if fields is None or name not in fields]
        if fields is None or missing:
            what = "There is no secret" if fields is None else f"There is no text in {missing[0]!r}"
            raise CredentialUnavailable(f"{what} at {path}.")
        return tuple(fields[name] for name in names)

    async def _read(self, path: str, known: Fields | None) -> Fresh[Fields] | None:
        raw = await self._read_raw(path)
        if raw is None:
            return None
        found: dict[str, Secret] = {}
        for name, value in raw.data.items():
            if isinstance(value, str) and value:
                secret = Secret(value)
                before = None if known is None else known.get(name)
                found[name] = before if before == secret and before is not None else secret
        return Fresh(found, self._refresh_s)

    async def close(self) -> None:
        await self._reads.close()
