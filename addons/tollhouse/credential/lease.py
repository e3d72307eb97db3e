"""What a call is given: a key with the place and version it came from. And how a store of keys says no."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from tollhouse.credential.secret import Secret

MAX_KEYS: Final = 100
"""In one secret."""


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

    trouble: str
    """Why the login could not be kept alive, empty when all is well. Safe to show."""

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


def check_keys(raw: RawSecret, field_name: str, place: str) -> tuple[Secret, ...]:
    """The keys in field ``field_name`` of a secret, in their order, each once.

    The field is a string, which is one key, or a list of strings; a string that begins with ``[`` is such a list in
    JSON, for tools that write strings only. A line end after a key is taken off (``key=@file`` brings one). What is left
    must be printable ASCII without a space: it will stand in a header. Raises `CredentialUnavailable` naming ``place``,
    never what the field held.
    """
    found = raw.data.get(field_name)
    what = f"Field {field_name!r} of the secret at {place}"
    if found is None:
        raise CredentialUnavailable(f"The secret at {place} has no field {field_name!r}.")
    if isinstance(found, str) and found.startswith("["):
        found = _json_list(found)
        if found is None:
            raise CredentialUnavailable(f'{what} begins like a list of keys and is none: write ["KEY", "KEY"].')
    if isinstance(found, str):
        return (_key(found, what),)
    if not isinstance(found, list):
        raise CredentialUnavailable(f"{what} is not a string, nor a list of strings.")
    if not 0 < len(found) <= MAX_KEYS:
        raise CredentialUnavailable(f"{what} is a list of {len(found)} keys; there may be 1 to {MAX_KEYS}.")
    each = [_key(value, f"Number {number} of the keys of {place}") for number, value in enumerate(found, 1)]
    return tuple(dict.fromkeys(each))


def _json_list(text: str) -> list[object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _key(value: object, what: str) -> Secret:
    if not isinstance(value, str):
        raise CredentialUnavailable(f"{what} is not a string.")
    key = value.rstrip("\r\n")
    if not key:
        raise CredentialUnavailable(f"{what} is empty.")
    if not all("!" <= character <= "~" for character in key):
        raise CredentialUnavailable(
            f"{what} holds a space, a line end or a character that is not printable ASCII, so it can't stand in a header."
        )
    return Secret(key)
