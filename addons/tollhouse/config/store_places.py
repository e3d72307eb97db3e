"""Where Redis and Vault are, and the places in Vault, each judged by itself as `values` are."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

_REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "redis+sentinel")


def _redis_url(text: str) -> str:
    from tollhouse.ledger.store.urls import CLUSTER, SENTINEL, check_one_server, parse_servers

    if text == "embedded":
        return text
    if text.startswith((CLUSTER, SENTINEL)):
        parse_servers(text)
        return text
    try:
        parts = urlsplit(text)
        server = parts.path if parts.scheme == "unix" else parts.hostname
        server = None if parts.port == 0 else server
    except ValueError:
        raise ValueError(
            "is not a URL; write redis://HOST:PORT/DB, a password in it URL-encoded"
        ) from None
    if parts.scheme not in _REDIS_SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in _REDIS_SCHEMES)
        raise ValueError(f'must begin with one of {schemes}, or be "embedded"')
    if not server:
        raise ValueError(
            "names no server; write redis://HOST:PORT/DB or unix:///path/to/redis.sock"
        )
    check_one_server(parts)
    return text


def _vault_address(text: str) -> str:
    if text == "embedded":
        return text
    try:
        parts = urlsplit(text)
        bad_port = parts.port == 0
    except ValueError:
        raise ValueError('is not a URL; write https://HOST:8200, or "embedded"') from None
    if parts.scheme not in ("http", "https") or not parts.hostname or bad_port:
        raise ValueError('must be https://HOST:PORT, or "embedded"')
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "must be a bare URL; how to log in belongs into auth, never into the address"
        )
    return text.rstrip("/")


def _mount(text: str) -> str:
    from tollhouse.credential.paths import path_problem

    mount = text.strip("/")
    if problem := path_problem(mount):
        raise ValueError(f'{problem}; write the name of the mount, for example "secret"')
    return mount


def _vault_path(text: str) -> str:
    from tollhouse.credential.paths import template_problem

    if problem := template_problem(text):
        raise ValueError(f"{problem}; write the path below the mount, without a leading /")
    if "{provider}" not in text:
        raise ValueError(
            "has no {provider}, and one provider's key would be sent to another; put {provider} into it"
        )
    return text


def _vault_place(text: str) -> str:
    from tollhouse.credential.paths import path_problem

    if problem := path_problem(text):
        raise ValueError(
            f'{problem}; write a path as it is in Vault below the mount: "infrastructure/openai" = 3'
        )
    return text


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
VaultAddress = Annotated[str, AfterValidator(_vault_address)]
VaultMount = Annotated[str, AfterValidator(_mount)]
VaultPath = Annotated[str, AfterValidator(_vault_path)]
"""A template."""
VaultPlace = Annotated[str, AfterValidator(_vault_place)]
"""A path, filled."""
