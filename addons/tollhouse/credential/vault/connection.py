"""Requests to HashiCorp Vault or OpenBao through hvac. Everything here blocks.

hvac is used for its routes and its client. Its JSON adapter and its exceptions are not used: they
give no status code and no headers, and raise TypeError on odd JSON. `RawAdapter` gives every answer
as it is, and `VaultReply` judges it. No exception of `requests` or hvac leaves this file, since they
hold the token's header and the login's body.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import certifi

from tollhouse.credential.vault.replies import VaultReply, translate

if TYPE_CHECKING:
    import requests

CONNECTIONS: Final = 8
"""Connections that are kept: as many as reads may run at once (`workers`)."""


@dataclass(frozen=True, slots=True)
class VaultProxy:
    """The way to an https:// server through a proxy that opens tunnels (CONNECT). ``ca_file`` (PEM) replaces the public roots
    for a proxy that speaks TLS itself. ``login_file`` has ``username:password``, and is read at each login to Vault."""

    url: str
    ca_file: Path | None = None
    login_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """What is said to the proxy alone. Raises OSError."""
        if self.login_file is None:
            return {}
        login = base64.b64encode(self.login_file.read_bytes().strip()).decode()
        return {"Proxy-Authorization": f"Basic {login}"}

    def tls(self) -> ssl.SSLContext | None:
        """Raises OSError."""
        if not self.url.startswith("https:"):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cafile=str(self.ca_file or certifi.where()))
        return context


class VaultClient:
    """One server. ``ca_file`` (PEM) replaces the public roots. ``timeout_s`` is for each wait on
    the socket. With ``proxy`` each connection is a tunnel through that.

    Variables for proxies and CAs, ``~/.netrc`` and ``~/.vault-token`` are ignored, and redirects
    are not followed: each could send the token elsewhere. Raises `ValueError` for a text that is no
    address.
    """

    def __init__(
        self,
        address: str,
        namespace: str | None,
        ca_file: Path | None,
        timeout_s: float,
        proxy: VaultProxy | None = None,
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
        if proxy is not None and parts.scheme != "https":
            # It would be no tunnel, and the proxy would see the token.
            raise ValueError("a proxy leads to an https address of Vault alone")
        self.address = address
        self._proxy = proxy
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
            session.mount(scheme, self._adapter())
        if self._proxy is not None:
            session.proxies = {"https": self._proxy.url}
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

    def _adapter(self) -> requests.adapters.HTTPAdapter:
        import requests

        way = self._proxy

        class Adapter(requests.adapters.HTTPAdapter):
            def proxy_headers(self, _: str) -> dict[str, str]:
                return {} if way is None else way.headers()

            def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
                if way is not None and proxy not in self.proxy_manager:
                    proxy_kwargs["proxy_ssl_context"] = way.tls()
                return super().proxy_manager_for(proxy, **proxy_kwargs)

        return Adapter(pool_connections=1, pool_maxsize=CONNECTIONS)

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
