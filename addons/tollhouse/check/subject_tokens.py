"""`tollhouse check`: the subject tokens of credentials that are exchanged. Nothing is exchanged: a token may be good for once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config, catalog
from tollhouse.control.key_desk import wrapped
from tollhouse.credential.beside_keys import SecretsBesideKeys
from tollhouse.credential.federation.subject import SubjectTokens, TokenIssuer, origin_of
from tollhouse.credential.federation.subject_token import subject_of_certificate
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.providers import Federation
from tollhouse.stores import github_host, open_issuer, ways_once

TIMEOUT_S: Final = 15.0
_TODO: Final = {
    "file": "Mount a projected service-account token with that audience there.",
    "spiffe": "Have spiffe-helper write a JWT-SVID with that audience there.",
    "workload_api": "Make the gateway's registration entry in SPIRE, and mount the agent's socket.",
    "vault": "Correct the role, its client_id (the audience), or the policy of our login.",
    "certificate": "Put cert and key there, in PEM, or correct client_certificate.",
    "github": "Give the job `permissions: id-token: write`, and correct the audience.",
}


async def check_federation(config: Config) -> list[Finding]:
    """Each subject token, asked for once, and what it says of itself."""
    entries = [(one.name, one.federation) for one in catalog(config).providers if one.federation]
    if not entries:
        return []
    issuer: TokenIssuer | None = None
    reader = None
    if any(entry.source == "vault" for _, entry in entries) and not wrapped(config):
        reader = issuer = open_issuer(config)
    subjects = SubjectTokens(issuer, TIMEOUT_S)
    try:
        async with ways_once(config) as (proxies, secrets):
            subjects.github_host = github_host(config, proxies)
            return await _asked(config, entries, subjects, issuer, secrets)
    finally:
        if reader is not None:
            await asyncio.to_thread(reader.close)


async def _asked(
    config: Config,
    entries: Sequence[tuple[str, Federation]],
    subjects: SubjectTokens,
    issuer: TokenIssuer | None,
    secrets: SecretsBesideKeys,
) -> list[Finding]:
    findings = []
    for name, entry in entries:
        of_store = entry.source in ("vault", "certificate")
        if of_store and wrapped(config):
            findings.append(
                Finding(
                    "warn",
                    f"The subject token of {name} was not asked for.",
                    "Only the gateway may unwrap the secret_id, once.",
                    "`tollhouse key list` shows it when the gateway runs.",
                )
            )
            continue
        try:
            if entry.source == "certificate":
                cert, _ = await secrets.get(entry.place, "cert", "key")
                found = subject_of_certificate(cert.reveal(), entry.place)
            else:
                found = await subjects.token(entry)
        except CredentialUnavailable as error:
            what = f"{name} gets no credential."
            findings.append(Finding("error", what, error.why, _TODO[entry.source]))
        else:
            what = f"{name} is called as {found.subject} of {found.issuer}, by {origin_of(entry)}."
            findings.append(Finding("ok", what))
    return findings
