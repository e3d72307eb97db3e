"""`tollhouse check`: what [admin] opens, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from tollhouse.check.finding import Finding
from tollhouse.config.admin_tables import OidcConfig
from tollhouse.config.load import Config, issuer_proxy
from tollhouse.control.key_desk import wrapped
from tollhouse.control.people_desk import open_provider
from tollhouse.identities.people import ProviderAway
from tollhouse.stores import ways_once


async def check_people(config: Config) -> list[Finding]:
    """Reads the discovery and the keys of the OpenID provider, as the gateway will."""
    oidc = config.admin.oidc
    if oidc is None:
        return []
    found = [*_people(config, oidc)]
    proxy = issuer_proxy(config, oidc)
    if proxy is not None and proxy.secret is not None and wrapped(config):
        why = "The password of the proxy on that way is in Vault, and only the gateway may unwrap the secret_id, once."
        return [*found, Finding("warn", f"{oidc.issuer} was not asked.", why)]
    async with ways_once(config) as (proxies, secrets):
        provider = open_provider(config, oidc, proxies, secrets)
        try:
            keys = await provider.keys()
        except ProviderAway as away:
            why = f"{away} Nobody can log in there; tokens go on."
            todo = "Correct issuer and ca_file of [admin.oidc], and let the gateway reach it."
            return [*found, Finding("error", f"{oidc.issuer} can't be used.", why, todo)]
        finally:
            await provider.close()
    return [*found, Finding("ok", f"{oidc.issuer} answers, and has {keys} key(s).")]


def _people(config: Config, oidc: OidcConfig) -> Iterator[Finding]:
    if not config.admin.page:
        yield Finding(
            "warn",
            "admin.oidc lets nobody log in.",
            "There is no page to see: admin.page is false. Its JWTs are bearer tokens all the same.",
        )
    host = (urlsplit(oidc.redirect_url).hostname or "").lower()
    address = config.listen.admin
    own = {name.lower() for name in config.listen.base_url_hosts} | {
        address.host if address else ""
    }
    if host not in own:
        yield Finding(
            "error",
            f"admin.oidc.redirect_url leads to {host}, which the admin listener does not answer as.",
            "A Host that is none of listen.base_url_hosts is refused.",
            f'Add "{host}" to listen.base_url_hosts.',
        )
    if oidc.client_id in oidc.audience:
        yield Finding(
            "warn",
            "admin.oidc.audience has the client_id.",
            "ID tokens of logins are bearer tokens then, and those are shown to more programs than access tokens are.",
            "Have the provider issue access tokens for an audience of their own.",
        )


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
        "A token of `tollhouse token create --admin` changes projects, limits and tokens there.",
    )
    if address.is_loopback or admin.tls is not None:
        return
    if admin.unsafe_plaintext:
        yield Finding(
            "warn",
            "admin.unsafe_plaintext lets tokens of admins cross the network readable.",
            "Anybody who reads one there can make tokens and lift limits.",
            "Give the listener a certificate ([admin] tls).",
        )
    else:
        yield Finding(
            "warn",
            "The admin API refuses each request from another machine.",
            f"listen.admin {address} has no certificate, and a token would cross the network readable.",
            "Give the listener a certificate ([admin] tls), or come by loopback (kubectl port-forward, ssh -L).",
        )
