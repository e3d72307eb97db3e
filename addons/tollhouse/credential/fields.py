"""What a secret of the store holds, told by its shape: no provider is known here.

    field `api_key` (the configured one)             keys       a string, or a list of strings
    `access_key_id`, `secret_access_key`             aws        and `session_token`, for temporary ones
    `type` = `service_account`                       google     the file of a service account, as Google gives it

The fields of aws and google may be fields of the secret. They may also be an object, or its JSON as
text, in the configured field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tollhouse.credential.cloud.aws import prepare as prepare_signing
from tollhouse.credential.cloud.google import check as check_account
from tollhouse.credential.lease import CredentialUnavailable, RawSecret
from tollhouse.credential.secret import Secret
from tollhouse.providers import CredentialKind

MAX_KEYS: Final = 100
"""The most keys in one secret."""
_ACCESS_KEY: Final = ("access_key_id", "secret_access_key")
# What google-auth signs an assertion with: google/oauth2/service_account.py, `_REQUIRED_FIELDS` beside `token_uri`.
_SERVICE_ACCOUNT: Final = ("client_email", "private_key", "token_uri")


@dataclass(frozen=True, slots=True)
class Contents:
    """``secrets`` are in the order of the store, without repetition. Only of kind ``key`` there may
    be several. ``headers`` are as in `Lease`."""

    kind: CredentialKind
    secrets: tuple[Secret, ...]
    headers: tuple[tuple[str, str], ...] = ()


def contents(
    raw: RawSecret, field: str, place: str, account_headers: Mapping[str, str] | None = None
) -> Contents:
    """What the secret at ``place`` holds. ``field`` is the configured field. ``account_headers``
    gives the header for a field.

    Raises `CredentialUnavailable`, whose text names ``place`` and nothing of the secret.
    """
    fields: Mapping[str, object] = raw.data
    what = f"Field {field!r} of the secret at {place}"
    found = fields.get(field)
    if (inner := _object(found, what)) is not None:
        # All fields may stand in one: the embedded store keeps one value, and a file may be put in
        # as it is.
        fields, found = {**fields, field: None, **inner}, inner.get(field)
    headers = tuple((header, text) for header, text in _texts(fields, account_headers or {}))
    if found is not None:
        return Contents("key", _keys(found, what, place), headers)
    aws, google = (
        any(name in fields for name in _ACCESS_KEY),
        fields.get("type") == "service_account",
    )
    if aws and google:
        raise CredentialUnavailable(
            f"The secret at {place} holds an AWS access key and a Google service account; put each into its own."
        )
    if aws:
        return Contents("aws", (_aws(fields, place),), headers)
    if google:
        return Contents("google", (_google(inner or raw.data, place),), headers)
    raise CredentialUnavailable(f"The secret at {place} has no field {field!r}.")


def _texts(fields: Mapping[str, object], headers: Mapping[str, str]) -> list[tuple[str, str]]:
    found = [(header, fields.get(name)) for name, header in headers.items()]
    return [
        (header, text.strip()) for header, text in found if isinstance(text, str) and text.strip()
    ]


def _object(found: object, what: str) -> Mapping[str, object] | None:
    """``found`` if it is an object, also as JSON text."""
    if isinstance(found, str) and found.lstrip().startswith("{"):
        parsed = _json(found)
        if not isinstance(parsed, dict):
            raise CredentialUnavailable(f"{what} begins like a JSON object and is none.")
        return parsed
    return found if isinstance(found, dict) else None


def _aws(fields: Mapping[str, object], place: str) -> Secret:
    key = {
        name: _word(fields.get(name), f"Field {name!r} of the secret at {place}")
        for name in _ACCESS_KEY
    }
    if fields.get("session_token"):
        key["session_token"] = _word(
            fields["session_token"], f"Field 'session_token' of the secret at {place}"
        )
    prepare_signing()
    exposed = [key[name] for name in ("session_token", "secret_access_key") if name in key]
    return Secret(_compact(key), exposed)


def _google(account: Mapping[str, object], place: str) -> Secret:
    for name in _SERVICE_ACCOUNT:
        if not isinstance(account.get(name), str) or not account[name]:
            raise CredentialUnavailable(
                f"The service account at {place} has no {name!r}: put in the whole file that Google gives."
            )
    secret = Secret(_compact(account), ())
    check_account(secret, place)
    return secret


def _compact(value: Mapping[str, object]) -> str:
    """JSON with sorted keys: the same fields give the same text. So a secret that was only written
    again is not a new secret."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _keys(found: object, what: str, place: str) -> tuple[Secret, ...]:
    """The field is a string, which is one key, or a list of strings. A string that begins with
    ``[`` is such a list as JSON: some tools can write strings only."""
    if isinstance(found, str) and found.startswith("["):
        found = _json(found)
        if not isinstance(found, list):
            raise CredentialUnavailable(
                f'{what} begins like a list of keys and is none: write ["KEY", "KEY"].'
            )
    if isinstance(found, str):
        return (Secret(_word(found, what)),)
    if not isinstance(found, list):
        raise CredentialUnavailable(f"{what} is not a string, nor a list of strings.")
    if not 0 < len(found) <= MAX_KEYS:
        raise CredentialUnavailable(
            f"{what} is a list of {len(found)} keys; there may be 1 to {MAX_KEYS}."
        )
    if any(isinstance(value, dict) for value in found):
        raise CredentialUnavailable(
            f"{what} is a list of objects; a secret holds one AWS access key or one service account, or several keys."
        )
    each = [
        _word(value, f"Number {number} of the keys of {place}")
        for number, value in enumerate(found, 1)
    ]
    return tuple(Secret(key) for key in dict.fromkeys(each))


def _json(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _word(value: object, what: str) -> str:
    """A value that can stand in a header: printable ASCII without a space. A line end after it is taken off
    (``key=@file`` brings one)."""
    if not isinstance(value, str):
        raise CredentialUnavailable(f"{what} is not a string.")
    key = value.rstrip("\r\n")
    if not key:
        raise CredentialUnavailable(f"{what} is empty.")
    if not all("!" <= character <= "~" for character in key):
        raise CredentialUnavailable(
            f"{what} holds a space, a line end or a character that is not printable ASCII, so it can't stand in a header."
        )
    return key
