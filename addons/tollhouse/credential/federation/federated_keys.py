"""The keys of the store, and beside them the credentials that are exchanged. The road sees one place."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from tollhouse.credential.cache import KeyCache
from tollhouse.credential.cloud.token_host import Connector
from tollhouse.credential.entry import OUTCOMES, RETRY_S, KeyState, KeyStatus
from tollhouse.credential.federation.exchange_answers import Busy, Exchanged
from tollhouse.credential.federation.subject import SubjectTokens
from tollhouse.credential.federation.subject_token import SubjectToken
from tollhouse.credential.federation.token_exchange import TokenExchange
from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, Lease, RawSecret, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.credential.vault.leased_keys import LeasedKeys
from tollhouse.providers import Federation
from tollhouse.refreshed import Ended, Fresh, NotRead, Refreshed, Timer, Times, later

CertificateShown = Callable[[], Awaitable[tuple[ssl.SSLContext, SubjectToken]]]
"""Gives TLS that shows a client certificate, and of whom it is. Raises `CredentialUnavailable`."""

_log = logging.getLogger("tollhouse.credential")

_PLACES: Final = ("federation:", "lease:")
"""Paths of the store have no colon."""
_YOUNG_S: Final = 15.0
"""A leased key that is younger and refused is not known everywhere in AWS yet: another one would be as young."""
_BOUND_S: Final = 15.0
"""For the subject token and the exchange together."""
_WAIT_S: Final = 10.0
"""The longest that a call waits where there is no credential."""
_REFUSED_AGAIN_S: Final = 10.0
_AHEAD_S: Final = 120.0
_AHEAD_SHARE: Final = 0.2
_TIMES: Final = Times(
    ahead_s=_AHEAD_S,
    ahead_share=_AHEAD_SHARE,
    spread=0.1,
    least_s=30.0,
    least_share=0.1,
    once_more_s=1.0,
    retry_s=RETRY_S,
    refused_s=(5.0, 15.0, 60.0),
    idle_s=600.0,
    idle_lives=1.0,
)


def place_of(provider: str, *, leased: bool = False) -> str:
    """What stands in place of a path of the store."""
    return f"{_PLACES[leased]}{provider}"


class Federated:
    """The credentials of the providers in ``entries``, by name, and those of ``leased``, which Vault leases. One exchange of a
    provider runs at a time. It is made anew ahead of the credential's end; the credential serves on until then, whatever the
    exchange says."""

    def __init__(
        self,
        entries: Mapping[str, Federation],
        subjects: SubjectTokens,
        *,
        leased: Mapping[str, LeasedKeys] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        call_later: Callable[[float, Callable[[], None]], Timer] = later,
    ) -> None:
        self._entries = dict(entries)
        self._leased = dict(leased or {})
        self.subjects = subjects
        self._clock = clock
        self._wall_clock = wall_clock
        self.connectors: Mapping[str, Connector] = {}
        """By provider, of those whose exchange goes through a proxy. Set before the first one: a proxy's password is in the
        store, which is opened before any way."""
        self.certificates: Mapping[str, CertificateShown] = {}
        """By provider, of those that take a certificate in place of a token. Set as `connectors`."""
        self._exchanges: dict[str, TokenExchange] = {}
        self._last: dict[str, SubjectToken] = {}
        """The subject token that was sent last, without its text."""
        self._ends: dict[str, float] = {}
        self._born: dict[str, float] = {}
        """When the leased keys in use were made."""
        self._not_before: dict[str, tuple[float, str]] = {}
        self.counts: dict[str, dict[str, int]] = {
            name: dict.fromkeys(OUTCOMES, 0) for name in self.names
        }
        self.refusals: dict[str, int] = dict.fromkeys(self.names, 0)
        self._reads: Refreshed[str, Lease] = Refreshed(
            self._read,
            _TIMES,
            away=(StoreAway,),
            clock=clock,
            jitter=jitter,
            call_later=call_later,
            on_read=self._tell,
        )

    def __contains__(self, provider: str) -> bool:
        return provider in self._entries or provider in self._leased

    @property
    def names(self) -> list[str]:
        return [*self._entries, *self._leased]

    def place(self, provider: str) -> str:
        return place_of(provider, leased=provider in self._leased)

    def peek(self, provider: str) -> Lease | None:
        kept = self._reads.peek(provider)
        return None if kept is None else kept.value

    async def get(self, provider: str) -> Lease:
        """Raises `CredentialUnavailable`."""
        try:
            async with asyncio.timeout(_WAIT_S):
                lease = await self._reads.get(provider)
        except (TimeoutError, NotRead):
            lease = None
        if lease is None:
            raise StoreAway(f"network: no credential came within {_WAIT_S:g} s.")
        return lease

    async def refused(self, lease: Lease) -> Lease | None:
        """Called when the provider has refused ``lease``. Gives another one. It is exchanged for this at most once in 10 s."""
        provider = lease.path.partition(":")[2]
        self.refusals[provider] += 1
        seen = self._reads.seen(provider)
        in_use = seen is not None and seen.kept is not None and seen.kept.value is lease
        if in_use and self._clock() - self._born.get(provider, float("-inf")) < _YOUNG_S:
            return None
        if not self._reads.drop(provider, lease, _REFUSED_AGAIN_S):
            return None
        self._ends.pop(provider, None)
        try:
            other = await self.get(provider)
        except CredentialUnavailable:
            return None
        return other if other.secret != lease.secret else None

    def status(self) -> list[KeyStatus]:
        return [self._status(name) for name in self.names if self._reads.seen(name) is not None]

    def _status(self, provider: str) -> KeyStatus:
        seen, now = self._reads.seen(provider), self._clock()
        leased, last = self._leased.get(provider), self._last.get(provider)
        subject = last.subject if last is not None else ""
        shared = {
            "provider": provider,
            "method": f"federation ({self._entries[provider].source})"
            if leased is None
            else f"lease ({leased.role.path})",
            "subject": subject if leased is None else leased.arn,
            "reads": dict(self.counts[provider]),
        }
        error = seen.error.why if seen and isinstance(seen.error, CredentialUnavailable) else ""
        kept = seen.kept if seen is not None and seen.serves else None
        if kept is None or kept.value is None:
            return KeyStatus(self.place(provider), "failed", error=error, **shared)  # type: ignore[arg-type]
        ahead_s = max(_AHEAD_S, _AHEAD_SHARE * kept.life_s)
        refresh_at = kept.at + max(kept.life_s - ahead_s, kept.life_s / 2)
        return KeyStatus(
            self.place(provider),
            "fresh",
            kept.value.version,
            (KeyState(kept.value.fingerprint),),
            now - kept.at,
            error,
            expires_s=kept.at + kept.life_s - now,
            refresh_s=max(refresh_at - now, 0.0),
            **shared,  # type: ignore[arg-type]
        )

    def forget(self) -> None:
        self._reads.clear()
        self._ends.clear()
        self._not_before.clear()

    async def close(self) -> None:
        await self._reads.close()
        await asyncio.gather(*(each.close() for each in self._leased.values()))
        for exchange in self._exchanges.values():
            await exchange.close()

    async def _read(self, provider: str, known: Lease | None) -> Fresh[Lease]:
        asked, wall = self._clock(), self._wall_clock()
        error: CredentialUnavailable
        try:
            if (leased := self._leased.get(provider)) is not None:
                ends = self._ends.get(provider, 0.0)
                serves = known is not None and asked + leased.longest_s < ends
                lease, life_s = await leased.fresh(known, wall, serves=serves)
                if lease is not known:
                    self._born[provider] = self._clock()
            else:
                async with asyncio.timeout(_BOUND_S):
                    lease, life_s = await self._exchanged(provider, wall)
        except TimeoutError:
            error = StoreAway(f"network: no credential came within {_BOUND_S:g} s.")
        except Busy as busy:
            self._not_before[provider] = (asked + busy.wait_s, busy.why)
            error = StoreAway(busy.why)
        except CredentialUnavailable as refusal:
            alive = known is not None and asked < self._ends.get(provider, 0.0)
            # The credential that is there was given by right, and its end is near: it serves until then.
            error = StoreAway(refusal.why) if alive else type(refusal)(refusal.why)
        else:
            self._ends[provider] = asked + life_s
            return Fresh(lease, life_s)
        # Raised here, so that no frame behind it holds a token.
        raise error

    async def _exchanged(self, provider: str, wall: float) -> tuple[Lease, float]:
        until, why = self._not_before.get(provider, (0.0, ""))
        if self._clock() < until:
            raise StoreAway(why)
        entry = self._entries[provider]
        if (certificate := self.certificates.get(provider)) is not None:
            return await self._by_certificate(provider, certificate, wall)
        subject = await self.subjects.token(entry)
        last = self._last.get(provider)
        once = entry.exchange.single_use and subject.jti
        if once and last is not None and last.jti == subject.jti:
            raise StoreAway(
                f"subject: {entry.place or entry.source} still gives the token that was exchanged before, and this endpoint "
                "takes a token once. It is tried again when there is another one."
            )
        self._last[provider] = SubjectToken("", subject.subject, subject.issuer, subject.jti)
        if (exchange := self._exchanges.get(provider)) is None:
            exchange = self._exchanges[provider] = TokenExchange(
                entry, connector=self.connectors.get(provider), wall_clock=self._wall_clock
            )
        return self._as_lease(provider, await exchange.exchange(subject), wall)

    async def _by_certificate(
        self, provider: str, certificate: CertificateShown, wall: float
    ) -> tuple[Lease, float]:
        """Each time with the certificate that the store has then."""
        try:
            tls, subject = await certificate()
        except CredentialUnavailable as error:
            raise type(error)(f"subject: {error.why}") from None
        self._last[provider] = subject
        connector = self.connectors.get(provider)
        exchange = TokenExchange(
            self._entries[provider], connector=connector, tls=tls, wall_clock=self._wall_clock
        )
        try:
            return self._as_lease(provider, await exchange.exchange(subject), wall)
        finally:
            await exchange.close()

    def _as_lease(self, provider: str, given: Exchanged, wall: float) -> tuple[Lease, float]:
        ends = datetime.fromtimestamp(wall, UTC) + timedelta(seconds=given.life_s)
        if self._entries[provider].exchange.steps[0].gives == "keys":
            raw = RawSecret({"api_key": given.text}, "")
            secret = contents(raw, "api_key", place_of(provider)).secrets[0]
            kind = "aws"
        else:
            secret, kind = Secret(given.text), "bearer"
        return (
            Lease(
                secret,
                ends.strftime("%Y%m%dT%H%M%SZ"),
                secret.fingerprint,
                place_of(provider),
                "aws" if kind == "aws" else "bearer",
            ),
            given.life_s,
        )

    def _tell(self, provider: str, read: Ended[Lease]) -> None:
        counts, before, error = self.counts[provider], read.error_before, read.error
        last = self._last.get(provider)
        if error is None:
            counts["value"] += 1
            value = read.told.value if read.told is not None else None
            if provider in self._leased and value is not None and read.told is not None:
                if read.before is None or read.before.value is not value:
                    path, life_s = self._leased[provider].role.path, read.told.life_s
                    fingerprint = value.fingerprint
                    _log.info(
                        "%s leases %s, for %.0f s (key %s)", path, provider, life_s, fingerprint
                    )
            elif read.told is not None and read.told.value is not None and last is not None:
                _log.info(
                    "%s gave a credential for %s of %s, for %.0f s (key %s)",
                    provider,
                    last.subject,
                    last.issuer,
                    read.told.life_s,
                    read.told.value.fingerprint,
                )
            return
        why = error.why if isinstance(error, CredentialUnavailable) else type(error).__name__
        away = isinstance(error, StoreAway)
        counts["away" if away else "refused"] += 1
        if isinstance(before, CredentialUnavailable) and before.why == why:
            return
        serves = read.before is not None and read.ended_at < read.before.ends_at
        kept = "the one there is serves on" if serves else "there is none"
        _log.log(
            logging.WARNING if away else logging.ERROR,
            "no new credential of %s; %s. %s",
            provider,
            kept,
            why,
        )


class KeysAndFederation(KeyCache):
    """A `KeyCache` in which the providers of ``federated`` have what is exchanged, and no key of the store."""

    federated: Federated
    """Set once, when it is made."""

    def peek(self, provider: str, tenant: str, project: str) -> Lease | None:
        if provider in self.federated:
            return self.federated.peek(provider)
        return super().peek(provider, tenant, project)

    async def get(self, provider: str, tenant: str, project: str) -> Lease:
        if provider in self.federated:
            return self.federated.peek(provider) or await self.federated.get(provider)
        return await super().get(provider, tenant, project)

    def cooling(self, lease: Lease, seconds: float | None = None) -> Lease | None:
        return None if lease.path.startswith(_PLACES) else super().cooling(lease, seconds)

    def exhausted(self, lease: Lease) -> Lease | None:
        return None if lease.path.startswith(_PLACES) else super().exhausted(lease)

    async def refused(self, lease: Lease) -> Lease | None:
        if lease.path.startswith(_PLACES):
            return await self.federated.refused(lease)
        return await super().refused(lease)

    def status(self) -> list[KeyStatus]:
        return [*self.federated.status(), *super().status()]

    def notable(self, most: int) -> list[KeyStatus]:
        mine = self.federated.status()
        return [*mine, *super().notable(max(most - len(mine), 0))]

    def refusals(self) -> dict[tuple[str, str, str], int]:
        mine = {
            (name, self.federated.place(name), ""): n
            for name, n in self.federated.refusals.items()
            if n
        }
        return {**super().refusals(), **mine}

    async def read_now(self, path: str) -> tuple[Lease, ...]:
        """Of a provider of ``federated``: the credential that is kept, or a new one."""
        if path.startswith(_PLACES):
            return (await self.federated.get(path.partition(":")[2]),)
        return await super().read_now(path)

    def forget(self) -> None:
        super().forget()
        self.federated.forget()

    async def close(self) -> None:
        await self.federated.close()
        await super().close()
