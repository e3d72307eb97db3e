"""Who is calling, and which project pays.

The first credential that is present decides: ``Proxy-Authorization`` (also that of the CONNECT),
then the credential slots of the providers. If it is wrong, the call is refused, and the next
credential is not tried. An SDK needs some ``api_key``; beside a valid ``Proxy-Authorization`` it is
only stripped.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tollhouse.accounts.token import digest, well_formed
from tollhouse.accounts.token_record import TokenDirectory
from tollhouse.admit.subprotocols import key_offered
from tollhouse.call import RequestHead
from tollhouse.denial import Refused
from tollhouse.parties import Identity
from tollhouse.providers import CREDENTIAL_HEADERS


@dataclass(frozen=True, slots=True, repr=False)
class Presented:
    """A credential as it came. ``secret`` may be a gate token or any other text."""

    secret: str
    user: str = ""
    of_proxy: bool = False
    """It stood in Proxy-Authorization."""

    @property
    def is_formless(self) -> bool:
        """It can't be a gate token."""
        return not well_formed(self.secret)


def presented(
    head: RequestHead, query_credentials: Sequence[str], placeholder: str | None = None
) -> Presented | None:
    """The credential that decides, or None if there is none. A slot that has exactly ``placeholder`` counts as empty. Raises
    `Refused` (400, 401) if it can't be read."""
    proxy = (
        [head.connect_proxy_authorization]
        if head.connect_proxy_authorization is not None
        else head.get_all("proxy-authorization")
    )
    if len(proxy) > 1:
        raise Refused("bad_request", "The request has more than one Proxy-Authorization header.")
    if proxy:
        return _from_proxy_authorization(proxy[0])
    for name in CREDENTIAL_HEADERS:
        value = head.get(name)
        if value is not None:
            scheme, _, rest = value.partition(" ")
            secret = rest.strip() if scheme.lower() == "bearer" else value
            if secret != placeholder:
                return Presented(secret)
    key = key_offered(head) if head.asks_for_websocket else None
    if key is not None and key != placeholder:
        return Presented(key)
    return next((Presented(one) for one in query_credentials if one != placeholder), None)


def _from_proxy_authorization(value: str) -> Presented:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return Presented(rest.strip(), of_proxy=True)
    if scheme.lower() != "basic":
        raise Refused("identity_unknown", "Proxy-Authorization is neither Basic nor Bearer.")
    try:
        user, colon, password = (
            base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        raise Refused(
            "identity_unknown", "Proxy-Authorization is not valid Basic authentication."
        ) from None
    if not colon:
        raise Refused(
            "identity_unknown",
            "Proxy-Authorization has no password: it must be PROJECT:GATE_TOKEN.",
        )
    return Presented(password, user, of_proxy=True)


async def identify(
    credential: Presented | None, directory: TokenDirectory, clock: Callable[[], float]
) -> Identity:
    """The identity behind a credential. Raises `Refused` (401), and the errors of the directory."""
    if credential is None:
        raise Refused("identity_missing")
    if not well_formed(credential.secret):
        raise Refused("identity_unknown", "It does not have the form of a gate token.")
    record = await directory.find(digest(credential.secret))
    if record is None:
        raise Refused("identity_unknown", "It has the right form, but no such token was made here.")
    if record.revoked_at is not None:
        raise Refused("identity_revoked", f"Its id is {record.id}.")
    if record.expires_at is not None and record.expires_at <= clock():
        raise Refused("identity_expired", f"Its id is {record.id}.")
    return Identity(
        record.id, record.tenant, record.projects, record.label, record.charged_as, record.limits
    )


def choose_project(identity: Identity, named: Sequence[str], user: str, header: str) -> str:
    """The project that pays: the one in the header, else the Basic user name, else the only project
    of the identity. Raises `Refused`."""
    if len(named) > 1:
        raise Refused("bad_request", f"The request has more than one {header} header.")
    wanted = (named[0].strip() if named else "") or user
    if not wanted:
        if len(identity.projects) != 1:
            raise Refused(
                "bad_request",
                f"The token is for several projects, and none was chosen: send {header}.",
            )
        return identity.projects[0]
    if wanted not in identity.projects:
        raise Refused("project_not_allowed", f"The token was not made for {wanted[:64]!a}.")
    return wanted
