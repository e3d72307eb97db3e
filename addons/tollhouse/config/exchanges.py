"""`[providers.NAME] credential`: what it makes of a provider, and its rules."""

from __future__ import annotations

from collections.abc import Mapping

from tollhouse.config.models import FederationConfig, FileSubject, ProviderConfig, VaultSubject
from tollhouse.config.store_tables import VaultConfig
from tollhouse.config.text import Broken, dotted
from tollhouse.providers import ExchangeTerms, Federation, Provider


def federation_of(exchange: ExchangeTerms, given: FederationConfig) -> Federation:
    """What the entry's ``credential`` makes of the provider's exchange."""
    defaults = {name: one.default or "" for name, one in exchange.parameters.items()}
    parameters = {**defaults, **given.parameters}
    subject, to = given.subject, given.connect_to
    place = ""
    if isinstance(subject, FileSubject):
        place = str(subject.file)
    elif isinstance(subject, VaultSubject):
        place = subject.role
    return Federation(
        exchange,
        subject.source,
        place,
        given.audience or exchange.audience.format_map(parameters),
        parameters,
        None if to is None else (to.host, to.port),
        None if given.ca_file is None else str(given.ca_file),
    )


def federation_rules(
    name: str, base: Provider, given: FederationConfig, entry: ProviderConfig
) -> Broken:
    """The provider exchanges tokens, and gets what its exchange needs."""
    here = ("providers", name, "credential")
    exchange = base.exchange
    if exchange is None:
        yield (
            dotted(here),
            f"{name} gives no credential for a token of another issuer; remove it, and keep its key in Vault",
        )
        return
    for parameter, form in exchange.parameters.items():
        key, value = dotted((*here, "parameters", parameter)), given.parameters.get(parameter)
        if value is None and form.default is None:
            yield key, "is missing; the provider gives it when federation is set up there"
        elif value is not None and not form.form.fullmatch(value):
            yield key, "has not the form of one; copy it from the provider's console"
    for parameter in given.parameters.keys() - exchange.parameters.keys():
        known = ", ".join(exchange.parameters)
        yield dotted((*here, "parameters", parameter)), f"is none of {known}; correct the name"
    if not given.audience and not exchange.audience:
        yield (
            dotted((*here, "audience")),
            "is missing: the provider has no customary one; name the one that its console has for this identity provider",
        )
    if given.subject.source == "github" and not (given.audience or exchange.audience):
        yield (
            dotted((*here, "audience")),
            "is missing; GitHub signs for the audience that it is asked for",
        )
    for host in entry.hosts or base.hosts:
        if "*" in host or not exchange.may_go_to(host):
            yield (
                dotted(("providers", name, "hosts")),
                f"{host} is not one of the hosts that this credential may be sent to; remove it, or give it an entry of its own",
            )
    if entry.unsafe_plaintext:
        yield (
            dotted(("providers", name, "unsafe_plaintext")),
            "would send the credential readable; remove it",
        )


def issuer_rules(vault: VaultConfig, providers: Mapping[str, ProviderConfig]) -> Broken:
    """Between [vault] and subjects."""
    for name, entry in providers.items():
        given = entry.credential
        if given is not None and given.subject.source == "vault" and vault.embedded:
            yield (
                dotted(("providers", name, "credential", "subject")),
                "wants a Vault or OpenBao, and [vault] is embedded, which signs nothing; set [vault] address, or read a file",
            )
