"""One service of a machine: the kernel lets it speak with the gateway's address alone."""

from __future__ import annotations

import ipaddress

from tollhouse.config.load import Config
from tollhouse.policies.places import network_facts
from tollhouse.policies.rendering import CannotRender, Rendered


def systemd(config: Config) -> Rendered:
    proxy = network_facts(config).listeners.get("proxy")
    if proxy is None or not proxy.port:
        raise CannotRender(
            '[listen] proxy is off, and a service is told of it by HTTPS_PROXY: write proxy = "127.0.0.1:8080"'
        )
    host = proxy.host
    if proxy.bound_to is None or host in ("0.0.0.0", "localhost"):  # noqa: S104 - compared with
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise CannotRender(
            f"[listen] proxy is at {host}, and systemd filters by addresses: write the address"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if config.listen.tls else "http"
    text = f"""\
# For a service whose only way out is Tollhouse: /etc/systemd/system/NAME.service.d/tollhouse.conf
# README.md beside this file: what this stops, what it does not, how to test it.
# Made by `tollhouse policy render systemd` from tollhouse.toml: change that, and render it again.
[Service]
# All packets of the service's cgroup, in and out, but for the gateway's address. It knows no ports.
IPAddressDeny=any
IPAddressAllow={host}
# No raw sockets, no netlink; what is left of Unix sockets is below.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
# It takes no connection, by which data would go out as well.
SocketBindDeny=any
# Others would speak for it: the resolver asks the world for a name, systemd starts a unit without this filter.
InaccessiblePaths=-/run/systemd/resolve -/run/dbus -/run/systemd/private -/run/nscd -/run/docker.sock -/run/containerd
User=workload
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictNamespaces=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectControlGroups=yes
Environment=HTTPS_PROXY={scheme}://{shown}:{proxy.port}
Environment=SSL_CERT_FILE=/etc/tollhouse/ca.pem
# OPENAI_API_KEY=gate_..., 0600.
EnvironmentFile=/etc/tollhouse/workload.env
"""
    notes = (
        (
            "the service reaches all that listens on loopback, Redis and the admin port among it: give Redis a password",
        )
        if ipaddress.ip_address(host).is_loopback
        else ()
    )
    return Rendered({"workload.conf": text}, notes)
