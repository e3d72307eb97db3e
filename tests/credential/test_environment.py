"""Provider keys in the gateway's environment are found by name."""

from __future__ import annotations

from tollhouse.credential.environment import provider_keys_in
from tollhouse.providers import BUILT_IN, Catalog


def test_names_only_and_sorted() -> None:
    """The variables that hold something, of any provider, without their values."""
    environ = {
        "PATH": "/bin",
        "OPENAI_API_KEY": "sk-1",
        "COHERE_API_KEY": "",
        "ANTHROPIC_API_KEY": "x",
        "CO_API_KEY": " ",
    }
    assert provider_keys_in(environ, Catalog(BUILT_IN)) == ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]


def test_every_provider_has_one() -> None:
    """No provider known by name that takes a key is without a variable to look for."""
    for provider in BUILT_IN:
        assert provider.key_variables or provider.login_only
        environ = dict.fromkeys(provider.key_variables, "x")
        assert provider_keys_in(environ, Catalog(BUILT_IN)) == sorted(provider.key_variables)
