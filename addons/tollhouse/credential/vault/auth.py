"""The ways to log in to Vault: what each needs and sends, and its message when Vault refuses it.
Everything here blocks."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from tollhouse import files
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.vault.connection import VaultClient
from tollhouse.credential.vault.replies import VaultReply

_log = logging.getLogger("tollhouse.credential")

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where Kubernetes puts a pod's token."""

# Seconds before a refused credential is tried again, by the number of refusals in a row. After 5
# refused logins within 15 minutes Vault and OpenBao lock a role out, for every gateway and even for
# good secret_ids (https://openbao.org/docs/concepts/user-lockout/). So the second try waits, and
# the third waits for an hour.
_ROLE_WAITS_S: Final = (30.0, 3600.0)
# The same while the role is locked out. That ends by itself, and a good secret_id does not prolong
# it.
_LOCKED_WAITS_S: Final = (30.0, 60.0, 120.0, 300.0)
# The same for JWT and Kubernetes. These methods lock nobody out, and a refusal may be an outage of
# the issuer.
_JWT_WAITS_S: Final = (2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What a wrapping token gave. ``wrapping`` is that token's digest."""

    wrapping: str
    secret_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppRole:
    """Login with a role_id and a secret_id. Each is read from its file at every login, so a new one
    can be put there.

    ``wrapped``: the file of the secret_id holds a response-wrapping token instead. It is unwrapped
    once, and then only this gateway knows the secret_id: ``unwrapped`` is what another of its
    processes has unwrapped.
    """

    role_id_file: Path
    secret_id_file: Path
    mount: str = "approle"
    wrapped: bool = False
    unwrapped: Unwrapped | None = None


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """Login with a token of an issuer that Vault trusts. It is read from its file at every login,
    because such tokens live for a short time.

    ``kubernetes``: the token is a service account's, and Vault asks the cluster about it.
    """

    method: Literal["jwt", "kubernetes"]
    role: str
    jwt_file: Path
    mount: str


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file that somebody else writes (an agent, an operator). It is read again when
    the file changes."""

    token_file: Path


Auth = AppRole | JwtLogin | TokenFile


@dataclass(frozen=True, slots=True)
class Granted:
    """A login. ``life_s`` is 0 if the token does not end, or if its end is not known."""

    client: Any
    life_s: float
    renewable: bool
    source: object = None
    """The state of a token file when it was read."""


class SignIn(Protocol):
    """One way to log in. ``ours``: the gateway has made the token and may revoke it."""

    ours: bool

    def __call__(self, now: float) -> Granted:
        """A new login, in a new client. Raises `CredentialUnavailable`."""

    def changed(self, source: object) -> bool:
        """Whether the file holds another token now than at ``source``."""

    @property
    def unwrapped(self) -> Unwrapped | None:
        """What only one process can have, and another one needs."""


def sign_in(auth: Auth, server: VaultClient, jitter: Callable[[], float]) -> SignIn:
    if isinstance(auth, TokenFile):
        return _ByToken(auth, server)
    if isinstance(auth, JwtLogin):
        return _ByJwt(auth, server, _Refusals(jitter))
    return _ByRole(auth, server, _Refusals(jitter))


class _Refusals:
    """Credentials that Vault has refused. They are not sent again before a time that grows with
    each refusal."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._of = ""
        self._count = 0
        self._until = 0.0
        self._error: Callable[[], CredentialUnavailable]

    def raise_if_known(self, credentials: str, now: float) -> None:
        if credentials == self._of and now < self._until:
            raise self._error()

    def add(
        self,
        credentials: str,
        now: float,
        waits_s: tuple[float, ...],
        error: Callable[[], CredentialUnavailable],
    ) -> CredentialUnavailable:
        """``error`` makes a new exception each time: an exception that is raised twice would keep
        the frames of both times."""
        self._count = self._count + 1 if credentials == self._of else 1
        self._of, self._error = credentials, error
        wait_s = waits_s[min(self._count, len(waits_s)) - 1]
        self._until = now + wait_s * (1 + 0.2 * self._jitter())
        return error()

    def clear(self) -> None:
        self._of, self._count = "", 0


class _ByRole:
    ours = True

    def __init__(self, auth: AppRole, server: VaultClient, refusals: _Refusals) -> None:
        self._auth = auth
        self._server = server
        self._refusals = refusals
        self._wrapping = ""
        """Digest of the wrapping token that gave one of the next two values."""
        self._secret_id = self._alarm = ""
        if auth.unwrapped is not None:
            self._wrapping, self._secret_id = auth.unwrapped.wrapping, auth.unwrapped.secret_id

    @property
    def unwrapped(self) -> Unwrapped | None:
        return Unwrapped(self._wrapping, self._secret_id) if self._secret_id else None

    def changed(self, source: object) -> bool:
        return False

    def __call__(self, now: float) -> Granted:
        auth = self._auth
        role_id = read_line(auth.role_id_file, "role_id")
        kept = read_line(auth.secret_id_file, "wrapping token" if auth.wrapped else "secret_id")
        credentials = _digest(f"{role_id}\n{kept}")
        self._refusals.raise_if_known(credentials, now)
        secret_id = self._unwrap(kept) if auth.wrapped else kept
        client = self._server.open("")
        answer = self._server.send(
            lambda: client.auth.approle.login(
                role_id, secret_id, use_token=False, mount_point=auth.mount
            )
        )
        answer.raise_if_away(self._server.address)
        granted = _granted(client, answer)
        if granted is None:
            why = self._why(answer.status)
            if answer.status == 403:
                # Anybody who knows the role_id can lock the role out. So a value that was read
                # before serves on.
                raise self._refusals.add(credentials, now, _LOCKED_WAITS_S, lambda: StoreAway(why))
            raise self._refusals.add(
                credentials, now, _ROLE_WAITS_S, lambda: CredentialUnavailable(why)
            )
        self._refusals.clear()
        return granted

    def _unwrap(self, token: str) -> str:
        """The secret_id behind ``token``. A token is unwrapped once.

        Raises `CredentialUnavailable`, and `StoreAway` if no answer came. The token may have been
        unwrapped then; the next try shows it.
        """
        if self._wrapping != _digest(token):
            client = self._server.open(token)
            try:
                secret_id, alarm = self._ask(client, token)
            finally:
                client.adapter.close()
            if alarm:
                _log.critical("%s", alarm)
            self._wrapping, self._secret_id, self._alarm = _digest(token), secret_id, alarm
        if self._alarm:
            raise CredentialUnavailable(self._alarm)
        return self._secret_id

    def _ask(self, client: Any, token: str) -> tuple[str, str]:
        """The secret_id and "", or "" and why somebody else may have unwrapped it
        (https://openbao.org/docs/concepts/response-wrapping/#response-wrapping-token-validation)."""
        file, mount, address = self._auth.secret_id_file, self._auth.mount, self._server.address
        todo = "Find out, revoke the secret_id, and put a new wrapping token into the file."
        lookup = "/v1/sys/wrapping/lookup"
        looked = self._server.send(
            lambda: client.adapter.post(lookup, json={"token": token}), tries=2
        )
        looked.raise_if_away(address)
        made_by = str(looked.field("creation_path"))
        if looked.status == 200 and not re.fullmatch(
            rf"auth/{re.escape(mount)}/role/[^/]+/(custom-)?secret-id", made_by
        ):
            return "", (
                f"The wrapping token in {file} was not made by auth/{mount}/role/ROLE/secret-id: somebody may have "
                f"unwrapped the right one and put another in its place (possible interception). {todo}"
            )
        answer = self._server.send(client.sys.unwrap)
        answer.raise_if_away(address)
        secret_id = answer.field("secret_id")
        if isinstance(secret_id, str) and secret_id:
            return secret_id, ""
        return "", (
            f"Vault does not unwrap the token in {file} ({answer.status}): its time is over, or it was unwrapped before, by "
            f"the gateway before a restart or by somebody else, who then has the secret_id (possible interception). {todo}"
        )

    def _why(self, status: int) -> str:
        auth = self._auth
        what = "the secret_id that was unwrapped from" if auth.wrapped else "the secret_id in"
        new = "wrapping token" if auth.wrapped else "secret_id"
        if status == 403:
            return (
                f"Vault refuses the AppRole login with 403: no AppRole at auth/{auth.mount}, or the role is locked out "
                "after several wrong logins (15 minutes). It is tried again."
            )
        return (
            f"Vault refuses the AppRole login with {status}: {what} {auth.secret_id_file} is used up, expired or wrong, or "
            f"the role_id in {auth.role_id_file} is. Put a new {new} into the file; it is tried at the next read."
        )


class _ByJwt:
    ours = True

    def __init__(self, auth: JwtLogin, server: VaultClient, refusals: _Refusals) -> None:
        self._auth = auth
        self._server = server
        self._refusals = refusals

    @property
    def unwrapped(self) -> Unwrapped | None:
        return None

    def changed(self, source: object) -> bool:
        return False

    def __call__(self, now: float) -> Granted:
        auth = self._auth
        jwt = read_line(auth.jwt_file, f"{auth.method} token")
        credentials = _digest(jwt)
        self._refusals.raise_if_known(credentials, now)
        client = self._server.open("")
        if auth.method == "jwt":
            answer = self._server.send(
                lambda: client.auth.jwt.jwt_login(auth.role, jwt, use_token=False, path=auth.mount)
            )
        else:
            answer = self._server.send(
                lambda: client.auth.kubernetes.login(
                    auth.role, jwt, use_token=False, mount_point=auth.mount
                )
            )
        answer.raise_if_away(self._server.address)
        granted = _granted(client, answer)
        if granted is None:
            why = self._why(answer.status)
            # An outage of the issuer's key server looks like a 400 of jwt, and an outage of the
            # cluster's API like a 403 of kubernetes. So a value that was read before may serve on.
            raise self._refusals.add(credentials, now, _JWT_WAITS_S, lambda: StoreAway(why))
        self._refusals.clear()
        return granted

    def _why(self, status: int) -> str:
        auth = self._auth
        whose = "issuer's keys" if auth.method == "jwt" else "cluster to review it"
        return (
            f"Vault refuses the {auth.method} login at auth/{auth.mount} with {status}: the token in {auth.jwt_file} is not "
            f"one that the role {auth.role} takes (audience, subject, issuer, its end), there is no such role or mount, or "
            f"Vault can't reach the {whose} just now. It is tried again."
        )


class _ByToken:
    ours = False

    def __init__(self, auth: TokenFile, server: VaultClient) -> None:
        self._auth = auth
        self._server = server

    @property
    def unwrapped(self) -> Unwrapped | None:
        return None

    def changed(self, source: object) -> bool:
        return source != self._source()

    def __call__(self, now: float) -> Granted:
        source = self._source()
        client = self._server.open(read_line(self._auth.token_file, "token"))
        asked = self._server.send(client.auth.token.lookup_self, tries=2)
        asked.raise_if_away(self._server.address)
        # A 403 says little: a token without the default policy may not look itself up, and a dead
        # one may not either. The next read shows which it is.
        life_s, renewable = asked.token_life()
        return Granted(client, life_s, renewable, source)

    def _source(self) -> object:
        """A value that changes when the file's content changes."""
        try:
            found = self._auth.token_file.stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def _granted(client: Any, answer: VaultReply) -> Granted | None:
    """The login of an answer. None for a refusal; the client is closed then."""
    token, life_s, renewable = answer.login()
    if not token:
        client.adapter.close()
        return None
    client.token = token
    return Granted(client, life_s, renewable)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_line(path: Path, what: str) -> str:
    """A file's only line. Raises `CredentialUnavailable`, whose text names the file. Without this
    check the exception of a header would show the token."""
    try:
        text = files.read(path).decode("ascii", "replace").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        if text and all("!" <= character <= "~" for character in text):
            return text
        reason = "it is empty" if not text else "it is not one line of printable ASCII"
    raise CredentialUnavailable(f"The {what} file {path} can't be used: {reason}.")
