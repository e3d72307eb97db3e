"""A configuration for a gateway that a test starts itself, and an address that it can't have."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.gateway import REAL_KEY
from tollhouse.config.load import Config, load_config
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.gateway_config import Settings, write_config


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    """A configuration with a state directory, by its settings."""

    def make(settings: Settings | None = None) -> Config:
        config = load_config(write_config(tmp_path, None, settings))
        config.state.directory.mkdir(mode=0o700, exist_ok=True)
        EmbeddedVault(config.state.directory).set("openai", REAL_KEY)
        return config

    return make


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
