"""The meaning of an answer of Vault. It is judged by status and shape: the server's words are never
parsed and never shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from tollhouse.credential.lease import CredentialUnavailable, Malformed, RawSecret, StoreAway

if TYPE_CHECKING:
    import requests

# https://openbao.org/api-docs/#http-status-codes and Vault's: 412 eventual consistency, 429 quota, 472/473 standby, 501
# not initialised, 503 sealed.
_AWAY = frozenset({408, 412, 425, 429, 472, 473})
KV1: Final = "kv1"
"""Stands in place of a secret's version with KV version 1, which keeps no versions."""


@dataclass(frozen=True, slots=True)
class VaultReply:
    """A status, and the body if it was a JSON object."""

    status: int
    body: dict[str, Any] | None = field(repr=False)

    @classmethod
    def of(cls, response: requests.Response) -> VaultReply:
        try:
            body = response.json()
        except ValueError:
            body = None
        return cls(response.status_code, body if isinstance(body, dict) else None)

    @property
    def denied(self) -> bool:
        """Whether it is Vault's own 403. The 403 of a load balancer has no JSON."""
        return self.status == 403 and self.body is not None

    def raise_if_away(self, address: str) -> None:
        """Raises `StoreAway` if this is no answer to the question: Vault can't answer now, or
        something else than Vault has answered."""
        where = shown(address)
        if 300 <= self.status < 400:
            raise StoreAway(
                f"Vault at {where} answers with a redirect ({self.status}). It is not followed: the token would go too."
            )
        if self.status == 503 and self.body is not None:
            raise StoreAway(f"Vault at {where} is sealed or not ready (503).")
        if self.status == 429:
            raise StoreAway(f"Vault at {where} limits the rate of requests (429).")
        if self.status >= 500 or self.status in _AWAY:
            raise StoreAway(f"Vault at {where} has trouble of its own ({self.status}).")
        if self.body is None and self.status != 204:
            hint = (
                " Does the address lack https?"
                if self.status == 400 and address.startswith("http://")
                else ""
            )
            raise StoreAway(
                f"What answers at {where} ({self.status}) is not Vault: no JSON object.{hint}"
            )

    def secret(
        self, mount: str, path: str, kv_version: Literal[1, 2] = 2, ended: str = ""
    ) -> RawSecret | None:
        """The secret of a KV read. None if it is missing, deleted or destroyed. ``ended`` says what
        else a 403 may mean; it is the beginning of a sentence. It is called after
        `raise_if_away`."""
        place = f"{mount}/{path}"
        body = self.body or {}
        if self.status == 200:
            found = _kv1(body) if kv_version == 1 else _kv2(body)
            if found is None:
                raise Malformed(
                    f"Vault's answer for {place} is not a secret of KV version {kv_version}. Look at vault.kv_version."
                )
            return found
        if self.status == 404:
            # For a missing secret Vault has no words, and for a deleted version it gives metadata.
            # Errors or warnings in words mean that there is no such mount or namespace, or that the
            # mount is of another kind.
            if body.get("errors") or body.get("warnings"):
                raise CredentialUnavailable(
                    f"Vault has no KV version {kv_version} secrets engine at {mount!r}, or not the namespace. "
                    "Look at vault.mount, vault.kv_version and vault.namespace."
                )
            return None
        if self.status == 403:
            api_path = place if kv_version == 1 else f"{mount}/data/{path}"
            line = f'path "{api_path}" {{ capabilities = ["read"] }}'
            todo = f"{ended}its policy needs: {line}." if ended else f"Its policy needs: {line}."
            raise CredentialUnavailable(
                f"Vault refuses to let the gateway read {place} (403). {todo}"
            )
        if self.status == 400:
            # A standby says so for some seconds: "Waiting for the primary to upgrade from
            # non-versioned to versioned data".
            raise StoreAway(f"Vault can't read {place} just now (400).")
        raise CredentialUnavailable(f"Vault refuses the read of {place} ({self.status}).")

    def field(self, name: str) -> object:
        """``name`` in the ``data`` of a 200, or None."""
        data = self.body.get("data") if self.status == 200 and self.body else None
        return data.get(name) if isinstance(data, dict) else None

    def login(self) -> tuple[str, float, bool]:
        """The token, its life in seconds (0: without end), and whether it is renewable. ``("", 0,
        False)`` for a refusal."""
        auth = self.body.get("auth") if self.status == 200 and self.body else None
        if not isinstance(auth, dict):
            return "", 0.0, False
        token, life = auth.get("client_token"), auth.get("lease_duration")
        if not isinstance(token, str) or not isinstance(life, int | float):
            return "", 0.0, False
        return token, float(life), auth.get("renewable") is True

    def token_life(self) -> tuple[float, bool]:
        """From the look-up of a token: the seconds left (0: without end, or not known), and whether
        it is renewable."""
        data = self.body.get("data") if self.status == 200 and self.body else None
        if not isinstance(data, dict) or not isinstance(data.get("ttl"), int | float):
            return 0.0, False
        return float(data["ttl"]), data.get("renewable") is True


