"""The keys of one issuer, kept for an hour and read again in the background.

A JWT whose key is not known makes them be read again at once, since the issuer may have rotated. That happens at most once in
30 s, whoever asks: else an issuer would be asked as often as somebody invents ids of keys. A call with a known key never
waits for that.

While the issuer is away, the last keys count for two hours after they were read. What is no JWK Set counts as an issuer that is
away. A JWK Set without a key that could be used is an answer: none of the issuer's keys counts any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from jwt import PyJWK

from tollhouse import files
from tollhouse.credential.cloud.token_host import Connector, TokenHost
from tollhouse.credential.lease import StoreAway
from tollhouse.denial import Refused
from tollhouse.identities.claims import shown, unknown
from tollhouse.identities.jwks import JwksError, KeySet, parse_jwks
from tollhouse.refreshed import Ended, Fresh, NotRead, Refreshed, Times

log = logging.getLogger(__name__)

LIFE_S: Final = 3600.0
REFETCH_S: Final = 30.0
_BOUND_S: Final = 5.0
_TIMES: Final = Times(
    ahead_s=LIFE_S / 2,
    spread=0.1,
    stale_for_s=LIFE_S,
    retry_s=(2.0, 5.0, 15.0, 30.0),
    idle_s=1e9,
)
_RETRY: Final = (("retry-after", "5"),)


class KeysAway(Exception):
    """The keys can't be read. ``why`` is for the log: it names the issuer's host or the file."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why.removesuffix(".")


class KeySource(Protocol):
    """Where the keys of an issuer are."""

    @property
    def place(self) -> str: ...
    async def read(self) -> bytes:
        """Raises `KeysAway`."""

    async def close(self) -> None: ...


class JwksUrl:
    """``token_file`` holds a bearer token for the request: Kubernetes shows its keys to nobody else. ``connector`` is as
    in `TokenHost`."""

    def __init__(
        self,
        url: str,
        ca_file: Path | None = None,
        token_file: Path | None = None,
        connector: Connector | None = None,
    ) -> None:
        self.place = url
        self._host = TokenHost(url, ca_file=ca_file, connector=connector, bound_s=_BOUND_S)
        self._token_file = token_file

    async def read(self) -> bytes:
        headers = {"Accept": "application/json"}
        try:
            if self._token_file is not None:
                token = await asyncio.to_thread(files.read, self._token_file)
                headers["Authorization"] = f"Bearer {token.decode().strip()}"
            answer = await self._host.get(headers)
        except StoreAway as away:
            raise KeysAway(away.why) from None
        except (OSError, ValueError) as error:
            raise KeysAway(f"{self._token_file} can't be read ({_in_words(error)})") from None
        if answer.status != 200:
            raise KeysAway(f"{self.place} answers {answer.status}")
        return answer.data

    async def close(self) -> None:
        await self._host.close()


class JwksFile:
    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path

    async def read(self) -> bytes:
        try:
            return await asyncio.to_thread(files.read, self._path)
        except OSError as error:
            raise KeysAway(f"{self._path} can't be read ({_in_words(error)})") from None

    async def close(self) -> None: ...


def _in_words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


class IssuerKeys:
    """``clock`` is monotonic seconds."""

    def __init__(
        self,
        source: KeySource,
        algorithms: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self._algorithms = algorithms
        self._clock = clock
        self._refetch: asyncio.Task[None] | None = None
        self._refetched = float("-inf")
        self.reads = 0
        self._kept = Refreshed[str, KeySet](
            self._read, _TIMES, away=(KeysAway,), clock=clock, on_read=self._told
        )

    async def warm(self) -> None:
        """Reads the keys for the first time. What goes wrong is in the log, and it is tried again."""
        try:
            await self._kept.get("")
        except (KeysAway, NotRead):
            pass

    def now(self) -> KeySet | None:
        """The keys, if there are some without waiting."""
        kept = self._kept.peek("")
        return kept.value if kept is not None else None

    async def current(self) -> KeySet:
        """Raises `KeysAway`."""
        try:
            found = await self._kept.get("")
        except NotRead:
            raise KeysAway("the gateway stops") from None
        assert found is not None
        return found

    async def fitting(self, kid: str | None, alg: str) -> tuple[KeySet, tuple[PyJWK, ...]]:
        """The keys for a JWT of this head. Raises `Refused`."""
        try:
            known = await self.current()
            found = known.fitting(kid, alg)
            if not found:
                await self._read_again()
                known = await self.current()
                found = known.fitting(kid, alg)
        except KeysAway:
            raise Refused("identity_unavailable", headers=_RETRY) from None
        if found:
            return known, found
        seen = self._kept.seen("")
        if seen is not None and seen.error is not None:
            # Perhaps the issuer has such a key.
            why = "The key that the JWT names is not known yet."
            raise Refused("identity_unavailable", why, _RETRY)
        name = "has no kid" if kid is None else f"is signed with the key {shown(kid)}"
        raise unknown(
            f"The JWT {name}, and its issuer has no such key for {alg}.",
            "Have the platform issue a new one. After a rotation the issuer is asked again within 30 s.",
        )

    async def _read_again(self) -> None:
        """Once in `REFETCH_S`. A caller that comes while that read is under way waits for it."""
        now = self._clock()
        if self._refetch is None and now - self._refetched >= REFETCH_S:
            self._refetched = now
            self._refetch = asyncio.create_task(self._kept.again(""))
            self._refetch.add_done_callback(self._landed)
        if self._refetch is not None:
            await asyncio.wait([self._refetch])

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._refetch = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the keys of %s could not be read again: %s", self.source.place, error)

    async def _read(self, key: str, before: KeySet | None) -> Fresh[KeySet]:
        self.reads += 1
        text = await self.source.read()
        if before is not None and before.text == text:
            return Fresh(before, LIFE_S)
        try:
            found = await asyncio.to_thread(parse_jwks, text, self._algorithms)
        except JwksError as error:
            raise KeysAway(f"{self.source.place} can't be used: {error}") from None
        if not found.ids and (before is None or before.ids):
            wanted = ", ".join(self._algorithms)
            log.error(
                "%s has no public key for %s that is meant for signatures: none of its JWTs is taken until it has one",
                self.source.place,
                wanted,
            )
        return Fresh(found, LIFE_S)

    def _told(self, key: str, ended: Ended[KeySet]) -> None:
        if ended.error is not None and ended.error_before is None:
            why = getattr(ended.error, "why", type(ended.error).__name__)
            log.error("the keys of an issuer can't be read, and it is tried again: %s", why)

    async def close(self) -> None:
        await self._kept.close()
        await self.source.close()
