"""HashiCorp Vault or OpenBao through hvac: login, its renewal, and reads of KV version 2. Everything here blocks.

hvac is used for its routes and its client, not for its JSON adapter and exceptions (no status code, no headers,
TypeError on odd JSON): `RawAdapter` gives every answer as it is and `Answer` judges it. Nothing that `requests` or hvac
raises leaves this file, since their exceptions hold the token's header and the login's body.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tollhouse.credential.answer import Answer, translate
from tollhouse.credential.lease import CredentialUnavailable, RawSecret, StoreAway
from tollhouse.credential.paths import path_problem

if TYPE_CHECKING:
    import requests

_log = logging.getLogger("tollhouse.credential")

# Vault and OpenBao lock a role out for every instance after 5 refused logins within 15 minutes, good secret_ids too
# (https://openbao.org/docs/concepts/user-lockout/): the second try waits, the third waits for an hour.
_AFTER_FIRST_REFUSAL_S: Final = 30.0
_AFTER_SECOND_REFUSAL_S: Final = 3600.0
# A 403 with a token younger than this is asked about before a new login is made, so that a policy that forbids a path
# does not become a login loop.
_YOUNG_TOKEN_S: Final = 30.0
CONNECTIONS: Final = 8
"""As many connections are kept as reads may run at once (`workers`)."""


@dataclass(frozen=True, slots=True)
class AppRole:
    """Login with a role_id and a secret_id, each read from its file at every login: a new one can be put there."""

    role_id_file: Path
    secret_id_file: Path
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody else puts into a file (an agent, an operator); read again when the file changes."""

    token_file: Path


Auth = AppRole | TokenFile


@dataclass(slots=True)
class _Login:
    """One token. Times are the clock's; ``life_s`` 0 means that it does not end, or that its end is not known."""

    client: Any = field(repr=False)
    made_at: float
    life_s: float
    """What was granted at first."""
    renewable: bool
    ends_at: float = 0.0
    renew_at: float = 0.0
    source: object = None
    """What a token file looked like when it was read."""


