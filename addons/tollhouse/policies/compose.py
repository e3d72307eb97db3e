"""Containers of one machine: workloads are in a network that leads nowhere, and the gateway is the one member of it that is in
another network as well."""

from __future__ import annotations

import json

from tollhouse.config.load import Config
from tollhouse.policies.places import NetworkFacts, network_facts
from tollhouse.policies.rendering import CannotRender, Rendered

_ROOT_IN_IMAGE = "/var/lib/tollhouse"
"""The one directory of the image that is written (Dockerfile)."""


def compose(config: Config) -> Rendered:
    facts = network_facts(config)
    proxy = facts.listeners.get("proxy")
    if proxy is None or proxy.is_loopback or not proxy.port:
        raise CannotRender(
            f"[listen] proxy is {proxy or 'off'}, and containers reach the gateway by its network: write "
            'proxy = "0.0.0.0:8080", with tls or unsafe_plaintext_listen = true'
        )
    directory = str(config.state.directory)
    if not directory.startswith(f"{_ROOT_IN_IMAGE}/"):
        raise CannotRender(
            f"[state] directory is {directory}, and the image is read-only but for {_ROOT_IN_IMAGE}: write "
            f'directory = "{_ROOT_IN_IMAGE}/state"'
        )
    if not facts.user.isdecimal():
        raise CannotRender(
            f"[process] user is {facts.user}, and the image knows no names: write a number, as text"
        )
    notes = [
        f"{store.of} is at {store.address.host}: a service of that name belongs into the network `stores`, one elsewhere is "
        "reached by `outside`"
        for store in facts.stores
    ]
    return Rendered({"compose.yaml": _text(config, facts, proxy.port)}, tuple(notes))


def _text(config: Config, facts: NetworkFacts, port: int) -> str:
    scheme = "https" if config.listen.tls else "http"
    user = json.dumps(f"{facts.user}:{config.process.group or facts.user}")
    return f"""\
# Workloads whose only way out is Tollhouse. README.md beside this file: what this stops, what it does not, how to test it.
# Made by `tollhouse policy render compose` from tollhouse.toml: change that, and render it again.
services:
  tollhouse:
    image: registry.example.com/tollhouse:0.1.0
    user: {user}
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    networks: [inside, outside, stores]
    volumes:
      - ./tollhouse.toml:/etc/tollhouse/tollhouse.toml:ro
      - state:{_ROOT_IN_IMAGE}
    tmpfs: [/tmp]
    restart: unless-stopped
    # drain_s of [limits], then 10 s.
    stop_grace_period: {int(config.limits.drain_s) + 10}s

  # One of yours: it is in `inside` and in no other network, publishes no port, and has no capability.
  workload:
    image: registry.example.com/workload:latest
    networks: [inside]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    # Docker's own name server knows the services, and asks these for other names: there is none here that would ask the world.
    dns: ["127.0.0.1"]
    environment:
      HTTPS_PROXY: {scheme}://tollhouse:{port}
      SSL_CERT_FILE: /run/tollhouse/ca.pem
      OPENAI_API_KEY: ${{GATE_TOKEN:?a gate token, of tollhouse token create}}
    volumes:
      - ./ca.pem:/run/tollhouse/ca.pem:ro
    depends_on:
      tollhouse:
        condition: service_healthy

networks:
  # No gateway to anywhere, over IPv4 and IPv6.
  inside:
    internal: true
  # Redis and Vault, if they are containers here: workloads are not in it.
  stores:
    internal: true
  outside: {{}}

volumes:
  state: {{}}
"""
