"""What a call is given: a key with the place and version it came from. And how a store of keys says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from tollhouse.credential.secret import Secret
from tollhouse.providers import CredentialKind


@dataclass(frozen=True, slots=True)
class Lease:
    """A key as it was read once. A rotated key is a new lease; a lease never changes."""

    secret: Secret
    version: str
    """The store's version of the secret. It may go backwards: a standby lags, or a secret was
    deleted and made anew."""
    fingerprint: str
    path: str
    """Below the mount: ``infrastructure/openai``."""
    kind: CredentialKind | Literal["bearer", "login", "none"] = "key"
    """What ``secret`` is: the key itself, a token that was exchanged, a workload's own login, or as
    JSON an AWS access key (``access_key_id``,
    ``secret_access_key``, ``session_token`` if there is one) or a Google service account's file."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers from the secret's other fields. The gateway sets those that the provider has in its
    `account_headers`. They are not secret, and they are not judged yet."""
    shared: bool = True
    """Several tenants may use it: its path has neither a tenant's name nor a project's."""
    created: str = ""
    """As in `RawSecret`."""

    @property
    def ours(self) -> bool:
        """There may be another key in its place, and what the provider says of it is for us."""
        return self.kind not in ("login", "none")


NO_KEY: Final = Lease(Secret("", exposed=()), "", "", "", "none")
"""Of a call that goes without a key."""


def login_lease(token: str) -> Lease:
    """Of a call that goes with its workload's own login."""
    return Lease(Secret(token), "", "", "", "login", shared=False)


class CredentialUnavailable(Exception):
    """No key can be had. ``why`` is a sentence that may be shown: never a secret, never a server's own text."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StoreAway(CredentialUnavailable):
    """The store did not answer, or said that it can't answer now (sealed, overloaded). A value that
    was read before may serve on."""


class Malformed(CredentialUnavailable):
    """The store answered, and its answer is no usable key. ``version`` is the refused version of
    the secret; empty if the answer does not say which. A value that was read before may serve
    on."""

    def __init__(self, why: str, version: str = "") -> None:
        super().__init__(why)
        self.version = version


class NoKey(CredentialUnavailable):
    """The store answered for every path: there is no secret at any of them."""


@dataclass(frozen=True, slots=True)
class RawSecret:
    """A secret's fields as the store keeps them. The object lives only from the read to
    `fields.contents`."""

    data: Mapping[str, object] = field(repr=False)
    version: str
    created: str = ""
    """When the store made this version, in UTC, as text that sorts by time. Empty if the store does
    not say."""


class Reader(Protocol):
    """A store of secrets. Its methods block and are called in threads, several at once."""

    trouble: str
    """Why the login could not be kept alive, empty when all is well. Safe to show."""
    notice: str
    """What a person will have to do, though all is well now. Empty if nothing. Safe to show."""

    def connect(self) -> None:
        """Log in if that has not been done. Raises `CredentialUnavailable`."""

    def read(self, path: str) -> RawSecret | None:
        """The latest version at ``path`` below the mount. None when there is none, or it was
        deleted or destroyed.

        Raises `StoreAway`, and `CredentialUnavailable` for a refusal.
        """

    def tend(self) -> float | None:
        """Keeps the login alive. Gives the seconds until it has to be called again, None for never.
        Raises nothing."""

    def left_s(self) -> float | None:
        """Seconds until the login ends. None if it does not end, and before the first login. It
        neither blocks nor raises."""

    def close(self) -> None:
        """Gives the login back and closes connections. Raises nothing."""