class VaultReader:
    """A `Reader` of KV version 2 at ``mount``.

    ``address`` is ``http(s)://host:port``; ``ca_file`` (PEM) replaces the public roots; ``timeout_s`` is for each wait
    on the socket. No proxy or CA variable, ``~/.netrc`` or ``~/.vault-token`` of the environment is looked at, and
    redirects are not followed: each of them would carry the token elsewhere. Raises `ValueError` for an address, mount
    or namespace that can't be one.
    """

    def __init__(
        self,
        address: str,
        auth: Auth,
        *,
        mount: str = "secret",
        namespace: str | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("the address of Vault is http(s)://host:port, without a user or a query")
        names = [mount, *([auth.mount] if isinstance(auth, AppRole) else []), *([namespace] if namespace else [])]
        for name in names:
            if problem := path_problem(name.strip("/")):
                raise ValueError(problem)
        self._address = address
        self._auth = auth
        self.mount = mount.strip("/")
        self._namespace = namespace
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        """Held by whoever changes the login; a read that already has one does not take it."""
        self._login: _Login | None = None
        self._refused_credentials = ""
        self._refusals = 0
        self._refused_until = 0.0
        self._refusal = ""
        self.trouble = ""
        """Why the login could not be prolonged, empty when all is well. Safe to show."""
        # 0.3 to 0.6 s of import belong to the start, not to the first call.
        import hvac  # noqa: F401

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
        answer.raise_if_away(self._address)
        hint = f" Or the token in {self._auth.token_file} has ended." if isinstance(self._auth, TokenFile) else ""
        return answer.secret(self.mount, path, hint)

    def tend(self) -> float | None:
        """Renews the token, or logs in anew, before two thirds of its life are over. A failure leaves the token in use:
        it works to its end."""
        login = self._login
        if login is None or not login.life_s:
            return None
        if self._clock() >= login.renew_at:
            with self._lock:
                if self._login is login:
                    self._prolong(login)
            login = self._login
            if login is None or not login.life_s:
                return None
        return max(0.0, login.renew_at - self._clock())

    def close(self) -> None:
        """Revokes a token that we logged in for; one from a file is not ours."""
        with self._lock:
            login, self._login = self._login, None
        if login is None:
            return
        if isinstance(self._auth, AppRole):
            try:
                self._send(login.client.auth.token.revoke_self)
            except CredentialUnavailable as error:
                _log.info("the Vault token was not given back: %s", error.why)
        login.client.adapter.close()

    # Requests

    def _client(self, token: str) -> Any:
        """A client with a session of its own. ``token`` is "" before login: hvac would look for one otherwise."""
        import hvac
        import requests

        session = requests.Session()
        session.trust_env = False
        # hvac ignores its own `verify` beside a session.
        session.verify = str(self._ca_file) if self._ca_file else True
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS))
        return hvac.Client(
            url=self._address,
            token=token,
            verify=session.verify,
            timeout=self._timeout_s,
            allow_redirects=False,
            session=session,
            namespace=self._namespace,
            adapter=hvac.adapters.RawAdapter,
            ignore_exceptions=True,
        )

    def _send(self, send: Callable[[], requests.Response], tries: int = 1) -> Answer:
        """One request's answer, whatever its status. Raises `CredentialUnavailable`, outside the handler, so that not
        even ``__context__`` holds what `requests` raised."""
        for left in range(tries - 1, -1, -1):
            try:
                return Answer.of(send())
            except Exception as error:
                trouble, lost = translate(error, self._address)
            # A kept connection that the server had closed fails the first request on it; a read may be sent twice.
            if not (lost and left):
                break
        raise trouble

    def _get(self, login: _Login, path: str) -> Answer:
        kv = login.client.secrets.kv.v2
        return self._send(
            lambda: kv.read_secret_version(path=path, mount_point=self.mount, raise_on_deleted_version=True), tries=2
        )

    # Login

    def _current(self) -> _Login:
        login = self._login
        if login is not None and (login.source is None or login.source == self._token_source()):
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
                asked = self._send(denied.client.auth.token.lookup_self, tries=2)
                if asked.status == 200:
                    return None
            if denied.source is not None and denied.source == self._token_source():
                return None
            return self._sign_in()

    def _sign_in(self) -> _Login:
        """A new login in a new client; the lock is held. Reads under way keep the old token, which is not revoked."""
        now = self._clock()
        if isinstance(self._auth, AppRole):
            login = self._sign_in_by_role(self._auth, now)
        else:
            login = self._sign_in_by_token(self._auth, now)
        self._set_renewal(login, now, login.life_s)
        self._login = login
        self.trouble = ""
        return login

    def _sign_in_by_role(self, auth: AppRole, now: float) -> _Login:
        role_id = _credential(auth.role_id_file, "role_id")
        secret_id = _credential(auth.secret_id_file, "secret_id")
        credentials = hashlib.sha256(f"{role_id}\n{secret_id}".encode()).hexdigest()
        if credentials == self._refused_credentials and now < self._refused_until:
            raise CredentialUnavailable(self._refusal)
        client = self._client("")
        answer = self._send(
            lambda: client.auth.approle.login(role_id, secret_id, use_token=False, mount_point=auth.mount)
        )
        answer.raise_if_away(self._address)
        token, life_s, renewable = answer.login()
        if not token:
            client.adapter.close()
            self._remember_refusal(credentials, now, answer.status, auth)
            raise CredentialUnavailable(self._refusal)
        self._refused_credentials, self._refusals = "", 0
        client.token = token
        return _Login(client, now, life_s, renewable)

    def _remember_refusal(self, credentials: str, now: float, status: int, auth: AppRole) -> None:
        self._refusals = self._refusals + 1 if credentials == self._refused_credentials else 1
        self._refused_credentials = credentials
        wait = _AFTER_FIRST_REFUSAL_S if self._refusals == 1 else _AFTER_SECOND_REFUSAL_S
        self._refused_until = now + wait * (1 + 0.2 * self._jitter())
        if status == 403:
            why = (
                f"Vault refuses the AppRole login with 403: no AppRole at auth/{auth.mount}, or the role is locked out "
                "after several wrong logins (15 minutes)."
            )
        else:
            why = (
                f"Vault refuses the AppRole login with {status}: the secret_id in {auth.secret_id_file} is used up, "
                f"expired or wrong, or the role_id in {auth.role_id_file} is."
            )
        self._refusal = why + " Put a new secret_id into the file; it is tried at the next read."

    def _sign_in_by_token(self, auth: TokenFile, now: float) -> _Login:
        source = self._token_source()
        client = self._client(_credential(auth.token_file, "token"))
        asked = self._send(client.auth.token.lookup_self, tries=2)
        asked.raise_if_away(self._address)
        # 403: a token without the default policy may not look itself up, and a dead one neither. The read will tell.
        life_s, renewable = asked.token_life()
        return _Login(client, now, life_s, renewable, source=source or ())

    def _token_source(self) -> object:
        """What tells one content of the token file from the next; None when there is no token file."""
        if isinstance(self._auth, AppRole):
            return None
        try:
            found = self._auth.token_file.stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def _prolong(self, login: _Login) -> None:
        now = self._clock()
        login.renew_at = now + max(1.0, min(30.0, (login.ends_at - now) / 4))
        try:
            if login.renewable:
                renewed = self._send(login.client.auth.token.renew_self)
                _, life_s, _ = renewed.login()
                # What is granted shrinks as the role's max TTL nears: then only a new login helps.
                if life_s:
                    self._set_renewal(login, now, life_s)
                    if life_s >= login.life_s / 2 or isinstance(self._auth, TokenFile):
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


def _credential(path: Path, what: str) -> str:
    """A file's one line. Raises `CredentialUnavailable` naming the file; a header's exception would name the token."""
    try:
        text = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        if text and all("!" <= character <= "~" for character in text):
            return text
        reason = "it is empty" if not text else "it is not one line of printable ASCII"
    raise CredentialUnavailable(f"The {what} file {path} can't be used: {reason}.")
