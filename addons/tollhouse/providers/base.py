"""What a provider is: data. One file each beside this one; the road reads them and knows none by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

EndpointKind = Literal["chat", "embeddings", "models"]


@dataclass(frozen=True, slots=True)
class CredentialSlot:
    """Where the provider expects its key: ``{header}: {prefix}{key}``. ``header`` is lower case."""

    header: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One open method and path. ``path`` is matched whole against the path that will be sent, query string excluded."""

    method: str
    path: re.Pattern[str]
    kind: EndpointKind
    billable: bool
    """True: the body is read, a hold is taken and usage is metered. False: free, streams through unread."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as configured: the built-in entry of its file with what tollhouse.toml changes.

    ``hosts`` are lower-case names without a trailing dot; ``*.example.com`` stands for exactly one more label.
    """

    name: str
    family: str
    """Whose API it speaks and whose error format is answered in (`denial.Family`)."""
    hosts: tuple[str, ...]
    slot: CredentialSlot
    endpoints: tuple[Endpoint, ...] = ()
    key_variables: tuple[str, ...] = ()
    """Environment variables in which its SDKs look for a key; the gateway refuses to start with one of them set."""
    who_pays: frozenset[str] = frozenset()
    """Lower-case request headers by which a caller could choose who pays; stripped."""
    usage_in_stream: Literal["on_request", "always"] = "always"
    """``on_request``: an OpenAI stream carries usage only if ``stream_options.include_usage`` asks for it."""
    prices_from: str = ""
    """The provider id in genai-prices; empty means the same as ``name``."""
    port: int = 443
    connect_to: tuple[str, int] | None = None
    """Dial this host and port instead of what DNS says; TLS is still verified for the provider's name."""
    ca_file: str | None = None
    """PEM of the roots trusted for this provider instead of the public ones."""
    allow_private: bool = False
    unsafe_plaintext: bool = False
    """The upstream speaks http."""
    attempts: int = 3
    deadline_s: float = 10.0
    """Retries stop at ``attempts`` tries or this long after the first, whichever comes first."""
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 600.0
    """From the request sent to the answer's headers, and between two chunks."""
    default_output_tokens: int = 16_384
    """Held for an answer whose request has no cap."""

    @property
    def price_id(self) -> str:
        """By which name `meter.prices` knows it."""
        return self.prices_from or self.name

    def endpoint(self, method: str, path: str) -> Endpoint | None:
        """The open endpoint for this method and path, or None: default deny."""
        for endpoint in self.endpoints:
            if endpoint.method == method and endpoint.path.fullmatch(path):
                return endpoint
        return None

    def serves(self, host: str) -> bool:
        """Whether ``host`` (normalised) is one of this provider's."""
        for pattern in self.hosts:
            if pattern.startswith("*."):
                label, _, rest = host.partition(".")
                if label and rest == pattern[2:]:
                    return True
            elif host == pattern:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Catalog:
    """All configured providers."""

    providers: tuple[Provider, ...]
    _exact: dict[str, Provider] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        exact = {host: p for p in self.providers for host in p.hosts if not host.startswith("*.")}
        object.__setattr__(self, "_exact", exact)

    @property
    def hosts(self) -> list[str]:
        """Of all providers, in their order: what the CA has to cover."""
        return [host for provider in self.providers for host in provider.hosts]

    def by_host(self, host: str) -> Provider | None:
        """The provider that serves ``host`` (normalised: lower case, no trailing dot, IDNA), or None."""
        found = self._exact.get(host)
        if found is not None:
            return found
        return next((p for p in self.providers if p.serves(host)), None)

    def by_name(self, name: str) -> Provider | None:
        return next((p for p in self.providers if p.name == name), None)
