"""What a call is given: a key with the place and version it came from. And how a store of keys says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tollhouse.credential.secret import Secret


@dataclass(frozen=True, slots=True)
class Lease:
    """A key as it was read once. A rotated key is a new lease; a lease never changes."""

    secret: Secret
    version: str
    """The store's version of the secret; it may go backwards (a standby that lags, a secret deleted and made anew)."""
    fingerprint: str
    path: str
    """Below the mount: ``infrastructure/openai``."""


class CredentialUnavailable(Exception):
    """No key can be had. ``why`` is a sentence that may be shown: never a secret, never a server's own text."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StoreAway(CredentialUnavailable):
    """The store did not answer, or said that it can't now (sealed, overloaded): what was read before may serve on."""


@dataclass(frozen=True, slots=True)
class RawSecret:
    """A secret's fields as the store keeps them; lives only from the read to the check of its field."""

    data: Mapping[str, object] = field(repr=False)
    version: str


class Reader(Protocol):
    """A store of secrets. Its methods block and are called in threads, several at once."""

    def connect(self) -> None:
        """Log in if that has not been done. Raises `CredentialUnavailable`."""

    def read(self, path: str) -> RawSecret | None:
        """The latest version at ``path`` below the mount; None when there is none or it was deleted or destroyed.

        Raises `StoreAway`, and `CredentialUnavailable` for a refusal.
        """

    def tend(self) -> float | None:
        """Keep the login alive. Seconds until it wants to be called again, None for never; raises nothing."""

    def close(self) -> None:
        """Give the login back and close connections; raises nothing."""


def check_value(raw: RawSecret, field_name: str, place: str) -> Secret:
    """The key in field ``field_name`` of a secret.

    A line end after it is taken off (``key=@file`` brings one). What is left must be printable ASCII without a space:
    it will stand in a header. Raises `CredentialUnavailable` naming ``place``, never what the field held.
    """
    value = raw.data.get(field_name)
    if value is None:
        raise CredentialUnavailable(f"The secret at {place} has no field {field_name!r}.")
    if not isinstance(value, str):
        raise CredentialUnavailable(f"Field {field_name!r} of the secret at {place} is not a string.")
    key = value.rstrip("\r\n")
    if not key:
        raise CredentialUnavailable(f"Field {field_name!r} of the secret at {place} is empty.")
    if not all("!" <= character <= "~" for character in key):
        raise CredentialUnavailable(
            f"Field {field_name!r} of the secret at {place} holds a space, a line end or a character that is not "
            "printable ASCII, so it can't stand in a header."
        )
    return Secret(key)
