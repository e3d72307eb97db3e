"""The credential of one attempt: the headers with the key. They are made when the attempt leaves,
and not before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.secret import Secret
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.headers import Headers
from tollhouse.providers import Federation, Provider

log = logging.getLogger(__name__)

_LARGE_BODY: Final = 262_144
"""Signing hashes the body at about 1 GB/s. A body that would hold the event loop for longer than
0.3 ms is hashed in a thread."""
_NAMES: Final = {
    "key": "an API key",
    "aws": "an AWS access key",
    "google": "a Google service account",
}


class TokenSource(Protocol):
    """Access tokens of Google service accounts. They are minted, cached and refreshed ahead."""

    async def get(self, secret: Secret) -> Secret:
        """The access token of the service account in ``secret`` (see `Lease`). It waits for a
        bounded time. Raises `CredentialUnavailable`."""

    def refused(self, secret: Secret, token: Secret) -> bool:
        """Called when the provider has refused ``token``. Says whether `get` will give another
        one."""


def check_lease(lease: Lease, provider: Provider) -> None:
    """Raises `CredentialUnavailable` for a lease that ``provider`` can do nothing with."""
    if lease.kind == "none":
        return
    if lease.kind == "login":
        if provider.login is None:
            raise CredentialUnavailable(f"{provider.name} takes no login.")
        return
    if provider.login_only:
        raise CredentialUnavailable(f"{provider.name} takes a login alone, and no key.")
    if lease.kind == "bearer":
        if provider.federation is None:
            raise CredentialUnavailable(f"{provider.name} has no federation.")
        return
    if lease.kind not in provider.accepts:
        wanted = " or ".join(_NAMES[kind] for kind in sorted(provider.accepts, reverse=True))
        raise CredentialUnavailable(
            f"The secret at {lease.path} is {_NAMES[lease.kind]}; {provider.name} takes {wanted}."
        )
    for header, value in lease.headers:
        if header in provider.account_headers.values() and not all(
            " " <= character <= "~" for character in value
        ):
            raise CredentialUnavailable(
                f"The secret at {lease.path} has a value for {header} with a character that is not printable ASCII."
            )


async def credential_headers(
    outgoing: Outgoing,
    headers: Headers,
    authority: str,
    *,
    now: datetime,
    tokens: TokenSource | None = None,
    minted: Callable[[Secret], None] | None = None,
) -> list[tuple[str, str]]:
    """The headers that are added to ``headers``, those that are sent beside them. They replace headers of
    the same names.

    ``authority`` is the Host header. ``now`` has a time zone. ``minted`` gets a secret that stands in
    these headers and is not the lease's own. Raises `CredentialUnavailable`, and `Refused` (400) for a
    request that can't be signed.
    """
    provider, lease = outgoing.provider, outgoing.lease
    check_lease(lease, provider)
    if lease.kind == "none":
        return []
    federation = provider.federation if lease.kind != "login" else None
    if federation is not None and (
        provider.unsafe_plaintext or not federation.exchange.may_go_to(outgoing.host)
    ):
        raise CredentialUnavailable(
            f"What {provider.name} has exchanged is sent to its provider's own hosts alone, and {outgoing.host} is none."
        )
    account = (
        [pair for pair in lease.headers if pair[0] in provider.account_headers.values()]
        if lease.headers
        else []
    )
    if lease.kind == "login":
        return [("authorization", "Bearer " + lease.secret.reveal())]
    if lease.kind == "bearer":
        added = [] if federation is None else _beside(federation, headers)
        return [*added, ("authorization", "Bearer " + lease.secret.reveal())]
    slot = provider.slot_at(outgoing.path_and_query)
    if lease.kind == "key":
        return [*account, (slot.header, slot.prefix + lease.secret.reveal())]
    if lease.kind == "google":
        if tokens is None:
            raise CredentialUnavailable("This gateway has no way to mint access tokens.")
        token = await tokens.get(lease.secret)
        if minted is not None:
            minted(token)
        return [*account, ("authorization", "Bearer " + token.reveal())]
    return account + await _signed(outgoing, headers, authority, now)


def _beside(federation: Federation, headers: Headers) -> list[tuple[str, str]]:
    """The headers that go with an exchanged token. What the client has in one of them is kept before it."""
    added = []
    for name, value in federation.exchange.call_headers:
        has = [
            one.strip() for key, text in headers if key.lower() == name for one in text.split(",")
        ]
        added.append((name, ",".join(dict.fromkeys([*(one for one in has if one), value]))))
    return added


def tell_of_clock(answer: Answer, where: str, signed_at: datetime) -> None:
    """Writes to the log when AWS has refused a signature and its clock differs from ours."""
    from tollhouse.credential.cloud import aws

    off_s = aws.clock_off_s(answer.get("x-amzn-errortype") or "", answer.get("date"), signed_at)
    if off_s is not None:
        log.error(
            "%s refuses a signature, and the clock of this machine is %.0f s %s its own: AWS takes 5 minutes at the most, so "
            "set the clock (NTP)",
            where,
            abs(off_s),
            "ahead of" if off_s > 0 else "behind",
        )


async def _signed(
    outgoing: Outgoing, headers: Headers, authority: str, now: datetime
) -> list[tuple[str, str]]:
    from tollhouse.credential.cloud import aws

    scope = aws.scope(outgoing.host)
    if scope is None:
        raise CredentialUnavailable(
            f"The AWS region of {outgoing.host} can't be told from its name, so nothing can be signed for it."
        )
    body = outgoing.body or b""
    if not isinstance(body, bytes):
        raise Refused("bad_request", "A request with an upload can't be signed for AWS.")

    def sign() -> list[tuple[str, str]]:
        return aws.sign(
            outgoing.lease.secret,
            region=scope[0],
            service=scope[1],
            method=outgoing.method,
            host=authority,
            path_and_query=outgoing.path_and_query,
            headers=headers,
            body=body,
            now=now,
        )

    try:
        return await asyncio.to_thread(sign) if len(body) > _LARGE_BODY else sign()
    except aws.Unsignable as error:
        why = error.why
    raise Refused("bad_request", why)
