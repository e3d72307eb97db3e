"""A source address as an identity: for the transparent listener alone, whose clients can't be told a token.

The address is the one of the TCP connection. No header is read, for anybody can send one. The longest network that fits
decides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from tollhouse.accounts.token import subject_id
from tollhouse.call import RequestHead
from tollhouse.parties import Identity

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class SourceNetwork:
    """An entry of [[identity.network]]."""

    source: Network
    project: str
    tenant: str
    limits: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        name = str(self.source)
        return Identity(
            subject_id("net", "", name),
            self.tenant,
            (self.project,),
            limits=self.limits,
            kind="network",
            subject=name,
        )


class Networks:
    def __init__(self, networks: Sequence[SourceNetwork]) -> None:
        ordered = sorted(networks, key=lambda one: one.source.prefixlen, reverse=True)
        self._identities = [(one.source, one.identity) for one in ordered]

    def identity(self, head: RequestHead) -> Identity | None:
        if head.listener != "transparent":
            return None
        try:
            address = ipaddress.ip_address(head.client_ip)
        except ValueError:
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        return next((found for source, found in self._identities if address in source), None)
