"""`[providers.NAME] credential`: what it makes of a provider, and its rules."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tollhouse.config.models import (
    CertificateSubject,
    FederationConfig,
    FileSubject,
    ProviderConfig,
    SpiffeSubject,
    VaultRoleConfig,
    VaultSubject,
)
from tollhouse.config.store_tables import VaultConfig
from tollhouse.config.text import Broken, dotted
from tollhouse.providers import ExchangeTerms, Federation, Provider, VaultRole
from tollhouse.providers.vault_role import FORM


def federation_of(
    exchange: ExchangeTerms, given: FederationConfig, client_certificate: str | None
) -> Federation:
    """What the entry's ``credential`` makes of the provider's exchange."""
    exchange = _terms(exchange, given)
    defaults = {name: one.default or "" for name, one in exchange.parameters.items()}
    parameters = {**defaults, **given.parameters}
    subject, to = given.subject, given.connect_to
    place = ""
    if isinstance(subject, FileSubject):
        place = str(subject.file)
    elif isinstance(subject, VaultSubject):
        place = subject.role
    elif isinstance(subject, SpiffeSubject):
        place = str(subject.socket or subject.file)
    elif isinstance(subject, CertificateSubject):
        place = client_certificate or ""
    from_api = isinstance(subject, SpiffeSubject) and subject.socket is not None
    return Federation(
        exchange,
        "workload_api" if from_api else subject.source,
        place,
        given.audience or exchange.audience.format_map(parameters),
        parameters,
        None if to is None else (to.host, to.port),
        None if given.ca_file is None else str(given.ca_file),
        (subject.id or "") if isinstance(subject, SpiffeSubject) else "",
    )


def _terms(exchange: ExchangeTerms, given: FederationConfig) -> ExchangeTerms:
    by_certificate = isinstance(given.subject, CertificateSubject)
    return (exchange.by_certificate or exchange) if by_certificate else exchange


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
    by_certificate = isinstance(given.subject, CertificateSubject)
    if by_certificate and exchange.by_certificate is None:
        yield (
            dotted((*here, "subject")),
            f"{name} takes no certificate in place of a token; remove it",
        )
    if by_certificate and entry.client_certificate is None:
        yield (
            dotted(("providers", name, "client_certificate")),
            "is missing: it is shown in place of a token; name its path in Vault",
        )
    if by_certificate and given.audience:
        yield dotted((*here, "audience")), "has no effect: a certificate has none; remove it"
    exchange = _terms(exchange, given)
    for parameter, form in exchange.parameters.items():
        key, value = dotted((*here, "parameters", parameter)), given.parameters.get(parameter)
        if value is None and form.default is None:
            yield key, "is missing; the provider gives it when federation is set up there"
        elif value is not None and not form.form.fullmatch(value):
            yield key, "has not the form of one; copy it from the provider's console"
    for parameter in given.parameters.keys() - exchange.parameters.keys():
        known = ", ".join(exchange.parameters)
        yield dotted((*here, "parameters", parameter)), f"is none of {known}; correct the name"
    if not given.audience and not exchange.audience and not by_certificate:
        yield (
            dotted((*here, "audience")),
            "is missing: the provider has no customary one; name the one that its console has for this identity provider",
        )
    if given.subject.source == "github" and not (given.audience or exchange.audience):
        yield (
            dotted((*here, "audience")),
            "is missing; GitHub signs for the audience that it is asked for",
        )
    if isinstance(given.subject, SpiffeSubject):
        yield from _spiffe(dotted((*here, "subject")), given, exchange)
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


def vault_role_of(given: VaultRoleConfig) -> VaultRole:
    return VaultRole(given.path, given.ttl_s or 0, given.role_arn or "", given.session_name or "")


def vault_role_rules(
    name: str, base: Provider, given: VaultRoleConfig, entry: ProviderConfig
) -> Broken:
    here = ("providers", name, "credential")
    if "aws" not in base.accepts:
        yield dotted(here), f"leases AWS keys, and {name} takes none; remove it"
    found = FORM.fullmatch(given.path)
    if found is None:
        yield (
            dotted((*here, "path")),
            'is no role of an AWS engine; write "aws/sts/ROLE", or "aws/creds/ROLE"',
        )
    if given.session_name and not re.fullmatch(r"[\w+=,.@-]{2,64}", given.session_name, re.ASCII):
        yield (
            dotted((*here, "session_name")),
            "has not the form of one: 2 to 64 letters, digits and +=,.@_-",
        )
    if given.role_arn and not given.role_arn.startswith("arn:"):
        yield dotted((*here, "role_arn")), "is no ARN; copy it from AWS"
    if entry.unsafe_plaintext:
        yield (
            dotted(("providers", name, "unsafe_plaintext")),
            "would send what is signed readable; remove it",
        )


def _spiffe(place: str, given: FederationConfig, exchange: ExchangeTerms) -> Broken:
    subject = given.subject
    assert isinstance(subject, SpiffeSubject)
    if (subject.file is None) is (subject.socket is None):
        yield (
            place,
            "wants socket (of the Workload API) or file (that spiffe-helper writes), and not both",
        )
    if subject.socket is None and subject.id is not None:
        yield f"{place}.id", "is asked of the Workload API, and a file has one identity; remove it"
    if subject.id is not None and not subject.id.startswith("spiffe://"):
        yield f"{place}.id", 'is no SPIFFE ID; write "spiffe://TRUST-DOMAIN/PATH"'
    if subject.socket is not None and not (given.audience or exchange.audience):
        yield (
            f"{place.removesuffix('.subject')}.audience",
            "is missing; the Workload API signs for the audience that it is asked for",
        )


def issuer_rules(vault: VaultConfig, providers: Mapping[str, ProviderConfig]) -> Broken:
    """Between [vault] and subjects."""
    for name, entry in providers.items():
        given = entry.credential
        if isinstance(given, VaultRoleConfig) and vault.embedded:
            yield (
                dotted(("providers", name, "credential")),
                "wants a Vault with an AWS engine, and [vault] is embedded, which has none; set [vault] address",
            )
        if (
            isinstance(given, FederationConfig)
            and given.subject.source == "vault"
            and vault.embedded
        ):
            yield (
                dotted(("providers", name, "credential", "subject")),
                "wants a Vault or OpenBao, and [vault] is embedded, which signs nothing; set [vault] address, or read a file",
            )
