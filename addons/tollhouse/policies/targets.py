"""The targets of `tollhouse policy render`, in the order of its help."""

from __future__ import annotations

from typing import Final

from tollhouse.policies import compose, nftables, systemd_service
from tollhouse.policies.rendering import Renderer

TARGETS: Final = (
    Renderer("nftables", "a host that runs Tollhouse and workloads", nftables.host),
    Renderer(
        "nftables-router", "a router that runs Tollhouse, workloads behind it", nftables.router
    ),
    Renderer("compose", "containers of one machine", compose.compose),
    Renderer("systemd", "one service of a machine", systemd_service.systemd),
)
