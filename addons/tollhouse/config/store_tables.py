"""The tables of the stores in tollhouse.toml: ``[redis]``, ``[vault]``, and how the gateway logs in there."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from tollhouse.config.models import Table
from tollhouse.config.store_places import RedisUrl, VaultAddress, VaultMount, VaultPath, VaultPlace
from tollhouse.config.values import FilePath, List, ProxyUrl, Seconds, SecondsOrZero, Text


class RedisConfig(Table):
    """The ledger."""

    url: RedisUrl = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """May hold a password: never show it; `place` is for people."""
    unsafe_fail_open: bool = False
    timeout_s: Seconds = 2.0
    """For each command; a connection may take half of it."""

    @property
    def embedded(self) -> bool:
        """Whether it is the store of this process, and no server."""
        return self.url == "embedded"

    @property
    def place(self) -> str:
        """The URL without user, password and query."""
        if self.embedded:
            return self.url
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class AppRoleAuth(Table):
    """A login with AppRole: both ids are in files."""

    method: Literal["approle"]
    role_id_file: FilePath
    secret_id_file: FilePath
    wrapped: bool = False
    """The secret_id's file holds a response-wrapping token, which is unwrapped once at start."""
    mount: VaultMount = "approle"


class TokenAuth(Table):
    """A token in a file; a token in the configuration itself is refused as an unknown key."""

    method: Literal["token", "token_file"]
    token_file: FilePath


class JwtAuth(Table):
    """A login with a signed token, such as that of a Kubernetes service account."""

    method: Literal["kubernetes", "jwt"]
    role: Text
    jwt_file: FilePath | None = None
    """None only for kubernetes: where a pod has its service account's token."""
    mount: VaultMount | None = None
    """None: the method's own name."""


VaultAuth = AppRoleAuth | TokenAuth | JwtAuth


class VaultProxyConfig(Table):
    """A proxy that opens tunnels (CONNECT). Its password is in a file: Vault can't have it."""

    url: ProxyUrl
    ca_file: FilePath | None = None
    """As of `UpstreamProxyConfig`."""
    login_file: FilePath | None = None
    """``username:password``; read at each login to Vault."""


class VaultConfig(Table):
    """The store of keys: where it is, how the gateway logs in, and where in it a key is looked for."""

    address: VaultAddress = "https://vault:8200"
    auth: Annotated[VaultAuth, Field(discriminator="method")] | None = None
    """None only with ``address = "embedded"``."""
    mount: VaultMount = "secret"
    kv_version: Literal[1, 2] = 2
    paths: Annotated[tuple[VaultPath, ...], List, Field(min_length=1)] = (
        "projects/{project}/{provider}",
        "infrastructure/{provider}",
    )
    """Tried in this order; the first that exists is used."""
    versions: dict[VaultPlace, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Filled paths that stay at a version of the secret; of all others the latest is read."""
    field: Text = "api_key"
    refresh_s: Seconds = 60.0
    stale_for_s: SecondsOrZero = 300.0
    timeout_s: Seconds = 5.0
    """For reading a key, as a whole."""
    namespace: str = ""
    ca_file: FilePath | None = None
    proxy: VaultProxyConfig | None = None
    """None: dialled directly, whatever ``[upstream] proxy`` says."""
    unsafe_plaintext: bool = False
    """Allows an http:// address off loopback: the Vault token and the keys then cross the network readable."""

    @property
    def embedded(self) -> bool:
        """Whether it is a file of the state directory, and no server."""
        return self.address == "embedded"
