"""`tollhouse check`: what [admin] opens, and to whom."""

from __future__ import annotations

from collections.abc import Iterator

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config


def check_admin(config: Config) -> Iterator[Finding]:
    admin, address = config.admin, config.listen.admin
    if not admin.api:
        return
    if address is None:
        yield Finding(
            "error",
            "admin.api has no effect.",
            'There is no admin listener: listen.admin is "off".',
            "Give it an address, or remove admin.api.",
        )
        return
    yield Finding(
        "ok",
        f"The admin API is at {address}/api/v1.",
        "Who has a token of `tollhouse token create --admin` changes projects, limits and tokens there.",
    )
    if address.is_loopback or admin.tls is not None:
        return
    if admin.unsafe_plaintext:
        yield Finding(
            "warn",
            "admin.unsafe_plaintext lets tokens of admins cross the network readable.",
            "Who reads one there can make tokens and lift limits.",
            "Give the listener a certificate ([admin] tls).",
        )
    else:
        yield Finding(
            "warn",
            "The admin API refuses each request from another machine.",
            f"listen.admin {address} has no certificate, and a token would cross the network readable.",
            "Give the listener a certificate ([admin] tls), or come by loopback (kubectl port-forward, ssh -L).",
        )
