"""Provider keys that lie in the gateway's own environment, where every child process and crash dump has them."""

from __future__ import annotations

from collections.abc import Mapping

from tollhouse.providers import Catalog


def provider_keys_in(environ: Mapping[str, str], catalog: Catalog) -> list[str]:
    """The names of the variables that hold a key of a configured provider, sorted. An empty
    variable holds no key."""
    names = {variable for provider in catalog.providers for variable in provider.key_variables}
    return sorted(name for name in names if environ.get(name, "").strip())
