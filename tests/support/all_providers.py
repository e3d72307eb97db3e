"""A gateway whose catalogue is the built-in one: each provider's own host is one stand-in, and its settings are those that a
deployment of it has (deployments of Azure, keys of AWS)."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support import sigv4
from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, Inside, open_inside
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received
from tollhouse.providers import BUILT_IN

REGION = "us-east-1"
AWS = {"access_key_id": "AKIAOFTHETESTS", "secret_access_key": f"{secrets.token_urlsafe(24)}/+="}
AZURE, FOUNDRY = "contoso.openai.azure.com", "contoso.services.ai.azure.com"
RUNTIME = f"bedrock-runtime.{REGION}.amazonaws.com"
VERTEX = "us-central1-aiplatform.googleapis.com"
HOSTS: Mapping[str, tuple[str, ...]] = {
    provider.name: provider.hosts[:1] for provider in BUILT_IN
} | {"azure": (AZURE, FOUNDRY), "bedrock": (RUNTIME,), "vertex": (VERTEX,)}
UNPRICED = "proj_unpriced"
"""A project without a limit in money: it may ask for what has no price, as an agent of Mistral's."""


def host_of(provider: str, path: str) -> str:
    """Whom a request to ``path`` goes to: Claude at Azure has a host of its own."""
    return FOUNDRY if path.startswith("/anthropic/") else HOSTS[provider][0]


def settings_for(standin: StandIn, prices: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Of a gateway that asks a provider once, at ``prices`` for everything."""
    entry = {
        "allow_private": True,
        "attempts": 1,
        "ca_file": "provider-ca.pem",
        "connect_to": standin.address,
        "job_hold_usd": 2,
        "share_objects": True,
    }
    tables: dict[str, dict[str, Any]] = {}
    for provider in BUILT_IN:
        tables[f"providers.{provider.name}"] = {**entry, "hosts": list(HOSTS[provider.name])}
        tables[f'prices."{provider.name}/*"'] = dict(prices)
    tables["providers.azure"]["models"] = {
        "d-1": "gpt-4o",
        "gpt-4o-search-preview": "gpt-4o-search-preview",
    }
    tables[f"projects.{PROJECT}"] = {"limits": ["100000 usd/day"]}
    tables[f"projects.{UNPRICED}"] = {"tenant": "acme", "limits": ["1000000000 tokens/day"]}
    return tables


@contextlib.contextmanager
def open_all(
    directory: Path, prices: Mapping[str, str], allow: Mapping[str, list[str]]
) -> Iterator[Inside]:
    """``allow`` has the jobs that are open, by provider."""
    with StandIn(key=REAL_KEY, hosts=[host for hosts in HOSTS.values() for host in hosts]) as there:
        settings = settings_for(there, prices)
        for provider, opened in allow.items():
            settings[f"providers.{provider}"]["allow"] = opened
        # The clock stands still, so that the gateway asks for no job of itself and takes no scripted answer.
        with open_inside(directory, settings, standin=there, clock=lambda: 0.0) as inside:
            vault = EmbeddedVault(inside.gateway.config.state.directory)
            for provider in HOSTS:
                vault.set(provider, json.dumps(AWS) if provider == "bedrock" else REAL_KEY)
            yield inside


def credential_problem(received: Received, provider: str) -> str:
    """Why the provider would refuse what arrived; empty if it would not."""
    if provider != "bedrock":
        times = received.everything().count(REAL_KEY.encode())
        return "" if times == 1 else f"the key came {times} times"
    return sigv4.problem_of(received, AWS, REGION)