def _kv1(body: dict[str, Any]) -> RawSecret | None:
    data = body.get("data")
    # An answer of this form comes from KV version 2 under its API path.
    if not isinstance(data, dict) or (
        isinstance(data.get("data"), dict) and isinstance(data.get("metadata"), dict)
    ):
        return None
    return RawSecret(data, KV1)


def _kv2(body: dict[str, Any]) -> RawSecret | None:
    outer = body.get("data")
    data, metadata = (
        (outer.get("data"), outer.get("metadata")) if isinstance(outer, dict) else (None, None)
    )
    if (
        not isinstance(data, dict)
        or not isinstance(metadata, dict)
        or not isinstance(metadata.get("version"), int)
    ):
        return None
    # Times whose fractions differ in length sort as text only without the Z.
    return RawSecret(
        data, str(metadata["version"]), str(metadata.get("created_time", "")).removesuffix("Z")
    )


def shown(address: str) -> str:
    """Host and port of ``address``."""
    return urlsplit(address).netloc.rpartition("@")[2]


def translate(error: Exception, address: str) -> tuple[CredentialUnavailable, bool]:
    """The exception to raise in place of one of hvac or requests, and whether a connection was
    lost.

    The text of the exception is not used: a ConnectionError holds the request with its token, and
    the text of an InvalidHeader holds the token itself.
    """
    import requests

    where = shown(address)
    if isinstance(error, requests.exceptions.ProxyError):
        return StoreAway(
            f"The proxy on the way to Vault at {where} opens no tunnel. Look at vault.proxy."
        ), False
    if isinstance(error, requests.exceptions.SSLError):
        return StoreAway(
            f"TLS with Vault at {where} fails: its certificate can't be verified. Look at vault.ca_file."
        ), False
    if isinstance(error, requests.exceptions.Timeout):
        return StoreAway(f"Vault at {where} does not answer in time."), False
    if isinstance(error, requests.exceptions.ConnectionError):
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        kind = type(reason).__name__
        if kind == "NameResolutionError":
            return StoreAway(f"The name of Vault at {where} can't be resolved."), False
        if kind == "NewConnectionError":
            return StoreAway(f"Vault at {where} takes no connection."), False
        return StoreAway(f"The connection to Vault at {where} was lost."), True
    if isinstance(error, ValueError):
        return CredentialUnavailable(
            f"No request can be made for Vault at {where} ({type(error).__name__})."
        ), False
    if isinstance(error, requests.exceptions.RequestException):
        return StoreAway(f"The connection to Vault at {where} was lost."), True
    if isinstance(error, OSError):
        return StoreAway(
            f"A file on the way to Vault at {where} can't be read. Look at vault.ca_file and vault.proxy."
        ), False
    return CredentialUnavailable(f"Asking Vault at {where} failed ({type(error).__name__})."), False
