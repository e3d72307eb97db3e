"""Requests to HashiCorp Vault or OpenBao through hvac. Everything here blocks.

hvac is used for its routes and its client. Its JSON adapter and its exceptions are not used: they
give no status code and no headers, and raise TypeError on odd JSON. `RawAdapter` gives every answer
as it is, and `VaultReply` judges it. No exception of `requests` or hvac leaves this file, since they
hold the token's header and the login's body.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tollhouse.credential.vault.replies import VaultReply, translate

if TYPE_CHECKING:
    import requests

CONNECTIONS: Final = 8
"""Connections that are kept: as many as reads may run at once (`workers`)."""


class VaultClient:
    """One server. ``ca_file`` (PEM) replaces the public roots. ``timeout_s`` is for each wait on
    the socket.

    Variables for proxies and CAs, ``~/.netrc`` and ``~/.vault-token`` are ignored, and redirects
    are not followed: each could send the token elsewhere. Raises `ValueError` for a text that is no
    address.
    """

    def __init__(
        self, address: str, namespace: str | None, ca_file: Path | None, timeout_s: float
    ) -> None:
        parts = urlsplit(address)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
        ):
            raise ValueError(
                "the address of Vault is http(s)://host:port, without a user or a query"
            )
        self.address = address
        self._namespace = namespace
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        # The import takes 0.3 to 0.6 s. It is done at the start, so that the first call does not
        # wait for it.
        import hvac  # noqa: F401

    def open(self, token: str) -> Any:
        """An hvac client with a session of its own. ``token`` is "" before the login: with None
        hvac would look for a token itself."""
        import hvac
        import requests

        session = requests.Session()
        session.trust_env = False
        # hvac ignores its own ``verify`` when it is given a session.
        session.verify = str(self._ca_file) if self._ca_file else True
        for scheme in ("https://", "http://"):
            session.mount(
                scheme, requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS)
            )
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

    def send(self, send: Callable[[], requests.Response], tries: int = 1) -> VaultReply:
        """The answer to one request, whatever its status. Raises `CredentialUnavailable`. It is
        raised outside of the handler, so that not even its ``__context__`` holds an exception of
        `requests`."""
        for left in range(tries - 1, -1, -1):
            try:
                return VaultReply.of(send())
            except Exception as error:
                trouble, lost = translate(error, self.address)
            # The first request on a kept connection fails if the server had closed it. A read may
            # be sent twice.
            if not (lost and left):
                break
        raise trouble
