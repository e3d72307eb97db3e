"""Which addresses may be dialled. Every address that DNS gives is judged when it is about to be
dialled.

A provider is on the public internet unless its entry says ``allow_private``. Any other address of
its name is a mistake or an attack (DNS rebinding, a poisoned zone, a hosts file). The table is our
own: `ipaddress.is_global` changed its meaning between Python's patch releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    liftable: bool
    """True: ``allow_private`` lifts the rule. False: no model is served there, and nothing lifts
    it."""


_METADATA = _Rule("a cloud metadata address", liftable=False)
_LINK_LOCAL = _Rule("a link-local address", liftable=False)
_MULTICAST = _Rule("a multicast address", liftable=False)
_UNSPECIFIED = _Rule("an unspecified address", liftable=False)
_RESERVED = _Rule("a reserved address", liftable=False)
_LOOPBACK = _Rule("a loopback address", liftable=True)
_PRIVATE = _Rule("a private address", liftable=True)
_CGNAT = _Rule("a carrier-grade NAT address (100.64.0.0/10)", liftable=True)
_EMBEDDED = _Rule("an IPv4 address inside an IPv6 one", liftable=True)

# The first row that holds the address decides. IANA's special-purpose registries:
# https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry.
V4: Final[tuple[tuple[IPv4Network, _Rule], ...]] = tuple(
    (IPv4Network(network), rule)
    for network, rule in (
        ("169.254.169.254/32", _METADATA),  # AWS, GCP, Azure, OpenStack, Oracle
        ("169.254.170.2/32", _METADATA),  # AWS ECS task credentials
        ("169.254.170.23/32", _METADATA),  # AWS EKS Pod Identity
        ("100.100.100.200/32", _METADATA),  # Alibaba Cloud
        ("168.63.129.16/32", _METADATA),  # Azure's wire server, in public space
        ("192.0.0.192/32", _METADATA),  # Oracle Cloud, old
        ("0.0.0.0/8", _UNSPECIFIED),
        ("127.0.0.0/8", _LOOPBACK),
        ("10.0.0.0/8", _PRIVATE),
        ("172.16.0.0/12", _PRIVATE),
        ("192.168.0.0/16", _PRIVATE),
        ("100.64.0.0/10", _CGNAT),
        ("169.254.0.0/16", _LINK_LOCAL),
        ("192.0.0.0/24", _RESERVED),
        ("192.0.2.0/24", _RESERVED),
        ("192.88.99.0/24", _RESERVED),
        ("198.18.0.0/15", _RESERVED),
        ("198.51.100.0/24", _RESERVED),
        ("203.0.113.0/24", _RESERVED),
        ("224.0.0.0/4", _MULTICAST),
        ("240.0.0.0/4", _RESERVED),
    )
)
V6: Final[tuple[tuple[IPv6Network, _Rule], ...]] = tuple(
    (IPv6Network(network), rule)
    for network, rule in (
        ("fd00:ec2::254/128", _METADATA),  # AWS
        ("fd00:ec2::23/128", _METADATA),  # AWS EKS Pod Identity
        ("fd20:ce::254/128", _METADATA),  # GCP
        ("::/128", _UNSPECIFIED),
        ("::1/128", _LOOPBACK),
        ("fc00::/7", _PRIVATE),
        ("fe80::/10", _LINK_LOCAL),
        ("fec0::/10", _RESERVED),
        ("ff00::/8", _MULTICAST),
        ("2001::/23", _RESERVED),
        ("2001:db8::/32", _RESERVED),
        ("3fff::/20", _RESERVED),
    )
)
_V6_PUBLIC: Final = IPv6Network("2000::/3")

# Where the IPv4 address starts inside the IPv6 one, in bits from the right, and whether it is stored inverted (Teredo).
_CARRIERS: Final[tuple[tuple[IPv6Network, int, bool], ...]] = tuple(
    (network, shift, inverted)
    for network, shift, inverted in (
        (IPv6Network("::ffff:0:0/96"), 0, False),  # mapped, RFC 4291
        (IPv6Network("::ffff:0:0:0/96"), 0, False),  # translated, RFC 2765
        (IPv6Network("64:ff9b::/96"), 0, False),  # NAT64, RFC 6052
        (IPv6Network("64:ff9b:1::/48"), 0, False),  # local NAT64, RFC 8215
        (IPv6Network("2002::/16"), 80, False),  # 6to4, RFC 3056
        (IPv6Network("2001::/32"), 0, True),  # Teredo, RFC 4380
        (IPv6Network("::/96"), 0, False),  # compatible, RFC 4291, after :: and ::1
    )
)


def refused_address(ip: str, *, allow_private: bool = False) -> str | None:
    """Why ``ip`` may not be dialled ("a loopback address"), or None when it may be.

    ``ip`` is what getaddrinfo gave, an IPv6 scope (``%eth0``) included. ``allow_private`` lifts the
    rules of loopback, private and CGNAT addresses, and of embedded addresses whose IPv4 part may be
    dialled. It never lifts those of metadata, link-local, multicast, unspecified and reserved
    addresses: the entry of a self-hosted model must not lead to a cloud's credentials. Text that is
    no address is refused as well, because dialling it would resolve it once more without a
    judgement.
    """
    try:
        address = ip_address(ip)
    except ValueError:
        return "not an IP address"
    rule = _rule(address)
    if rule is None:
        return None
    if not (allow_private and rule.liftable):
        return rule.name
    if rule is _EMBEDDED:
        assert isinstance(address, IPv6Address)
        inner = _embedded(address)
        return None if inner is None else refused_address(str(inner), allow_private=True)
    return None


def _rule(address: IPv4Address | IPv6Address) -> _Rule | None:
    if isinstance(address, IPv4Address):
        return next((rule for network, rule in V4 if address in network), None)
    address = IPv6Address(int(address))
    found = next(
        (rule for network, rule in V6 if address in network and rule is not _RESERVED), None
    )
    if found is not None:
        return found
    if _embedded(address) is not None:
        return _EMBEDDED
    if address not in _V6_PUBLIC:
        return _RESERVED
    return next((rule for network, rule in V6 if address in network), None)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    bits = int(address)
    for network, shift, inverted in _CARRIERS:
        if IPv6Address(bits) in network:
            inner = (bits >> shift) & 0xFFFFFFFF
            return IPv4Address(inner ^ 0xFFFFFFFF if inverted else inner)
    return None
