"""HashiCorp Vault or OpenBao: reads of KV version 1 and 2, the login kept alive. Everything here blocks."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tollhouse.credential.answer import Answer
from tollhouse.credential.lease import CredentialUnavailable, RawSecret, StoreAway
from tollhouse.credential.paths import path_problem
from tollhouse.credential.vault_auth import AppRole, Auth, Granted, JwtLogin, TokenFile, sign_in
from tollhouse.credential.vault_client import VaultClient

__all__ = ["AppRole", "Auth", "JwtLogin", "TokenFile", "VaultReader"]

_log = logging.getLogger("tollhouse.credential")

# A 403 with a token younger than this is asked about before a new login is made, so that a policy that forbids a path
# does not become a login loop.
_YOUNG_TOKEN_S: Final = 30.0


@dataclass(slots=True)
class _Login:
    """One token. Times are the clock's; ``granted.life_s`` is what was granted at first."""

    granted: Granted
    made_at: float
    ends_at: float = 0.0
    renew_at: float = 0.0


class VaultReader:
    """A `Reader` of the KV secrets engine of ``kv_version`` at ``mount``.

    ``address`` is ``http(s)://host:port``; see `VaultClient` for ``namespace``, ``ca_file`` and ``timeout_s``.
    ``versions`` pins paths of KV version 2 to a version; of all others the latest is read. Raises `ValueError` for an
    address, mount or namespace that is none, and for pins with KV version 1, which keeps no versions.

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
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        names = [mount, *([] if isinstance(auth, TokenFile) else [auth.mount]), *([namespace] if namespace else [])]
        for name in names:
            if problem := path_problem(name.strip("/")):
                raise ValueError(problem)
        if versions and kv_version == 1:
            raise ValueError("KV version 1 keeps no versions that a path could be pinned to")
        self.mount = mount.strip("/")
        self._kv_version = kv_version
        self._versions = dict(versions or {})
        self._auth = auth
        self._server = VaultClient(address, namespace, ca_file, timeout_s)
        self._sign_in_by = sign_in(auth, self._server, jitter)
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        """Held by whoever changes the login; a read that already has one does not take it."""
        self._login: _Login | None = None
        self.trouble = ""

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
        hint = f" Or the token in {self._auth.token_file} has ended." if isinstance(self._auth, TokenFile) else ""
        return answer.secret(self.mount, path, self._kv_version, hint)

    def tend(self) -> float | None:
        """Renews the token, or logs in anew, before two thirds of its life are over. A failure leaves the token in use:
        it works to its end."""
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

    def close(self) -> None:
        """Revokes a token that we logged in for; one from a file is not ours."""
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

    def _get(self, login: _Login, path: str) -> Answer:
        kv, mount = login.granted.client.secrets.kv, self.mount
        if self._kv_version == 1:
            return self._server.send(lambda: kv.v1.read_secret(path, mount_point=mount), tries=2)
        version = self._versions.get(path)
        return self._server.send(
            lambda: kv.v2.read_secret_version(path, version, mount_point=mount, raise_on_deleted_version=True), tries=2
        )

    # Login

    def _current(self) -> _Login:
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
                # The token file is being replaced, or what was put there is no token: the old one serves while it can.
                self.trouble = error.why
                return login

    def _after_denial(self, denied: _Login) -> _Login | None:
        """The login to ask with again after a 403, which may mean an ended token or a policy; None: believe it."""
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

    def _sign_in(self) -> _Login:
        """A new login in a new client; the lock is held. Reads under way keep the old token, which is not revoked."""
        now = self._clock()
        login = _Login(self._sign_in_by(now), now)
        self._set_renewal(login, now, login.granted.life_s)
        self._login = login
        self.trouble = ""
        return login

    def _prolong(self, login: _Login) -> None:
        now = self._clock()
        granted = login.granted
        login.renew_at = now + max(1.0, min(30.0, (login.ends_at - now) / 4))
        try:
            if granted.renewable:
                renewed = self._server.send(granted.client.auth.token.renew_self)
                # Past the role's max TTL that is a 500, which no other try mends. What is granted shrinks as it nears:
                # then, too, only a new login helps.
                _, life_s, _ = renewed.login()
                if life_s:
                    self._set_renewal(login, now, life_s)
                    if life_s >= granted.life_s / 2 or not self._sign_in_by.ours:
                        self.trouble = ""
                        return
            if isinstance(self._auth, TokenFile):
                self.trouble = f"Vault does not renew the token in {self._auth.token_file}; put a new one there."
            else:
                self._sign_in()
                return
        except StoreAway as error:
            self.trouble = f"The Vault token could not be renewed. {error.why}"
        except CredentialUnavailable as error:
            self.trouble = f"The Vault token can't be renewed any more. {error.why}"
        _log.warning("%s", self.trouble)

    def _set_renewal(self, login: _Login, now: float, life_s: float) -> None:
        login.ends_at = now + life_s
        login.renew_at = now + max(0.5, life_s * (2 / 3 - 0.1 * self._jitter()))
