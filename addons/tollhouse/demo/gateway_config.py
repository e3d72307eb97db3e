"""A tollhouse.toml for a gateway whose OpenAI is a stand-in: for the demo and for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tollhouse.demo.standin import StandIn

Settings = Mapping[str, Mapping[str, Any]]
"""Table name as it stands between brackets in TOML to its keys: ``{"providers.openai": {"attempts": 1}}``."""


def write_config(
    directory: Path,
    standin: StandIn | None,
    settings: Settings | None = None,
    lists: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Path:
    """Write ``tollhouse.toml`` (and the stand-in's CA) into ``directory``; returns its path.

    Free ports, embedded stores, state beside the file, lines on stdout; ``settings`` adds to that, key by key, and
    ``lists`` are tables of which there may be several.
    """
    tables: dict[str, dict[str, Any]] = {
        "listen": {"proxy": "127.0.0.1:0", "base_url": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "state": {"directory": "state"},
        "redis": {"url": "embedded"},
        "vault": {"address": "embedded"},
        "log": {"calls": "-"},
    }
    if standin is not None:
        provider: dict[str, Any] = {"connect_to": standin.address, "allow_private": True}
        if standin.ca_pem:
            provider["ca_file"] = standin.write_ca(directory / "provider-ca.pem").name
        else:
            provider["unsafe_plaintext"] = True
        tables["providers.openai"] = provider
    for name, keys in (settings or {}).items():
        tables.setdefault(name, {}).update(keys)
    text = ""
    for heading, keys in (
        *((f"[{name}]", keys) for name, keys in tables.items()),
        *((f"[[{name}]]", keys) for name, several in (lists or {}).items() for keys in several),
    ):
        text += (
            f"{heading}\n"
            + "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())
            + "\n"
        )
    path = directory / "tollhouse.toml"
    path.write_text(text)
    return path


def _toml(value: Any) -> str:
    # JSON's strings, numbers and booleans are TOML's; only a table is spelled otherwise.
    if isinstance(value, Mapping):
        inner = (f"{json.dumps(key)} = {_toml(inside)}" for key, inside in value.items())
        return "{ " + ", ".join(inner) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
