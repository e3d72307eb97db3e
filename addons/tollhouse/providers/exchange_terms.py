"""How a provider's token endpoint exchanges a subject token for a credential: data, one value a
provider. What is configured of it is a `Federation`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal["subject", "audience", "rule", "network"]
"""Where a credential failed: the subject token itself; whom it is meant for; the provider's own
rule (mapping, role, trust policy); or the way to the endpoint, and the endpoint itself."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the configuration. ``default`` None: it has to be given. "" : it may be left
    out, and is not sent then."""

    form: re.Pattern[str]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a code of the endpoint's error means. Only codes that stand here are repeated."""

    code: str
    fault: Fault
    why: str
    away: bool = False
    """The endpoint can't answer now, though the status says that it refuses."""


@dataclass(frozen=True, slots=True)
class ExchangeStep:
    """One POST. In ``url`` and ``fields`` stand ``{parameter}``, ``{subject_token}`` and, behind a
    first step, ``{access_token}``. A field that is empty is left out.

    ``gives`` is the form of the answer: ``oauth`` RFC 6749 5.1, ``camel`` the same with
    ``accessToken`` and ``expireTime``, ``keys`` an XML with keys to sign with.
    """

    url: str
    fields: tuple[tuple[str, str | tuple[str, ...]], ...]
    sent_as: Literal["json", "form"]
    gives: Literal["oauth", "camel", "keys"] = "oauth"
    headers: tuple[tuple[str, str], ...] = ()
    when: str = ""
    """The step is made only if this parameter has a value."""


@dataclass(frozen=True, slots=True)
class ExchangeTerms:
    """``hosts`` are globs of the only hosts that the credential is sent to. ``audience`` is what the
    subject token's ``aud`` has to be, if the configuration names none; it may have parameters in
    it."""

    steps: tuple[ExchangeStep, ...]
    hosts: tuple[str, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict, hash=False)
    audience: str = ""
    refusals: tuple[Refusal, ...] = ()
    single_use: bool = False
    """A subject token with a ``jti`` is taken once."""
    by_certificate: ExchangeTerms | None = None
    """How it does so for a client certificate in place of a subject token. The calls show it, too."""
    call_headers: tuple[tuple[str, str], ...] = ()
    """Sent with each call. A list in the client's own header of this name is kept before it."""

    def may_go_to(self, host: str) -> bool:
        """``*`` stands for letters, digits and hyphens of one label."""
        return any(
            re.fullmatch(re.escape(glob).replace(r"\*", "[a-z0-9-]+"), host) for glob in self.hosts
        )


@dataclass(frozen=True, slots=True)
class Federation:
    """``source`` is where the subject token comes from, and ``place`` the file, socket or role there, or the path of
    a certificate in the store. ``spiffe_id`` is the one
    that is asked for of several.
    ``connect_to`` is dialled instead of DNS's answer, and ``ca_file`` replaces the public roots."""

    exchange: ExchangeTerms
    source: Literal["file", "spiffe", "workload_api", "vault", "github", "certificate"]
    place: str
    audience: str
    parameters: Mapping[str, str] = field(hash=False)
    connect_to: tuple[str, int] | None = None
    ca_file: str | None = None
    spiffe_id: str = ""


ID = re.compile(r"[A-Za-z0-9._:-]{1,200}", re.ASCII)
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - RFC 8693 2.1
JWT = "urn:ietf:params:oauth:token-type:jwt"
