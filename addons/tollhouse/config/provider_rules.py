"""Rules of the providers, of tunnels that lead round them, and of the routes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tollhouse.config.entries import BUILT_IN_ENTRIES, base_of, merged, no_provider
from tollhouse.config.exchanges import federation_rules, vault_role_rules
from tollhouse.config.models import ProviderConfig, TunnelConfig, VaultRoleConfig
from tollhouse.config.openings import Openings, opening_rules
from tollhouse.config.text import Broken, dotted
from tollhouse.providers import Catalog


def provider_rules(providers: Mapping[str, ProviderConfig]) -> Broken:
    """An entry is whole, leads to one key, and dials no address inside by mistake."""
    for name, entry in providers.items():
        here = ("providers", name)
        built_in = BUILT_IN_ENTRIES.get(name)
        if built_in is None:
            known = ", ".join(sorted(BUILT_IN_ENTRIES))
            if entry.family is None:
                why = f"is missing: {name!r} is not one of the built-in providers ({known}); say whose API it speaks"
                yield dotted((*here, "family")), why
            if entry.hosts is None:
                yield (
                    dotted((*here, "hosts")),
                    "is missing, and no request could be for this provider; name its hosts",
                )
        elif not built_in.hosts and entry.hosts is None:
            yield (
                dotted((*here, "hosts")),
                f"is missing: each resource of {name} has a host and a key of its own, and only you know which are yours; "
                f'write hosts = ["{built_in.host_example}"], and give others entries of their own with family = "{name}"',
            )
        elif entry.family not in (None, built_in.family.name, name):
            why = f"is {built_in.family.name!r} for the built-in provider {name!r} and cannot be changed; use another name"
            yield dotted((*here, "family")), why
        if entry.connect_to is not None and entry.connect_to.is_inside and not entry.allow_private:
            yield (
                dotted((*here, "connect_to")),
                f"{entry.connect_to} is a private or loopback address, which is never dialled by default; add "
                "allow_private = true if the upstream really is inside your network",
            )
        if entry.ca_file is not None and entry.unsafe_plaintext:
            yield (
                dotted((*here, "ca_file")),
                "has no effect with unsafe_plaintext = true; remove one of the two",
            )
        if entry.credential is not None:
            base = base_of(name, entry)
            if isinstance(entry.credential, VaultRoleConfig):
                yield from vault_role_rules(name, base, entry.credential, entry)
            else:
                yield from federation_rules(name, base, entry.credential, entry)
        family = base_of(name, entry).family
        yield from opening_rules(
            name, Openings(family, entry.allow, entry.unmetered, entry.job_hold_usd)
        )
    yield from _hosts_twice(providers)
    yield from _fallbacks(providers)


def _fallbacks(providers: Mapping[str, ProviderConfig]) -> Broken:
    """Objects live at one provider, so that only calls that need none are sent to another. It has to
    speak the same API and have a host that is known."""
    catalog = merged(providers)
    for name, entry in providers.items():
        if entry.fallback is None:
            continue
        key, of, to = dotted(("providers", name, "fallback")), catalog.by_name(name), entry.fallback
        other = catalog.by_name(to)
        if of is None or other is None:
            yield key, no_provider(to, catalog)
        elif to == name:
            yield key, f"is {name} itself; name another provider, or remove it"
        elif other.family.name != of.family.name:
            yield (
                key,
                f"{to} speaks the API of {other.family.name!r}, and {name} that of {of.family.name!r}; "
                "name a provider of the same family",
            )
        elif all(host.startswith("*.") for host in other.hosts):
            yield (
                key,
                f"{to} has no host of its own that is known, so nothing could be sent there; "
                f"name one in [providers.{to}] hosts",
            )
        elif loop := _loop(name, catalog):
            yield key, f"leads back to {name} ({loop}); remove one of these fallbacks"


def _loop(name: str, catalog: Catalog) -> str:
    """The way from ``name`` back to it; "" if there is none."""
    way = [name]
    while (entry := catalog.by_name(way[-1])) is not None and entry.fallback:
        way.append(entry.fallback)
        if entry.fallback == name:
            return " -> ".join(way)
        if way.count(entry.fallback) > 1:
            break
    return ""


def _hosts_twice(providers: Mapping[str, ProviderConfig]) -> Broken:
    """An exact host below another provider's wildcard is allowed: `Catalog.by_host` looks for exact names first."""
    catalog = merged(providers)
    owners: dict[str, str] = {}
    for provider in sorted(catalog.providers, key=lambda provider: provider.name in providers):
        own = providers.get(provider.name)
        for index, host in enumerate(provider.hosts):
            owner = owners.setdefault(host, provider.name)
            if owners[host] == provider.name and host not in provider.hosts[:index]:
                continue
            key: tuple[str | int, ...] = (
                "providers",
                provider.name,
                "hosts",
                *([index] if own and own.hosts else []),
            )
            whose = (
                "twice in this entry"
                if owner == provider.name
                else f"already a host of provider {owner!r}"
            )
            yield (
                dotted(key),
                f"{host} is {whose}, and a host must lead to one key; remove it from one of them",
            )


def tunnel_rules(tunnels: Sequence[TunnelConfig], catalog: Catalog) -> Broken:
    """A tunnel to a provider would lead round its budget. Of two entries for a host only one would count."""
    seen: dict[str, int] = {}
    for index, entry in enumerate(tunnels):
        for number, host in enumerate(entry.hosts):
            if seen.setdefault(host, index) != index:
                yield (
                    dotted(("tunnels", index, "hosts", number)),
                    f"{host} is in tunnels[{seen[host]}] already, which alone would count; name all its projects there",
                )
            owner = next((one.name for one in catalog.providers if _meet(one.hosts, host)), None)
            if owner is not None:
                yield (
                    dotted(("tunnels", index, "hosts", number)),
                    f"{host} is a host of provider {owner!r}, and what goes through a tunnel is neither held nor metered; "
                    "remove it",
                )
        if entry.connect_to is not None and entry.connect_to.is_inside and not entry.allow_private:
            yield (
                dotted(("tunnels", index, "connect_to")),
                f"{entry.connect_to} is a private or loopback address, which is never dialled by default; add "
                "allow_private = true if the host really is inside your network",
            )


def _meet(hosts: Sequence[str], host: str) -> bool:
    """Whether one name may be both one of ``hosts`` and ``host``, either with a wildcard."""
    for other in hosts:
        if other == host:
            return True
        first, second = (name.partition(".")[2] for name in (other, host))
        if first == second and (other.startswith("*.") or host.startswith("*.")):
            return True
    return False


def route_rules(routes: Mapping[str, str], catalog: Catalog) -> Broken:
    """A route leads to a provider that speaks the form of its calls."""
    for pattern, name in routes.items():
        if not pattern.strip():
            yield (
                dotted(("routes", pattern)),
                'is an empty model name; write a name or a pattern like "claude-*"',
            )
        if catalog.by_name(name) is None:
            yield dotted(("routes", pattern)), no_provider(name, catalog)
        elif (provider := catalog.by_name(name)) is not None and provider.openai_path is None:
            yield (
                dotted(("routes", pattern)),
                f"{name} does not speak OpenAI's API, and only calls in its form go by their model; "
                f"remove the route, and call it as /{name}/... at the base URL",
            )
