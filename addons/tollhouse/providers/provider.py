"""A provider is data. Each has a file beside this one. The road reads this data and knows no
provider by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal

from tollhouse.families.asked import Dialect
from tollhouse.families.base import Family
from tollhouse.families.opened import STARTS, UNKNOWN, Opening
from tollhouse.families.operation import Operation
from tollhouse.providers.exchange_terms import ExchangeTerms, Federation
from tollhouse.providers.vault_role import VaultRole

CredentialKind = Literal["key", "aws", "google"]
"""What a secret of the store holds: a key that stands in a header as it is, an AWS access key that requests are signed
with, or a Google service account that access tokens are minted from."""


@dataclass(frozen=True, slots=True)
class CredentialSlot:
    """Where the provider expects its key: ``{header}: {prefix}{key}``. ``header`` is lower case."""

    header: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """A subscription's own login, which a workload may have instead of a key: a bearer token of this ``form``."""

    form: re.Pattern[str]
    variables: tuple[str, ...] = ()
    """Environment variables in which a program looks for one."""
    hidden_by: tuple[str, ...] = ()
    """Variables of keys that a program takes before a login, whatever is in them."""


_PLAIN: Final = Dialect()


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """A proxy that opens tunnels (CONNECT). ``tls``: it is spoken to in TLS, and trusted by ``ca_file`` or the public roots.
    ``secret`` is the path of the store's secret with ``username`` and ``password``."""

    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as configured: the built-in entry of its file with what tollhouse.toml changes.

    ``hosts`` are lower-case names without a trailing dot; ``*.example.com`` stands for exactly one more label.
    """

    name: str
    family: Family
    """The API that it speaks. Refusals have this family's form."""
    hosts: tuple[str, ...]
    slot: CredentialSlot
    dialect: Dialect = _PLAIN
    host_example: str = ""
    """What the host of one resource looks like, of a provider that has a host for each; messages show it."""
    free_call: str = ""
    """Path and query of a GET that costs nothing and needs the key, for `tollhouse key test`; "" if there is none."""
    free_call_headers: tuple[tuple[str, str], ...] = ()
    key_variables: tuple[str, ...] = ()
    """Environment variables in which its SDKs look for a key; the gateway refuses to start with one of them set."""
    demanded: tuple[str, ...] = ()
    """Those of them without which some program does not start; without any the first is."""
    login: Login | None = None
    """None: a login of its workloads is never let through."""
    accepts: frozenset[CredentialKind] = frozenset({"key"})
    """Other kinds are refused before anything leaves."""
    account_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Headers (lower case) that say whom the provider charges, by the field of the secret that has
    the value. They are not secret."""
    exchange: ExchangeTerms | None = None
    """How it gives a credential for a token of the gateway's own identity. None: it does not."""
    federation: Federation | None = None
    """As configured: no key of it is in the store, and its credential is exchanged."""
    vault_role: VaultRole | None = None
    """As configured: no key of it is in the store, and Vault's AWS engine leases one."""
    other_slots: tuple[str, ...] = ()
    """Other request headers (lower case) in which its clients may send a key. The gateway's key is
    never put there."""
    key_subprotocols: tuple[str, ...] = ()
    """Beginnings of WebSocket subprotocols behind which its clients may send a key."""
    subprotocols_who_pay: tuple[str, ...] = ()
    """Beginnings of those by which a caller could choose who pays. They are not offered to it."""
    slots_below: tuple[tuple[str, CredentialSlot], ...] = ()
    """Beginnings of paths below which the key stands somewhere else than in ``slot``."""
    who_pays: frozenset[str] = frozenset()
    """Request headers (lower case) by which a caller could choose who pays. They are stripped."""
    aside: tuple[str, ...] = ()
    """Globs of paths that coding agents ask beside their calls, and can do without. They are 404:
    for an agent that means that there is nothing, and 403 that something is wrong."""
    base_paths: tuple[str, ...] = ()
    """Globs of paths that the base URL takes for this provider's though they do not name it."""
    openai_path: str | None = None
    """What stands for OpenAI's ``/v1`` here. None: it does not speak OpenAI's API."""
    company: str = ""
    """Who sends the bill; "" of an entry of the configuration, which goes by its name."""
    service: str = ""
    """What the bill calls it."""
    genai_name: str = ""
    """What OpenTelemetry calls it, or whose API it speaks (``gen_ai.provider.name`` of the GenAI conventions); "" where they
    have no name for it."""
    model_globs: tuple[str, ...] = ()
    """Models that the base URL sends here, if no route of the configuration fits."""
    prices_from: str = ""
    """The provider id in genai-prices; empty means the same as ``name``."""
    port: int = 443
    connect_to: tuple[str, int] | None = None
    """This host and port are dialled instead of DNS's answer. TLS is still verified for the
    provider's name."""
    ca_file: str | None = None
    """PEM of the roots trusted for this provider instead of the public ones."""
    allow_private: bool = False
    upstream_proxy: UpstreamProxy | None = None
    """The proxy through which it is dialled."""
    client_certificate: str | None = None
    """The path of the store's secret whose fields ``cert`` and ``key`` are shown to it."""
    unsafe_plaintext: bool = False
    """The upstream speaks http."""
    attempts: int = 3
    deadline_s: float = 10.0
    """Retries stop at ``attempts`` tries or this long after the first, whichever comes first."""
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 600.0
    """From the request sent to the answer's headers."""
    silence_timeout_s: float | None = None
    """Between two chunks of the answer. None: as long as ``answer_timeout_s``."""
    models: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The model behind a name that requests use and that is no model's: a deployment, a profile."""
    default_input_tokens: int | None = None
    """As configured: held for input that is not in the request itself (ids, URLs), whatever the model."""
    default_output_tokens: int | None = None
    """As configured: held for an answer whose request has no cap, whatever the model."""
    allow: tuple[Opening, ...] = ()
    """Endpoints that the configuration opens beside the family's, and jobs of the family's.
    ``family`` has them, too."""
    unmetered: tuple[Opening, ...] = ()
    """The same, of endpoints that cost nothing."""
    unknown_hold: int = 1_000_000_000
    """Nano-dollars that are held for a call of an endpoint that no family knows."""
    job_hold: int | None = None
    """Nano-dollars that are held and charged for a call that starts a job; None: no job is let
    through."""
    fallback: str = ""
    """The provider of the same family that is called when this one can't serve; "" for none."""
    share_objects: bool = False
    """With a key that several tenants use, each may use and list the objects of all."""
    longest_context: int = 1_050_000
    """The same for a model whose context window the price table does not have: the longest of the provider's."""
    output_limits: tuple[tuple[str, int], ...] = ()
    """The longest answer of a model without a cap, by a glob of its name. The first glob that fits
    counts."""
    longest_output: int = 128_000
    """The same for all other models: what current ones give (gpt-5 and later, Claude Opus; others give less),
    https://platform.openai.com/docs/models and https://docs.anthropic.com/en/docs/about-claude/models/overview."""

    @property
    def price_id(self) -> str:
        """The name under which `prices` knows it."""
        return self.prices_from or self.name

    def slot_at(self, path: str) -> CredentialSlot:
        """Where the key stands in a request to ``path``."""
        for beginning, slot in self.slots_below:
            if path.startswith(beginning):
                return slot
        return self.slot

    def allows(self, method: str, path: str) -> bool:
        """Whether an entry of ``allow`` names this path."""
        return any(opening.names(method, path) for opening in self.allow)

    def fixed_hold(self, operation: Operation, method: str) -> int | None:
        """Nano-dollars that are held for ``operation``, where nothing of the request can say what
        it costs. None for all others. Looking at a job costs nothing."""
        if operation.cost == "job":
            return (self.job_hold or 0) if method in STARTS else None
        return self.unknown_hold if operation.metered and operation.kind == UNKNOWN else None

    def most_input(self, window: int | None) -> int:
        """Tokens that a model with this context window (None: not known) reads at most."""
        return self.default_input_tokens or window or self.longest_context

    def most_output(self, model: str, window: int | None) -> int:
        """Tokens that ``model`` writes at most for an answer without a cap."""
        if self.default_output_tokens is not None:
            return self.default_output_tokens
        name = model.removeprefix("ft:").lower()
        limit = next(
            (limit for glob, limit in self.output_limits if fnmatchcase(name, glob)),
            self.longest_output,
        )
        return min(limit, window or limit)

    @property
    def login_only(self) -> bool:
        """It takes no key at all."""
        return not self.accepts

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

    @property
    def account_headers(self) -> dict[str, str]:
        """Of all providers; a field of a secret means the same header to each."""
        return {
            name: header
            for provider in self.providers
            for name, header in provider.account_headers.items()
        }

    def by_host(self, host: str) -> Provider | None:
        """The provider that serves ``host`` (normalised: lower case, no trailing dot, IDNA), or None."""
        found = self._exact.get(host)
        if found is not None:
            return found
        return next((p for p in self.providers if p.serves(host)), None)

    def by_base_path(self, path: str) -> Provider | None:
        """The provider that has ``path`` among its `Provider.base_paths`, or None."""
        for provider in self.providers:
            if any(fnmatchcase(path, glob) for glob in provider.base_paths):
                return provider
        return None

    def by_name(self, name: str) -> Provider | None:
        return next((p for p in self.providers if p.name == name), None)
