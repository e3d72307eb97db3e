"""Requests to HashiCorp Vault or OpenBao through hvac. Everything here blocks.

hvac is used for its routes and its client, not for its JSON adapter and exceptions (no status code, no headers,
TypeError on odd JSON): `RawAdapter` gives every answer as it is and `Answer` judges it. Nothing that `requests` or hvac
raises leaves this file, since their exceptions hold the token's header and the login's body.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tollhouse.credential.vault.replies import Answer, translate

if TYPE_CHECKING:
    import requests

CONNECTIONS: Final = 8
"""As many connections are kept as reads may run at once (`workers`)."""


class VaultClient:
    """One server. ``ca_file`` (PEM) replaces the public roots; ``timeout_s`` is for each wait on the socket.

    No proxy or CA variable, ``~/.netrc`` or ``~/.vault-token`` of the environment is looked at, and redirects are not
    followed: each of them would carry the token elsewhere. Raises `ValueError` for an address that is none.
    """

    def __init__(self, address: str, namespace: str | None, ca_file: Path | None, timeout_s: float) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("the address of Vault is http(s)://host:port, without a user or a query")
        self.address = address
        self._namespace = namespace
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        # 0.3 to 0.6 s of import belong to the start, not to the first call.
        import hvac  # noqa: F401

    def open(self, token: str) -> Any:
        """An hvac client with a session of its own. ``token`` is "" before login: hvac would look for one otherwise."""
        import hvac
        import requests

        session = requests.Session()
        session.trust_env = False
        # hvac ignores its own `verify` beside a session.
        session.verify = str(self._ca_file) if self._ca_file else True
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS))
        return hvac.Client(
            url=self.address,
            token=token,
            verify=session.verify,
            timeout=self._timeout_s,
            allow_redirects=False,
            session=session,
            namespace=self._namespace,
            adapter=hvac.adapters.RawAdapter,
            ignore_exceptions=True,
        )

    def send(self, send: Callable[[], requests.Response], tries: int = 1) -> Answer:
        """One request's answer, whatever its status. Raises `CredentialUnavailable`, outside the handler, so that not
        even ``__context__`` holds what `requests` raised."""
        for left in range(tries - 1, -1, -1):
            try:
                return Answer.of(send())
            except Exception as error:
                trouble, lost = translate(error, self.address)
            # A kept connection that the server had closed fails the first request on it; a read may be sent twice.
            if not (lost and left):
                break
        raise trouble
