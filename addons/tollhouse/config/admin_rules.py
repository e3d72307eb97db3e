"""What the tables of the admin listener may not say together."""

from __future__ import annotations

from tollhouse.config.admin_tables import AdminConfig
from tollhouse.config.models import ListenConfig, UpstreamConfig, UpstreamProxyConfig
from tollhouse.config.store_tables import VaultConfig
from tollhouse.config.text import Broken


def admin_rules(
    admin: AdminConfig, listen: ListenConfig, upstream: UpstreamConfig, vault: VaultConfig
) -> Broken:
    oidc = admin.oidc
    if oidc is None:
        return
    if listen.admin is None:
        yield "admin.oidc", 'has no effect with listen.admin = "off"; remove one of the two'
    if oidc.issuer.startswith("spiffe:"):
        yield (
            "admin.oidc.issuer",
            "is a SPIFFE trust domain, at which nobody logs in; write https://",
        )
    if oidc.client_secret is not None and oidc.client_secret_file is not None:
        yield (
            "admin.oidc.client_secret_file",
            "and client_secret are both there; remove one of the two",
        )
    if oidc.client_secret is not None and vault.embedded:
        yield (
            "admin.oidc.client_secret",
            "is read from Vault, and [vault] is embedded, which keeps keys alone; write client_secret_file",
        )
    if not oidc.admins and not oidc.views:
        yield "admin.oidc", "lets nobody in; write admins or views"
    for index, view in enumerate(oidc.views):
        if (view.tenant is None) is (not view.projects):
            yield (
                f"admin.oidc.views[{index}]",
                'wants tenant (all of them is "*") or projects, and not both',
            )
    if oidc.upstream_proxy == "on" and upstream.proxy is None:
        yield (
            "admin.oidc.upstream_proxy",
            "wants upstream.proxy, and there is none; give it, or remove this",
        )
    proxy = oidc.upstream_proxy
    if isinstance(proxy, UpstreamProxyConfig) and proxy.secret is not None and vault.embedded:
        yield (
            "admin.oidc.upstream_proxy.secret",
            "is read from Vault, and [vault] is embedded, which keeps keys alone; set [vault] address",
        )
