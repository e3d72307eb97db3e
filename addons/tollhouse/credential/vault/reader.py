"""HashiCorp Vault or OpenBao: reads of KV version 1 and 2, the login kept alive. Everything here blocks."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tollhouse.credential.lease import CredentialUnavailable, RawSecret, StoreAway
from tollhouse.credential.paths import path_problem
from tollhouse.credential.vault.auth import (
    AppRole,
    Auth,
    Granted,
    JwtLogin,
    TokenFile,
    Unwrapped,
    sign_in,
)
from tollhouse.credential.vault.connection import VaultClient, VaultProxy
from tollhouse.credential.vault.replies import VaultReply

__all__ = ["AppRole", "Auth", "JwtLogin", "TokenFile", "VaultReader"]

_log = logging.getLogger("tollhouse.credential")

# After a 403 with a token younger than this, Vault is asked about the token before a new login is
# made. Without that question a policy that forbids a path would lead to one login after the other.
_YOUNG_TOKEN_S: Final = 30.0
# For so long an older version is taken for the answer of a standby that lags behind. The next read
# may reach another server.
_BEHIND_S: Final = 60.0
_MANY: Final = 10_000


@dataclass(slots=True)
class _Newest:
    """The latest version of a path that was seen, and the time since which only older ones are
    seen."""

    number: int
    created: str
    behind_since: float | None = None


@dataclass(slots=True)
class _VaultLogin:
    """One token. Times are of the clock. ``granted.life_s`` is the life that was granted at
    first."""

    granted: Granted
    made_at: float
    ends_at: float = 0.0
    renew_at: float = 0.0


class VaultReader:
    """A `Reader` of the KV secrets engine of ``kv_version`` at ``mount``.

    ``address`` is ``http(s)://host:port``; see `VaultClient` for ``namespace``, ``ca_file``, ``timeout_s`` and ``proxy``.
    ``versions`` pins paths of KV version 2 to a version. Of all other paths the latest version is
    read. Raises `ValueError` for a text that is no address, mount or namespace, and for pins with
    KV version 1, which keeps no versions.

    ``clock`` is monotonic seconds, ``jitter`` gives 0 to 1.
    """

    def __init__(
        self,
        address: str,
        auth: Auth,
        *,
        mount: str = "secret",
        kv_version: Literal[1, 2] = 2,
        versions: Mapping[str, int] | None = None,
        namespace: str | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 3.0,
        proxy: VaultProxy | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        names = [
            mount,
            *([] if isinstance(auth, TokenFile) else [auth.mount]),
            *([namespace] if namespace else []),
        ]
        for name in names:
            if problem := path_problem(name.strip("/")):
                raise ValueError(problem)
        if versions and kv_version == 1:
            raise ValueError("KV version 1 keeps no versions that a path could be pinned to")
        self.mount = mount.strip("/")
        self._kv_version = kv_version
        self._versions = dict(versions or {})
        self._auth = auth
        self._server = VaultClient(address, namespace, ca_file, timeout_s, proxy)
        self._sign_in_by = sign_in(auth, self._server, jitter)
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        """Held while the login is changed. A read that has a login does not take the lock."""
        self._login: _VaultLogin | None = None
        self._newest: dict[str, _Newest] = {}
        self.trouble = self.notice = ""

    def connect(self) -> None:
        self._current()

    def read(self, path: str) -> RawSecret | None:
        if problem := path_problem(path):
            raise CredentialUnavailable(problem + ".")
        login = self._current()
        answer = self._get(login, path)
        if answer.denied:
            other = self._after_denial(login)
            if other is not None:
                answer = self._get(other, path)
        answer.raise_if_away(self._server.address)
        found = answer.secret(
            self.mount, path, self._kv_version, self._ended() if answer.denied else ""
        )
        if found is not None and self._kv_version == 2 and path not in self._versions:
            self._raise_if_behind(path, found)
        return found

    def identity_token(self, role: str) -> str:
        """A new token of ``role``, which Vault signs for the entity that has logged in (``identity/oidc``). Raises
        `CredentialUnavailable`."""
        if path_problem(role) or "/" in role:
            raise CredentialUnavailable("The role's name is none.")
        answer, _ = self.asked(
            lambda client: client.secrets.identity.generate_signed_id_token(role)
        )
        token = answer.field("token")
        if isinstance(token, str) and token:
            return token
        if answer.status == 400:
            why = (
                "there is no such role, its key does not list the role's client_id in allowed_client_ids, or the login has no "
                "entity (a root token has none, an AppRole, Kubernetes or JWT login has one)"
            )
        elif answer.status == 403:
            why = f'there is no such role, or our policy lacks: path "identity/oidc/token/{role}" {{ capabilities = ["read"] }}'
        else:
            why = "there is no such role"
        raise CredentialUnavailable(
            f"Vault signs no token for the role {role} ({answer.status}): {why}."
        )

    def asked(self, ask: Callable[[Any], Any]) -> tuple[VaultReply, object]:
        """The answer to ``ask``, which is given hvac's client, and the login that it had. Raises `CredentialUnavailable`."""
        login = self._current()
        answer = self._asked_by(login, ask)
        if answer.denied and (other := self._after_denial(login)) is not None:
            login = other
            answer = self._asked_by(login, ask)
        answer.raise_if_away(self._server.address)
        return answer, login

    def _asked_by(self, login: _VaultLogin, ask: Callable[[Any], Any]) -> VaultReply:
        client = login.granted.client
        return self._server.send(lambda: ask(client), tries=2)

    @property
    def login(self) -> object:
        """The login that is in use. None before the first one."""
        return self._login

    def tend(self) -> float | None:
        """Renews the token or logs in anew before two thirds of the token's life are over. If that
        fails, the token stays in use: it works until its end."""
        login = self._login
        if login is None or not login.granted.life_s:
            return None
        if self._clock() >= login.renew_at:
            with self._lock:
                if self._login is login:
                    self._prolong(login)
            login = self._login
            if login is None or not login.granted.life_s:
                return None
        return max(0.0, login.renew_at - self._clock())

    def left_s(self) -> float | None:
        login = self._login
        if login is None or not login.granted.life_s:
            return None
        return max(0.0, login.ends_at - self._clock())

    def close(self) -> None:
        """Revokes the token if a login of the gateway made it. A token from a file is not
        revoked."""
        with self._lock:
            login, self._login = self._login, None
        if login is None:
            return
        client = login.granted.client
        if self._sign_in_by.ours:
            try:
                self._server.send(client.auth.token.revoke_self)
            except CredentialUnavailable as error:
                _log.info("the Vault token was not given back: %s", error.why)
        client.adapter.close()

    def _ended(self) -> str:
        """For the message about a refused token: that it may have ended. Empty if Vault still knows
        it."""
        login = self._login
        if login is None or not isinstance(self._auth, TokenFile):
            return ""
        try:
            known = (
                self._server.send(login.granted.client.auth.token.lookup_self, tries=2).status
                == 200
            )
        except CredentialUnavailable:
            known = False
        if known:
            return ""
        return f"The token in {self._auth.token_file} has ended or was revoked: put a new one there. If it is alive, "

    def _raise_if_behind(self, path: str, found: RawSecret) -> None:
        """Raises `StoreAway` for a version that is lower than the last one and was made before it:
        it comes from a standby that lags behind. If no other version comes for `_BEHIND_S`, a
        backup was restored, and the version is taken. A secret that was deleted and made anew has a
        lower version too, but was made later."""
        number, now = int(found.version), self._clock()
        newest = self._newest.get(path)
        if newest is None or number >= newest.number or found.created > newest.created:
            if newest is None and len(self._newest) >= _MANY:
                self._newest.clear()
            self._newest[path] = _Newest(number, found.created)
            return
        if newest.behind_since is None:
            newest.behind_since = now
        if now - newest.behind_since < _BEHIND_S:
            raise StoreAway(
                f"Vault answers with version {number} of {self.mount}/{path}, which is older than version {newest.number} "
                "that it had before: a standby that lags behind, or a restored backup."
            )
        self._newest[path] = _Newest(number, found.created)

    def _get(self, login: _VaultLogin, path: str) -> VaultReply:
        kv, mount = login.granted.client.secrets.kv, self.mount
        if self._kv_version == 1:
            return self._server.send(lambda: kv.v1.read_secret(path, mount_point=mount), tries=2)
        version = self._versions.get(path)
        return self._server.send(
            lambda: kv.v2.read_secret_version(
                path, version, mount_point=mount, raise_on_deleted_version=True
            ),
            tries=2,
        )

    # Login

    def _current(self) -> _VaultLogin:
        login = self._login
        if login is not None and not self._sign_in_by.changed(login.granted.source):
            return login
        with self._lock:
            if self._login is not login:
                assert self._login is not None
                return self._login
            try:
                return self._sign_in()
            except CredentialUnavailable as error:
                if login is None:
                    raise
                # The token file is being replaced, or its new content is no token. The old token
                # serves while it can.
                self.trouble = error.why
                return login

    def _after_denial(self, denied: _VaultLogin) -> _VaultLogin | None:
        """The login for a second try after a 403. A 403 may mean that the token has ended, or that
        a policy forbids the path. None: there is no other login, and the 403 holds."""
        with self._lock:
            if self._login is not None and self._login is not denied:
                return self._login
            if self._clock() - denied.made_at < _YOUNG_TOKEN_S:
                asked = self._server.send(denied.granted.client.auth.token.lookup_self, tries=2)
                if asked.status == 200:
                    return None
            if not self._sign_in_by.ours and not self._sign_in_by.changed(denied.granted.source):
                return None
            return self._sign_in()

    @property
    def unwrapped(self) -> Unwrapped | None:
        """What another process needs to log in with a wrapping token that was unwrapped here."""
        return self._sign_in_by.unwrapped

    def _sign_in(self) -> _VaultLogin:
        """A new login in a new client. The lock is held. Reads under way keep the old token, so it
        is not revoked."""
        now = self._clock()
        try:
            login = _VaultLogin(self._sign_in_by(now), now)
        except CredentialUnavailable as error:
            self.trouble = error.why
            raise
        self._set_renewal(login, now, login.granted.life_s)
        self._login = login
        self.trouble = self.notice = ""
        if (
            isinstance(self._auth, TokenFile)
            and login.granted.life_s
            and not login.granted.renewable
        ):
            self.notice = (
                f"The token in {self._auth.token_file} can't be renewed and ends in {_duration(login.granted.life_s)}. Put "
                "a new one there before, each time, or have the gateway log in by itself (approle, kubernetes or jwt in "
                "vault.auth)."
            )
        return login

    def _prolong(self, login: _VaultLogin) -> None:
        now = self._clock()
        granted = login.granted
        login.renew_at = now + max(1.0, min(30.0, (login.ends_at - now) / 4))
        try:
            if granted.renewable:
                renewed = self._server.send(granted.client.auth.token.renew_self)
                # Beyond the role's max TTL the answer is a 500, and a further try does not help.
                # The granted life shrinks as that moment comes near. In both cases only a new login
                # helps.
                _, life_s, _ = renewed.login()
                if life_s:
                    self._set_renewal(login, now, life_s)
                    if life_s >= granted.life_s / 2:
                        self.trouble = ""
                        return
            if isinstance(self._auth, TokenFile):
                left = _duration(login.ends_at - now)
                self.trouble = (
                    f"Vault renews the token in {self._auth.token_file} no more: it ends in {left}. Put a new one there, or "
                    "keys serve on for vault.stale_for_s and then calls are refused."
                )
            else:
                self._sign_in()
                return
        except StoreAway as error:
            self.trouble = f"The Vault token could not be renewed. {error.why}"
        except CredentialUnavailable as error:
            self.trouble = f"The Vault token can't be renewed any more. {error.why}"
        _log.warning("%s", self.trouble)

    def _set_renewal(self, login: _VaultLogin, now: float, life_s: float) -> None:
        login.ends_at = now + life_s
        login.renew_at = now + max(0.5, life_s * (2 / 3 - 0.1 * self._jitter()))


def _duration(seconds: float) -> str:
    """A duration as a person says it. A token's end is known to the second."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
