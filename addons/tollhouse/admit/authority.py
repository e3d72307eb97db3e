"""The one authority rule, applied before anything else.

CONNECT host = TLS SNI = Host or :authority = host of an absolute-form target = a host of a
configured provider. Names are normalised once: lower case, one trailing dot, IDNA. A name that is
not exactly a provider's host is refused. There is no list of forbidden spellings.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

import idna

from tollhouse.call import RequestHead
from tollhouse.companions import Passable, PassableHost
from tollhouse.denial import Refused
from tollhouse.providers import DEFAULT, Catalog, Provider

# LDH labels (RFC 1123 2.1), whole name at most 253.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LONGEST = 254
"""The longest name, with its last dot."""
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# A name whose last label is a number is an IPv4 address in some spelling (WHATWG URL, "ends in a number checker").
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]:@/?#\s]{1,254})(?::[0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes: the provider, one of its hosts, and the path and query as they came."""

    provider: Provider
    host: str
    raw_path: str


def normalise_host(host: str) -> str | None:
    """``host`` in the spelling in which names are compared. None if it is no DNS name (an IP
    literal, empty, userinfo...)."""
    if not host.isascii():
        if len(host) > _LONGEST:
            return None
        try:
            host = idna.encode(host, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            return None
    host = host.lower().removesuffix(".")
    if not _NAME.fullmatch(host) or _ENDS_IN_NUMBER.fullmatch(host):
        return None
    return host


def split_authority(authority: str) -> tuple[str | None, int | None]:
    """Host (normalised) and port of ``host[:port]``; (None, None) if it is anything else."""
    host, colon, digits = authority.partition(":")
    if not colon:
        return normalise_host(host), None
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        return None, None
    return normalise_host(host), int(digits)


def named_host(authority: str) -> str | None:
    """The host of ``host[:port]`` as a listener of ours may be called, in the spelling of
    `plain_host`; None if it is malformed (RFC 3986 3.2.2: an IPv6 address stands in brackets)."""
    match = _HOST_PORT.fullmatch(authority)
    return plain_host(match["host"]) if match else None


def plain_host(host: str) -> str:
    """``host`` in lower case; an address in its shortest form, without brackets."""
    host = host.lower()
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return host


def admit_connect(
    target: str, catalog: Catalog, passable: Passable
) -> tuple[str, PassableHost | None]:
    """The host of a CONNECT, normalised, and its entry in ``passable`` if it is no provider's. Raises `Refused`: 403 for a
    host or a port that is neither's."""
    host, port = split_authority(target)
    provider = catalog.by_host(host) if host else None
    if host is not None and provider is None and (found := passable.by_host(host)) is not None:
        if port != found.port:
            why = f"CONNECT asked for port {port}, {host} may be reached on port {found.port}."
            raise Refused("port_not_allowed", why)
        return host, found
    if host is None or provider is None:
        raise Refused("host_not_allowed", f"CONNECT asked for {_shown(target)}.")
    # The client speaks TLS to the provider's https port, even if the upstream speaks http.
    if port != provider.port:
        raise Refused(
            "port_not_allowed",
            f"CONNECT asked for port {port}, {provider.name} is on port {provider.port}.",
        )
    return host, None


def admit_sni(sni: str | None, connect_host: str | None, catalog: Catalog) -> str | None:
    """The host whose certificate the handshake gets. None: the handshake is ended. Inside a CONNECT
    it must be the host of the CONNECT."""
    host = normalise_host(sni) if sni else None
    if host is None or catalog.by_host(host) is None:
        return None
    if connect_host is not None and host != connect_host:
        return None
    return host


def judge(head: RequestHead, catalog: Catalog, base_url_hosts: Collection[str]) -> Target:
    """Where this request may go; ``base_url_hosts`` are in the spelling of `plain_host`. Raises
    `Refused`."""
    if len(head.get_all("host")) > 1:
        raise Refused("bad_request", "The request has more than one Host header.")
    if head.method == "CONNECT":
        raise Refused("path_not_allowed", "A CONNECT inside a connection is never allowed.")
    if not head.target.startswith("/"):
        raise Refused("bad_request", "The request target is not a path.")
    if head.listener == "base_url":
        return _judge_base_url(head, catalog, base_url_hosts)
    if head.listener == "proxy" and head.connect_host is None:
        raise _plain_refusal(head, catalog)
    host = head.connect_host if head.listener == "proxy" else normalise_host(head.sni or "")
    provider = catalog.by_host(host) if host else None
    if host is None or provider is None:
        raise Refused("host_not_allowed", "The connection was opened for no configured provider.")
    named = [
        name
        for name in (head.absolute_authority, head.authority, *head.get_all("host"), head.sni)
        if name is not None
    ]
    if head.authority is None and head.absolute_authority is None and not head.get_all("host"):
        raise Refused("bad_request", "The request has no Host header.")
    if head.scheme != "https":
        raise Refused(
            "authority_mismatch", "The request says that it is for an http:// URL, inside TLS."
        )
    if head.sni is None:
        raise Refused("authority_mismatch", "The TLS handshake named no host.")
    for name in named:
        other, port = split_authority(name)
        if other != host:
            raise Refused(
                "authority_mismatch",
                f"The connection is for {host}, the request names {_shown(name)}.",
            )
        if port not in (None, provider.port):
            raise Refused(
                "authority_mismatch",
                f"The request names port {port}, {provider.name} is on {provider.port}.",
            )
    return Target(provider, host, head.target)


def _judge_base_url(head: RequestHead, catalog: Catalog, base_url_hosts: Collection[str]) -> Target:
    names = (
        head.get_all("host") if head.authority is None else [head.authority, *head.get_all("host")]
    )
    if head.absolute_authority is not None:
        names.append(head.absolute_authority)
    if not names:
        raise Refused("bad_request", "The request has no Host header.")
    for name in names:
        if named_host(name) not in base_url_hosts:
            raise Refused(
                "authority_mismatch",
                f"The base URL does not answer as {_shown(name)}: [listen] base_url_hosts lists the names it has.",
            )
    first, slash, rest = head.target[1:].partition("/")
    raw_path = head.target
    provider = catalog.by_base_path(head.target.partition("?")[0])
    if provider is None and first == "v1":
        provider = catalog.by_name(DEFAULT.name)
    elif provider is None:
        provider, raw_path = catalog.by_name(first), slash + rest
    if provider is None:
        raise Refused(
            "path_not_allowed",
            "The path begins with neither /v1/ nor the name of a configured provider.",
        )
    return Target(provider, base_host(provider), raw_path or "/")


def base_host(provider: Provider) -> str:
    """The host for a call whose client named none. Raises `Refused`."""
    host = next((h for h in provider.hosts if not h.startswith("*.")), None)
    if host is None:
        raise Refused(
            "host_not_allowed",
            f"{provider.name} has a host for each resource: name yours under [providers.{provider.name}] hosts.",
        )
    return host


def _plain_refusal(head: RequestHead, catalog: Catalog) -> Refused:
    name = head.absolute_authority or head.get("host") or ""
    host, _ = split_authority(name)
    if host is not None and catalog.by_host(host) is not None:
        return Refused("plain_http", f"The request for {host} came without TLS.")
    return Refused("host_not_allowed", f"The request was for {_shown(name)}.")


def _shown(name: str) -> str:
    """A name from the network, cut and escaped, for a message."""
    text = ascii(name[:80])
    return text + ("..." if len(name) > 80 else "")
