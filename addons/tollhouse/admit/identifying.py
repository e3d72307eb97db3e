"""The chain of identifiers: who calls, by what is shown first.

1. ``Proxy-Authorization``: a gate token or a JWT
2. the credential slot of a provider: the same. A slot with the placeholder that an SDK wants counts as empty.
3. the certificate of a client on a listener that speaks TLS itself
4. the network that the client connects from, on the transparent listener

The first that is there decides. If it is wrong, the call is refused, and none behind it is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tollhouse.accounts.remembered import Remembered
from tollhouse.accounts.subjects import Subjects
from tollhouse.accounts.token import is_jwt
from tollhouse.accounts.token_record import TokenDirectory
from tollhouse.admit.identity import Presented, identify, presented
from tollhouse.call import RequestHead
from tollhouse.denial import Refused
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.parties import Identity

log = logging.getLogger(__name__)

PLACEHOLDER: Final = "not-a-key"
"""What `tollhouse exec` gives an SDK that does not start without a key."""
_NEITHER: Final = "It has neither the form of a gate token nor that of a JWT: three parts of base64url, from eyJ on."
_TODO: Final = "Send the whole token of your platform, or a gate token; a provider's own key is never accepted here."
_NO_PROJECT: Final = frozenset({"x", "jwt"})
"""User names of a proxy's URL that name no project: one has to stand before a JWT there."""


class Accounts:
    """The directory of tokens and projects. While Redis is away ``remembered`` answers in its
    place, if there is one."""

    def __init__(self, directory: TokenDirectory, remembered: Remembered | None = None) -> None:
        self._directory = directory
        self._remembered = remembered

    async def ask[T](self, question: Callable[[TokenDirectory], Awaitable[T]]) -> tuple[T, bool]:
        """The answer to ``question``, and whether it is a remembered one. Raises `Refused` (503) if
        nobody can answer."""
        try:
            try:
                return await question(self._directory), False
            except LedgerUnavailable as error:
                if self._remembered is None or not await self._remembered.serves(error):
                    raise
            return await question(self._remembered), True
        except LedgerUnavailable as error:
            raise _away(error) from None


class Jwts(Protocol):
    async def identify(self, token: str) -> Identity: ...
    def names_issuer(self, token: str) -> bool: ...


class ClientCertificates(Protocol):
    def identify(self, certificate: bytes) -> Identity: ...


class SourceNetworks(Protocol):
    def identity(self, head: RequestHead) -> Identity | None: ...


@dataclass(frozen=True, slots=True)
class Platform:
    """The identities for which no gate token was made; None for a kind that is not configured."""

    subjects: Subjects
    jwts: Jwts | None = None
    certificates: ClientCertificates | None = None
    networks: SourceNetworks | None = None


class Shown(NamedTuple):
    """What decides: one of the three."""

    credential: Presented | None = None
    certificate: bytes | None = None
    network: Identity | None = None


class Identifier:
    """``clock`` is seconds since the epoch. Without a ``platform`` gate tokens are all there is."""

    def __init__(
        self, accounts: Accounts, clock: Callable[[], float], platform: Platform | None = None
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._platform = platform

    def shown(self, head: RequestHead, query_credentials: Sequence[str]) -> Shown:
        """The first that is there. Raises `Refused`: 401 if there is none, and 400 or 401 if it can't be read."""
        credential = presented(head, query_credentials)
        platform = self._platform
        if (
            platform is not None
            and (
                credential is None or (credential.secret == PLACEHOLDER and not credential.of_proxy)
            )
            and (other := _beside_credentials(platform, head)) is not None
        ):
            # The slots behind an empty one come before a certificate or a network.
            credential = presented(head, query_credentials, PLACEHOLDER)
            if credential is None:
                return other
        if credential is None:
            raise Refused("identity_missing")
        return Shown(credential)

    async def identify(self, shown: Shown) -> tuple[Identity, str, bool]:
        """The identity, the user name that came with it, and whether Redis was away and they are remembered. Raises
        `Refused`."""
        credential, platform = shown.credential, self._platform
        if credential is None:
            assert platform is not None
            if shown.certificate is None:
                assert shown.network is not None
                identity = shown.network
            else:
                assert platform.certificates is not None
                identity = platform.certificates.identify(shown.certificate)
            return identity, "", await self._check(platform, identity)
        if platform is None or platform.jwts is None or not is_jwt(credential.secret):
            if platform is not None and platform.jwts is not None and credential.is_formless:
                raise Refused.telling("identity_unknown", _NEITHER, _TODO)
            identity, remembered = await self._accounts.ask(
                lambda directory: identify(credential, directory, self._clock)
            )
            return identity, credential.user, remembered
        identity = await platform.jwts.identify(credential.secret)
        user = "" if credential.user in _NO_PROJECT else credential.user
        return identity, user, await self._check(platform, identity)

    def is_platforms(self, token: str) -> bool:
        """Whether ``token`` is, or says that it is, a JWT of the platform: it goes to no provider as anybody's login."""
        jwts = self._platform.jwts if self._platform is not None else None
        return jwts is not None and is_jwt(token) and jwts.names_issuer(token)

    async def _check(self, platform: Platform, identity: Identity) -> bool:
        _, remembered = await self._accounts.ask(
            lambda directory: platform.subjects.check(identity, directory)
        )
        if not remembered:
            try:
                await platform.subjects.limit(identity)
            except LedgerUnavailable as error:
                raise _away(error) from None
        return remembered


def _beside_credentials(platform: Platform, head: RequestHead) -> Shown | None:
    """A certificate, or else a network."""
    if platform.certificates is not None and head.client_certificate is not None:
        return Shown(certificate=head.client_certificate)
    if platform.networks is not None and (found := platform.networks.identity(head)):
        return Shown(network=found)
    return None


def _away(error: LedgerUnavailable) -> Refused:
    log.error("the directory is away (%s)", error)
    return Refused("ledger_unavailable", headers=(("retry-after", "1"),))
