"""`tollhouse check`: the keys of the issuers of identities, and what their entries let in."""

from __future__ import annotations

from collections.abc import Iterator

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config, issuer_proxy
from tollhouse.config.models import JwtIssuerConfig
from tollhouse.control.key_desk import wrapped
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.identities.key_sets import KeysAway
from tollhouse.stores import open_issuer_keys, ways_once


async def check_issuers(config: Config) -> list[Finding]:
    """Reads the keys of each issuer, as the gateway will."""
    found = [*_projects(config), *_networks(config)]
    if not config.identity.jwt:
        return found
    async with ways_once(config) as (proxies, _):
        for index, entry in enumerate(config.identity.jwt):
            found += _entry(f"identity.jwt[{index}]", entry)
            proxy = issuer_proxy(config, entry)
            if proxy is not None and proxy.secret is not None and wrapped(config):
                found.append(_not_asked(entry))
            else:
                found.append(await _keys(config, entry, proxies))
    return found


def _not_asked(entry: JwtIssuerConfig) -> Finding:
    return Finding(
        "warn",
        f"The keys of {entry.issuer} were not asked for.",
        "The password of the proxy on that way is in Vault, and only the gateway may unwrap the secret_id, once.",
        "The gateway's log says whether it can read them.",
    )


async def _keys(config: Config, entry: JwtIssuerConfig, proxies: ProxyTunnels) -> Finding:
    keys = open_issuer_keys(config, entry, proxies)
    try:
        read = await keys.current()
    except KeysAway as away:
        return Finding(
            "error",
            f"The keys of {entry.issuer} can't be read.",
            f"{away.why}. Without them each of its tokens is refused 503.",
            "Correct jwks_url, ca_file and token_file, or jwks_file, and let the gateway reach it.",
        )
    finally:
        await keys.close()
    if not read.ids:
        return Finding(
            "error",
            f"{entry.issuer} has no key that could be used.",
            f"None of its JWKS is a public key for {', '.join(entry.algorithms)} that is meant for signatures.",
            "Correct algorithms, or the place of its keys. Until then each of its tokens is refused.",
        )
    named = ", ".join(ascii(kid)[1:-1] or "one without an id" for kid in read.ids[:8])
    count = f"{len(read.ids)} key{'' if len(read.ids) == 1 else 's'}"
    return Finding("ok", f"{entry.issuer} has {count}.", named)


def _entry(place: str, entry: JwtIssuerConfig) -> Iterator[Finding]:
    if entry.issuer in entry.audience:
        yield Finding(
            "warn",
            f"{place} takes the issuer itself as the audience.",
            "Its tokens for anything else of the same platform are let in as well, such as a pod's ordinary token of "
            "Kubernetes, which every program in the pod can read.",
            'Have tokens made for the gateway alone, such as audience = "tollhouse".',
        )
    by_email = "email" in (entry.project.strip("{/}"), *(name.strip("/") for name in entry.claims))
    if by_email and not {"email_verified", "/email_verified"} & entry.claims.keys():
        yield Finding(
            "warn",
            f"{place} goes by email, and does not ask whether the address was verified.",
            "Some issuers let everybody write an address of his choice there (OpenID Connect Core 1.0, section 5.7).",
            'Add claims = { email_verified = "true" }, or go by sub or groups.',
        )
    shared = ("https://token.actions.githubusercontent.com", "https://gitlab.com")
    if entry.issuer.rstrip("/") in shared and not entry.projects and not entry.claims:
        yield Finding(
            "error",
            f"{place} lets in everybody who has an account at {entry.issuer}.",
            "That issuer signs for all of its users, and neither projects nor claims says which are yours.",
            'Say it: projects = { "your-org/your-repository" = "proj_123" }.',
        )


def _projects(config: Config) -> Iterator[Finding]:
    """Projects that the file has under another tenant. One that it does not have may be in Redis."""
    identity = config.identity
    named = [
        (f"identity.jwt[{n}]", one.tenant, project)
        for n, one in enumerate(identity.jwt)
        for project in one.projects.values()
        if "{" not in one.tenant
    ]
    if identity.mtls is not None:
        named += [
            ("identity.mtls", identity.mtls.tenant, project)
            for project in identity.mtls.projects.values()
        ]
    named += [
        (f"identity.network[{n}]", one.tenant, one.project)
        for n, one in enumerate(identity.network)
    ]
    for place, tenant, project in named:
        known = config.projects.get(project)
        if known is not None and known.tenant != tenant:
            yield Finding(
                "error",
                f"{place} leads to the project {project}.",
                f"It is of the tenant {known.tenant}, and the identity of {tenant}: each call is refused.",
                "Correct tenant, or the project.",
            )


def _networks(config: Config) -> Iterator[Finding]:
    if config.identity.network and config.listen.transparent is None:
        yield Finding(
            "warn",
            "identity.network has no effect.",
            'It is for the transparent listener alone, and listen.transparent is "off".',
            "Remove it, or open that listener.",
        )
    elif config.identity.network:
        yield Finding(
            "warn",
            "identity.network takes an address for an identity.",
            "Anybody who can send from such an address, or is behind the same NAT, is that project.",
            "Use JWTs or certificates where workloads can show them.",
        )
